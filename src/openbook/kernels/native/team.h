// A team of threads that meets at barriers, and how work is divided among its members.
#pragma once
#include <atomic>
#include <cstdint>
#include <omp.h>
#if defined(__x86_64__)
#include <immintrin.h>
static inline void relax() { _mm_pause(); }
#else
static inline void relax() {}
#endif
#include <sched.h>

// Waits for `done`: spins for some microseconds, since the others are usually that near, then lets go of the core
// again and again. On a machine that has other work to do, a thread that only spins keeps off its core the one it
// waits for, and every barrier costs a slice of the scheduler's time.
template <class Done>
static inline void await(Done done) {
    for (int spin = 0; !done(); spin++) spin < 200 ? relax() : static_cast<void>(sched_yield());
}

class Barrier {
  public:
    void wait(int size) {
        if (size == 1) return;
        int round = round_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size - 1) {
            arrived_.store(0, std::memory_order_relaxed);
            round_.fetch_add(1, std::memory_order_release);
            return;
        }
        await([&] { return round_.load(std::memory_order_acquire) != round; });
    }

  private:
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<int> round_{0};
};

// Numbers too small to be normal count as zero while this lives: they are slow, and no result depends on them.
class FlushTiny {
#if defined(__x86_64__)
  public:
    FlushTiny() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
    ~FlushTiny() { _mm_setcsr(before_); }

  private:
    const unsigned before_;
#endif
};

struct Worker {
    int rank, size;
    Barrier* barrier;
    char* scratch;

    struct Range {
        int64_t begin, end;
    };
    void meet() const { barrier->wait(size); }
    // This worker's share of `count` items, in one piece.
    Range share(int64_t count) const { return {count * rank / size, count * (rank + 1) / size}; }
};

// Runs `work(worker)` on a team of OpenMP, the runtime that torch computes with: a team of our own would share its
// cores with one that still spins.
template <class Work>
static void with_team(int64_t num_threads, char* scratch, int64_t scratch_stride, const Work& work) {
    Barrier barrier;
#pragma omp parallel num_threads(static_cast<int>(num_threads)) if (num_threads > 1)
    {
        const int rank = omp_get_thread_num();  // the team may be smaller than asked for
        work(Worker{rank, omp_get_num_threads(), &barrier, scratch + rank * scratch_stride});
    }
}
