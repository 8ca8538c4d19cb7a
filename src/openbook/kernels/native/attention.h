// Attention of single queries over a paged cache, for many rows at once: the decode and the prefill of the engine.
//
// A cache tensor of a layer is [blocks, width, 16]: inside a block each number of a position lies beside the same
// number of its fifteen neighbours, so that sixteen keys are scored by plain multiply-adds, and values are averaged
// in sixteen lanes that are added up once at the end. GQA keeps two tensors of width J * Q and J * V; absorbed MLA
// one of width L + R, whose first L numbers are the values.
#pragma once
#include "team.h"
#include "vec.h"

constexpr int MAX_HEADS = 8;  // heads that read a key together
constexpr int AT_ONCE = 16;   // blocks whose values are averaged while they are close at hand

struct Batch {
    int64_t num_rows;
    const int32_t* positions;  // [rows]: where each row's token stands; it sees itself and all before
    const int32_t* sequences;  // [rows]: which block table is its own
    const int32_t* tables;     // [sequences, table_width]: block of each sixteen positions
    int64_t table_width;

    const int32_t* table(int64_t row) const { return tables + sequences[row] * table_width; }
};

struct Attention {
    int64_t num_heads, num_kv_heads, key_size, value_size;
    int64_t key_width, value_width;  // numbers a position keeps in each tensor
    const void *keys, *values;
    int64_t is_bf16;
    double scale;
};

template <class T, int G, int NB>
static inline void score_blocks(const T* const* blocks, const float* q, int64_t key_size, float scale, float* scores,
                                int64_t stride) {
    v16f acc[G][NB] = {};
    for (int64_t d = 0; d < key_size; d++) {
        v16f key[NB];
        for (int b = 0; b < NB; b++) key[b] = load(blocks[b] + d * LANES);
        for (int g = 0; g < G; g++) {
            v16f a = splat(q[g * key_size + d]);
            for (int b = 0; b < NB; b++) acc[g][b] += a * key[b];
        }
    }
    for (int g = 0; g < G; g++)
        for (int b = 0; b < NB; b++) store(scores + g * stride + b * LANES, acc[g][b] * scale);
}

// Some blocks of values, the last of which holds `tail` positions of this sequence. What another one left behind
// them is not read: it may be a NaN, and a weight of zero does not silence that.
template <class T>
struct Values {
    const T* blocks[AT_ONCE];
    int64_t count, tail;

    v16f at(int64_t b, int64_t v) const {
        v16f value = load(blocks[b] + v * LANES);
        return b + 1 == count && tail < LANES ? first_lanes(value, tail, 0.0f) : value;
    }
};

// VT numbers of the values, averaged on top of what `acc` [V, G, 16] holds from the blocks before.
template <class T, int G, int VT>
static inline void average_tile(const Values<T>& values, const float* weights, int64_t stride, int64_t v, bool first,
                                float* acc) {
    v16f total[G][VT];
    for (int g = 0; g < G; g++)
        for (int i = 0; i < VT; i++) total[g][i] = first ? v16f{} : load(acc + ((v + i) * G + g) * LANES);
    for (int64_t b = 0; b < values.count; b++) {
        v16f value[VT];
        for (int i = 0; i < VT; i++) value[i] = values.at(b, v + i);
        for (int g = 0; g < G; g++) {
            v16f weight = load(weights + g * stride + b * LANES);
            for (int i = 0; i < VT; i++) total[g][i] += weight * value[i];
        }
    }
    for (int g = 0; g < G; g++)
        for (int i = 0; i < VT; i++) store(acc + ((v + i) * G + g) * LANES, total[g][i]);
}

template <class T, int G>
static inline void average_blocks(const Values<T>& values, const float* weights, int64_t stride, int64_t value_size,
                                  bool first, float* acc) {
    constexpr int VT = G <= 6 ? 4 : 2;
    int64_t v = 0;
    for (; v + VT <= value_size; v += VT)
        average_tile<T, G, VT>(values, weights, stride, v, first, acc);
    for (; v < value_size; v++) average_tile<T, G, 1>(values, weights, stride, v, first, acc);
}

// Scores become weights, not yet divided by the returned sum.
static inline float softmax(float* scores, int64_t num_keys, int64_t num_blocks) {
    float* tail = scores + (num_blocks - 1) * LANES;
    const int64_t tail_keys = num_keys - (num_blocks - 1) * LANES;
    store(tail, first_lanes(load(tail), tail_keys, -INFINITY));
    v16f most = load(scores), total = {};
    for (int64_t b = 1; b < num_blocks; b++) most = larger(most, load(scores + b * LANES));
    const v16f shift = splat(largest(most));
    for (int64_t b = 0; b < num_blocks; b++) {
        v16f e = exp(load(scores + b * LANES) - shift);
        if (b + 1 == num_blocks) e = first_lanes(e, tail_keys, 0.0f);
        total += e;
        store(scores + b * LANES, e);
    }
    return sum(total);
}

// G heads of one row that share a key-value head. `scratch` holds [G, S] scores and [V, G, 16] sums.
template <class T, int G>
static void attend_heads(const Attention& a, const Batch& batch, int64_t row, int64_t kv_head, const float* q,
                         float* out, float* scratch) {
    constexpr int NB = G <= 4 ? 4 : 2;
    const int32_t* table = batch.table(row);
    const int64_t num_keys = batch.positions[row] + 1, num_blocks = (num_keys + LANES - 1) / LANES;
    const int64_t stride = num_blocks * LANES;
    const T* keys = static_cast<const T*>(a.keys) + kv_head * a.key_size * LANES;
    const T* values = static_cast<const T*>(a.values) + kv_head * a.value_size * LANES;
    float *scores = scratch, *acc = scratch + G * stride;
    auto key_block = [&](int64_t b) { return keys + table[b] * a.key_width * LANES; };
    auto value_block = [&](int64_t b) { return values + table[b] * a.value_width * LANES; };
    const float scale = static_cast<float>(a.scale);
    int64_t b = 0;
    for (; b + NB <= num_blocks; b += NB) {
        const T* blocks[NB];
        for (int n = 0; n < NB; n++) blocks[n] = key_block(b + n);
        score_blocks<T, G, NB>(blocks, q, a.key_size, scale, scores + b * LANES, stride);
    }
    for (; b < num_blocks; b++) {
        const T* blocks[1] = {key_block(b)};
        score_blocks<T, G, 1>(blocks, q, a.key_size, scale, scores + b * LANES, stride);
    }
    float totals[G];
    for (int g = 0; g < G; g++) totals[g] = softmax(scores + g * stride, num_keys, num_blocks);
    for (b = 0; b < num_blocks; b += AT_ONCE) {
        Values<T> some;
        some.count = num_blocks - b < AT_ONCE ? num_blocks - b : AT_ONCE;
        some.tail = num_keys - (b + some.count - 1) * LANES;
        for (int64_t n = 0; n < some.count; n++) some.blocks[n] = value_block(b + n);
        average_blocks<T, G>(some, scores + b * LANES, stride, a.value_size, b == 0, acc);
    }
    for (int g = 0; g < G; g++) {
        int64_t v = 0;
        for (; v + LANES <= a.value_size; v += LANES) {
            v16f lanes[LANES];
            for (int i = 0; i < LANES; i++) lanes[i] = load(acc + ((v + i) * G + g) * LANES);
            store(out + g * a.value_size + v, sums(lanes) / totals[g]);
        }
        for (; v < a.value_size; v++)
            out[g * a.value_size + v] = sum(load(acc + (v * G + g) * LANES)) / totals[g];
    }
}

static inline int64_t attention_scratch_bytes(const Attention& a, int64_t longest) {
    int64_t blocks = (longest + LANES - 1) / LANES;
    return MAX_HEADS * (blocks + a.value_size) * LANES * 4 + 64;
}

template <class T>
static void attend_group(int group, const Attention& a, const Batch& batch, int64_t row, int64_t kv_head,
                         const float* q, float* out, float* scratch) {
    switch (group) {
        case 1: return attend_heads<T, 1>(a, batch, row, kv_head, q, out, scratch);
        case 2: return attend_heads<T, 2>(a, batch, row, kv_head, q, out, scratch);
        case 3: return attend_heads<T, 3>(a, batch, row, kv_head, q, out, scratch);
        case 4: return attend_heads<T, 4>(a, batch, row, kv_head, q, out, scratch);
        case 5: return attend_heads<T, 5>(a, batch, row, kv_head, q, out, scratch);
        case 6: return attend_heads<T, 6>(a, batch, row, kv_head, q, out, scratch);
        case 7: return attend_heads<T, 7>(a, batch, row, kv_head, q, out, scratch);
        default: return attend_heads<T, 8>(a, batch, row, kv_head, q, out, scratch);
    }
}

// q [rows, H * Q] -> out [rows, H * V]. Heads that share keys are taken together, in pieces small enough for all.
static void attend(const Attention& a, const Batch& batch, const float* q, int64_t q_stride, float* out,
                   int64_t out_stride, const Worker& worker) {
    const int64_t heads_per_kv = a.num_heads / a.num_kv_heads;
    int64_t group = heads_per_kv < MAX_HEADS ? heads_per_kv : MAX_HEADS;
    while (group > 1 && batch.num_rows * (a.num_heads / group) < 2 * worker.size) group = (group + 1) / 2;
    const int64_t groups = (heads_per_kv + group - 1) / group, items = a.num_kv_heads * groups;
    Worker::Range mine = worker.share(batch.num_rows * items);
    for (int64_t item = mine.begin; item < mine.end; item++) {
        int64_t row = item / items, kv_head = item % items / groups, first = item % groups * group;
        int64_t count = heads_per_kv - first < group ? heads_per_kv - first : group;
        int64_t head = kv_head * heads_per_kv + first;
        const float* from = q + row * q_stride + head * a.key_size;
        float* to = out + row * out_stride + head * a.value_size;
        float* scratch = reinterpret_cast<float*>(worker.scratch);
        if (a.is_bf16) attend_group<uint16_t>(count, a, batch, row, kv_head, from, to, scratch);
        else attend_group<float>(count, a, batch, row, kv_head, from, to, scratch);
    }
}
