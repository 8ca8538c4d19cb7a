// Products of rows with packed matrices: y = x W^T for W in fp32, bf16, int8 or int4.
//
// A matrix [N, K] is packed in panels of 32 outputs, inside a panel k by k (bf16 by pairs of k, int4 likewise):
// one pass over a panel reads memory in order, and sixteen outputs are one vector. Every output is one chain
// of multiply-adds over k in ascending order, whatever the number of rows: a row's result does not depend on
// what else is in the batch. The exception is AMX, which adds in another order; `exact` keeps it out.
#pragma once
#include "team.h"
#include "vec.h"

constexpr int PANEL = 2 * LANES;
constexpr int GROUP = 32;  // inputs that share a scale in int4

enum Format : int64_t { FP32 = 0, BF16 = 1, INT8 = 2, INT4 = 3 };

struct Matrix {
    int64_t format, num_outputs, num_inputs;
    const void* data;      // fp32 [P, K, 32]; bf16 [P, K / 2, 32, 2], K padded to 32; int8 [P, K, 32]; int4 [P, K / 2, 32]
    const void* scale;     // int8: fp32 [P, 32]; int4: fp16 [P, K / 32, 32]
    const void* minimum;   // int4: fp16 [P, K / 32, 32]

    int64_t num_panels() const { return (num_outputs + PANEL - 1) / PANEL; }
    int64_t padded_inputs() const { return (num_inputs + GROUP - 1) / GROUP * GROUP; }
};

struct Rows {
    float* data;
    int64_t stride;
    float* operator[](int64_t row) const { return data + row * stride; }
};

// What becomes of 32 finished outputs of a row; the last panel may hold fewer.
struct Sink {
    Rows out;
    const float* bias;
    bool add;

    void put(int64_t row, int64_t column, int64_t count, v16f low, v16f high) const {
        float* to = out[row] + column;
        if (count == PANEL) {
            if (bias) low += load(bias + column), high += load(bias + column + LANES);
            if (add) low += load(to), high += load(to + LANES);
            store(to, low), store(to + LANES, high);
            return;
        }
        float values[PANEL];
        store(values, low), store(values + LANES, high);
        for (int64_t i = 0; i < count; i++)
            to[i] = values[i] + (bias ? bias[column + i] : 0.0f) + (add ? to[i] : 0.0f);
    }
};

// How the weights of one panel become floats, vector by vector. `half` is 0 or 1.
struct Fp32Panel {
    const float* data;
    const char* address(int64_t k) const { return reinterpret_cast<const char*>(data + k * PANEL); }
    v16f at(int64_t k, int half) const { return load(data + k * PANEL + half * LANES); }
    v16f finish(v16f sum, int) const { return sum; }
};

struct Int8Panel {
    const int8_t* data;
    const float* scale;
    const char* address(int64_t k) const { return reinterpret_cast<const char*>(data + k * PANEL); }
    v16f at(int64_t k, int half) const { return load_int8(data + k * PANEL + half * LANES); }
    v16f finish(v16f sum, int half) const { return sum * load(scale + half * LANES); }
};

template <int M, class P>
static inline void dot_rows(const P& panel, int64_t num_inputs, const float* const* x, v16f (*acc)[2]) {
    for (int m = 0; m < M; m++) acc[m][0] = acc[m][1] = v16f{};
    for (int64_t k = 0; k < num_inputs; k++) {
        v16f low = panel.at(k, 0), high = panel.at(k, 1);
        for (int m = 0; m < M; m++) {
            v16f a = splat(x[m][k]);
            acc[m][0] += a * low, acc[m][1] += a * high;
        }
    }
}

template <int M, class P>
static void panel_rows(const P& panel, int64_t num_inputs, const Rows& x, int64_t row, int64_t column,
                       int64_t count, const Sink& sink) {
    const float* rows[M];
    for (int m = 0; m < M; m++) rows[m] = x[row + m];
    v16f acc[M][2];
    dot_rows<M>(panel, num_inputs, rows, acc);
    for (int m = 0; m < M; m++)
        sink.put(row + m, column, count, panel.finish(acc[m][0], 0), panel.finish(acc[m][1], 1));
}

template <class P>
static void panel_all(const P& panel, int64_t num_inputs, const Rows& x, int64_t num_rows, int64_t column,
                      int64_t count, const Sink& sink) {
    int64_t row = 0;
    for (; row + 12 <= num_rows; row += 12) panel_rows<12>(panel, num_inputs, x, row, column, count, sink);
    for (; row + 4 <= num_rows; row += 4) panel_rows<4>(panel, num_inputs, x, row, column, count, sink);
    for (; row + 2 <= num_rows; row += 2) panel_rows<2>(panel, num_inputs, x, row, column, count, sink);
    if (row < num_rows) panel_rows<1>(panel, num_inputs, x, row, column, count, sink);
}

// One row and four panels at once: eight chains keep the multiply-adders busy where a single panel has two.
template <class P>
static void four_panels(const P* panels, int64_t num_inputs, const float* x, int64_t column, const Sink& sink) {
    v16f acc[4][2] = {};
    const int64_t ahead = panels[3].address(0) - panels[2].address(0);
    for (int64_t k = 0; k < num_inputs; k++) {
        v16f a = splat(x[k]);
        for (int p = 0; p < 4; p++) __builtin_prefetch(panels[p].address(k) + 4 * ahead, 0, 2);
        for (int p = 0; p < 4; p++) acc[p][0] += a * panels[p].at(k, 0), acc[p][1] += a * panels[p].at(k, 1);
    }
    for (int p = 0; p < 4; p++)
        sink.put(0, column + p * PANEL, PANEL, panels[p].finish(acc[p][0], 0), panels[p].finish(acc[p][1], 1));
}

template <class MakePanel>
static void float_product(const Matrix& w, const Rows& x, int64_t num_rows, const Sink& sink,
                          Worker::Range panels, MakePanel make) {
    int64_t p = panels.begin;
    for (; num_rows == 1 && p + 4 <= panels.end && (p + 4) * PANEL <= w.num_outputs; p += 4) {
        const decltype(make(p)) four[4] = {make(p), make(p + 1), make(p + 2), make(p + 3)};
        four_panels(four, w.num_inputs, x[0], p * PANEL, sink);
    }
    for (; p < panels.end; p++) {
        int64_t column = p * PANEL, left = w.num_outputs - column;
        panel_all(make(p), w.num_inputs, x, num_rows, column, left < PANEL ? left : PANEL, sink);
    }
}

#include "linear_bf16.h"
#include "linear_int4.h"

// Bytes of a worker's scratch that a product needs.
static inline int64_t product_scratch_bytes(const Matrix& w, int64_t num_rows) {
    int64_t rows = (num_rows + 31) / 32 * 32, inputs = w.padded_inputs();
    if (w.format == BF16) return rows * inputs * 2 + 4096 + 64;
    return w.format == INT4 ? rows * inputs / GROUP * 4 + 64 : 64;
}

// The part of y = x W^T that falls to `panels`.
static void product(const Matrix& w, const Rows& x, int64_t num_rows, const Sink& sink, Worker::Range panels,
                    char* scratch, bool exact) {
    if (num_rows == 0 || panels.begin == panels.end) return;
    float* floats = reinterpret_cast<float*>(scratch);
    switch (w.format) {
        case FP32:
            float_product(w, x, num_rows, sink, panels, [&](int64_t p) {
                return Fp32Panel{static_cast<const float*>(w.data) + p * w.num_inputs * PANEL};
            });
            break;
        case BF16: bf16_product(w, x, num_rows, sink, panels, scratch, exact); break;
        case INT8:
            float_product(w, x, num_rows, sink, panels, [&](int64_t p) {
                return Int8Panel{static_cast<const int8_t*>(w.data) + p * w.num_inputs * PANEL,
                                 static_cast<const float*>(w.scale) + p * PANEL};
            });
            break;
        case INT4: int4_product(w, x, num_rows, sink, panels, floats); break;
    }
}
