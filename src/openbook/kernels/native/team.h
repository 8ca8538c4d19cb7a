// A team of threads that meets at barriers, and how work is divided among its members.
#pragma once
#include <atomic>
#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
static inline void relax() { _mm_pause(); }
#else
static inline void relax() {}
#endif
#include <sched.h>

// Spins a while, since the others are usually a microsecond away, then lets go of the core: on a machine that
// has other work to do, a thread that waits by spinning keeps the one it waits for from running.
class Barrier {
  public:
    explicit Barrier(int size) : size_(size) {}

    void wait() {
        if (size_ == 1) return;
        int round = round_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
            arrived_.store(0, std::memory_order_relaxed);
            round_.fetch_add(1, std::memory_order_release);
            return;
        }
        for (int spin = 0; round_.load(std::memory_order_acquire) == round; spin++)
            spin < 4000 ? relax() : static_cast<void>(sched_yield());
    }

  private:
    const int size_;
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
    // This worker's share of `count` items, in one piece.
    Range share(int64_t count) const { return {count * rank / size, count * (rank + 1) / size}; }
};
