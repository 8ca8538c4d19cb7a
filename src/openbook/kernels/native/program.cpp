// A model as a list of operations, run by a team of threads over the rows of one step.
//
// Python builds the list once (openbook/engine/program.py holds the same structs) and calls `openbook_run` for each
// step: no operator dispatch, no allocation, one barrier between two operations.
#include "attention.h"
#include "experts.h"
#include "linear.h"
#include "sample.h"
#include "team.h"
#include "vec.h"

#if defined(__AMX_BF16__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

constexpr int64_t OP_BYTES = 384;

enum Kind : int64_t { NORM = 1, LINEAR, ROPE, STORE, ATTEND, SILU, ROUTE, EXPERTS };

struct Norm {
    int64_t kind;
    Rows in, out;
    int64_t size, count;  // `count` vectors of `size` side by side in a row
    const float* weight;
    double eps;
};

struct Linear {
    int64_t kind;
    Rows in, out;
    Matrix weight;
    const float* bias;
    int64_t add;
    int64_t count, in_step, out_step;  // `count` matrices side by side, each on its own part of a row
    int64_t data_bytes, scale_bytes;
};

struct Rope {
    int64_t kind;
    Rows in, out;
    int64_t count, in_step, out_step, pairs, is_halves;
    const float* table;  // [positions, table_pairs, 2]: cosine and sine
    int64_t table_pairs, table_first;
};

struct Store {
    int64_t kind;
    Rows in;
    int64_t width;
    void* cache;  // [blocks, width, 16]
    int64_t is_bf16;
};

struct Attend {
    int64_t kind;
    Rows q, out;
    Attention attention;
};

struct Silu {
    int64_t kind;
    Rows in, out;
    int64_t size;
};

struct Routing {
    int64_t kind;
    Rows logits;
    Route route;
    int32_t* experts;
    float* shares;
    int16_t* record;  // [blocks, 16, layers * K]: what was chosen, beside the cache
    int64_t record_width, record_first;
};

struct Mixture {
    int64_t kind;
    Rows in, out;
    Experts experts;
};

static void run_norm(const Norm& op, const Batch& batch, const Worker& worker) {
    Worker::Range mine = worker.share(batch.num_rows);
    for (int64_t row = mine.begin; row < mine.end; row++)
        for (int64_t c = 0; c < op.count; c++) {
            const float* in = op.in[row] + c * op.size;
            float* out = op.out[row] + c * op.size;
            v16f squares = {};
            int64_t i = 0;
            for (; i + LANES <= op.size; i += LANES) squares += load(in + i) * load(in + i);
            float total = sum(squares);
            for (; i < op.size; i++) total += in[i] * in[i];
            float scale = 1.0f / std::sqrt(total / static_cast<float>(op.size) + static_cast<float>(op.eps));
            for (i = 0; i < op.size; i++) out[i] = in[i] * scale * op.weight[i];
        }
}

// Each worker reads all of a small matrix for its own rows: nothing it writes is then read by another core.
static void run_linear_by_rows(const Linear& op, const Worker::Range& rows, const Worker& worker, bool exact) {
    for (int64_t c = 0; c < op.count; c++) {
        Sink sink = {{op.out[rows.begin] + c * op.out_step, op.out.stride}, op.bias, op.add != 0};
        Rows in = {op.in[rows.begin] + c * op.in_step, op.in.stride};
        Matrix w = expert_matrix(op.weight, c, op.data_bytes, op.scale_bytes);
        product(w, in, rows.end - rows.begin, sink, {0, w.num_panels()}, worker.scratch, exact);
    }
}

static void run_linear(const Linear& op, const Batch& batch, const Worker& worker, bool exact) {
    constexpr int64_t small_matrix = 1 << 17, many_rows = 24;
    const int64_t panels = op.weight.num_panels();
    if (batch.num_rows >= many_rows * worker.size && panels * PANEL * op.weight.num_inputs <= small_matrix)
        return run_linear_by_rows(op, worker.share(batch.num_rows), worker, exact);
    Worker::Range mine = worker.share(op.count * panels);
    for (int64_t c = mine.begin / panels; c * panels < mine.end; c++) {
        int64_t from = mine.begin > c * panels ? mine.begin - c * panels : 0, to = mine.end - c * panels;
        Sink sink = {{op.out.data + c * op.out_step, op.out.stride}, op.bias, op.add != 0};
        Rows in = {op.in.data + c * op.in_step, op.in.stride};
        Matrix w = expert_matrix(op.weight, c, op.data_bytes, op.scale_bytes);
        product(w, in, batch.num_rows, sink, {from, to < panels ? to : panels}, worker.scratch, exact);
    }
}

static void run_rope(const Rope& op, const Batch& batch, const Worker& worker) {
    Worker::Range mine = worker.share(batch.num_rows);
    for (int64_t row = mine.begin; row < mine.end; row++) {
        const float* turn = op.table + (batch.positions[row] * op.table_pairs + op.table_first) * 2;
        for (int64_t c = 0; c < op.count; c++) {
            const float* in = op.in[row] + c * op.in_step;
            float* out = op.out[row] + c * op.out_step;
            const int64_t first = op.is_halves ? 1 : 2, second = op.is_halves ? op.pairs : 1;
            for (int64_t p = 0; p < op.pairs; p++) {
                float x = in[p * first], y = in[p * first + second], cosine = turn[2 * p], sine = turn[2 * p + 1];
                out[p * first] = x * cosine - y * sine;
                out[p * first + second] = x * sine + y * cosine;
            }
        }
    }
}

template <class T>
static void run_store(const Store& op, const Batch& batch, const Worker& worker) {
    Worker::Range mine = worker.share(batch.num_rows);
    for (int64_t row = mine.begin; row < mine.end; row++) {
        int64_t position = batch.positions[row], block = batch.table(row)[position / LANES];
        T* to = static_cast<T*>(op.cache) + block * op.width * LANES + position % LANES;
        const float* in = op.in[row];
        for (int64_t i = 0; i < op.width; i++) narrow(in[i], to + i * LANES);
    }
}

static void run_silu(const Silu& op, const Batch& batch, const Worker& worker) {
    Worker::Range mine = worker.share(batch.num_rows);
    for (int64_t row = mine.begin; row < mine.end; row++) {
        const float *gate = op.in[row], *up = gate + op.size;
        float* out = op.out[row];
        int64_t i = 0;
        for (; i + LANES <= op.size; i += LANES) store(out + i, silu(load(gate + i)) * load(up + i));
        for (; i < op.size; i++) out[i] = lone_silu(gate[i]) * up[i];
    }
}

static void run_route(const Routing& op, const Batch& batch, const Worker& worker) {
    const int64_t k = op.route.num_choices;
    Worker::Range mine = worker.share(batch.num_rows);
    for (int64_t row = mine.begin; row < mine.end; row++) {
        int32_t* experts = op.experts + row * k;
        choose_experts(op.route, op.logits[row], experts, op.shares + row * k);
        int64_t position = batch.positions[row];
        int64_t slot = int64_t{batch.table(row)[position / LANES]} * LANES + position % LANES;
        int16_t* to = op.record + slot * op.record_width + op.record_first;
        for (int64_t i = 0; i < k; i++) to[i] = static_cast<int16_t>(experts[i]);
    }
}

static void run_op(const char* at, const Batch& batch, const Worker& worker, bool exact) {
    int64_t kind;
    memcpy(&kind, at, sizeof kind);
    auto as = [&](auto* type) -> decltype(*type) { return *reinterpret_cast<decltype(type)>(at); };
    switch (kind) {
        case NORM: return run_norm(as(static_cast<const Norm*>(nullptr)), batch, worker);
        case LINEAR: return run_linear(as(static_cast<const Linear*>(nullptr)), batch, worker, exact);
        case ROPE: return run_rope(as(static_cast<const Rope*>(nullptr)), batch, worker);
        case STORE: {
            auto& op = as(static_cast<const Store*>(nullptr));
            return op.is_bf16 ? run_store<uint16_t>(op, batch, worker) : run_store<float>(op, batch, worker);
        }
        case ATTEND: {
            auto& op = as(static_cast<const Attend*>(nullptr));
            return attend(op.attention, batch, op.q.data, op.q.stride, op.out.data, op.out.stride, worker);
        }
        case SILU: return run_silu(as(static_cast<const Silu*>(nullptr)), batch, worker);
        case ROUTE: return run_route(as(static_cast<const Routing*>(nullptr)), batch, worker);
        case EXPERTS: {
            auto& op = as(static_cast<const Mixture*>(nullptr));
            return run_experts(op.experts, op.in, op.out, batch.num_rows, worker, exact);
        }
    }
}

// Bytes of scratch that one worker needs for this operation, on `num_rows` rows of up to `longest` positions.
static int64_t scratch_bytes(const char* at, int64_t num_rows, int64_t longest) {
    int64_t kind;
    memcpy(&kind, at, sizeof kind);
    if (kind == LINEAR) return product_scratch_bytes(reinterpret_cast<const Linear*>(at)->weight, num_rows);
    if (kind == ATTEND) return attention_scratch_bytes(reinterpret_cast<const Attend*>(at)->attention, longest);
    if (kind != EXPERTS) return 0;
    const Experts& x = reinterpret_cast<const Mixture*>(at)->experts;
    int64_t up = product_scratch_bytes(x.gate_up, num_rows), down = product_scratch_bytes(x.down, num_rows);
    return up > down ? up : down;
}

static_assert(sizeof(Mixture) <= OP_BYTES && sizeof(Linear) <= OP_BYTES && sizeof(Attend) <= OP_BYTES);

extern "C" {

int64_t openbook_op_bytes() { return OP_BYTES; }

// Which instructions this build uses; asks the kernel for the AMX registers.
const char* openbook_features() {
#if defined(__AMX_BF16__)
    constexpr int request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) ? "" : "avx512 bf16 amx";
#elif defined(__AVX512BF16__)
    return "avx512 bf16";
#elif defined(__AVX512F__)
    return "avx512";
#else
    return "portable";
#endif
}

int64_t openbook_scratch_bytes(const char* ops, int64_t num_ops, int64_t num_rows, int64_t longest) {
    int64_t most = 64;
    for (int64_t i = 0; i < num_ops; i++) {
        int64_t bytes = scratch_bytes(ops + i * OP_BYTES, num_rows, longest);
        most = bytes > most ? bytes : most;
    }
    return (most + 127) / 64 * 64;
}

// `scratch` holds `scratch_stride` bytes for each thread, aligned to 64.
void openbook_run(const char* ops, int64_t num_ops, const Batch* batch, int64_t num_threads, char* scratch,
                  int64_t scratch_stride, int64_t exact) {
    if (batch->num_rows == 0) return;
    with_team(num_threads, scratch, scratch_stride, [&](const Worker& worker) {
        FlushTiny flush;
        for (int64_t i = 0; i < num_ops; i++) {
            run_op(ops + i * OP_BYTES, *batch, worker, exact != 0);
            worker.meet();
        }
    });
}

void openbook_sample(const float* logits, int64_t vocab, int64_t num_rows, const float* temperatures,
                     const double* uniforms, int32_t* tokens, float* logprobs, int64_t num_threads) {
    with_team(num_threads, nullptr, 0, [&](const Worker& worker) {
        Worker::Range mine = worker.share(num_rows);
        for (int64_t row = mine.begin; row < mine.end; row++)
            sample_row(logits + row * vocab, vocab, temperatures[row], uniforms[row], tokens + row, logprobs + row);
    });
}
}
