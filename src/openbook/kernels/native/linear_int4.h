// int4: affine groups of 32 inputs, w = scale * code + minimum. Included by linear.h.
//
// A group adds scale * sum(code * x) + minimum * sum(x) to an output: the codes alone meet the inputs one by one, and
// the sums of the inputs are taken once for all outputs.
#pragma once

// Sixteen numbers from the low four bits of sixteen integers.
static inline v16f codes_to_floats(v16i codes) {
#if defined(__AVX512F__)
    const v16f table = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return bits<v16f>(_mm512_permutexvar_ps(bits<__m512i>(codes), bits<__m512>(table)));
#else
    return __builtin_convertvector(codes & 15, v16f);
#endif
}

struct Int4Panel {
    const uint8_t* data;
    const uint16_t* scale;
    const uint16_t* minimum;
};

static Int4Panel int4_panel(const Matrix& w, int64_t p) {
    int64_t bytes = w.num_inputs / 2 * PANEL, groups = w.num_inputs / GROUP * PANEL;
    return {static_cast<const uint8_t*>(w.data) + p * bytes, static_cast<const uint16_t*>(w.scale) + p * groups,
            static_cast<const uint16_t*>(w.minimum) + p * groups};
}

// M rows and NP panels; all chains of a group take a step for each pair of inputs. `sums` is [rows, groups].
template <int M, int NP>
static void int4_rows(const Matrix& w, const Rows& x, const float* sums, int64_t row, int64_t p, const Sink& sink) {
    Int4Panel panels[NP];
    for (int n = 0; n < NP; n++) panels[n] = int4_panel(w, p + n);
    const int64_t num_groups = w.num_inputs / GROUP;
    v16f acc[NP][2][M] = {};
    for (int64_t group = 0; group < num_groups; group++) {
        v16f part[NP][2][M] = {};
        for (int64_t pair = group * GROUP / 2; pair < (group + 1) * GROUP / 2; pair++)
            for (int n = 0; n < NP; n++) {
                if (NP > 1) __builtin_prefetch(panels[n].data + (NP * w.num_inputs / 2 + pair) * PANEL, 0, 2);
                for (int half = 0; half < 2; half++) {
                    v16i codes = load_bytes(panels[n].data + pair * PANEL + half * LANES);
                    v16f even = codes_to_floats(codes), odd = codes_to_floats(codes >> 4);
                    for (int m = 0; m < M; m++) {
                        part[n][half][m] += splat(x[row + m][2 * pair]) * even;
                        part[n][half][m] += splat(x[row + m][2 * pair + 1]) * odd;
                    }
                }
            }
        for (int n = 0; n < NP; n++)
            for (int half = 0; half < 2; half++) {
                v16f scale = load_half(panels[n].scale + group * PANEL + half * LANES);
                v16f minimum = load_half(panels[n].minimum + group * PANEL + half * LANES);
                for (int m = 0; m < M; m++) {
                    acc[n][half][m] += scale * part[n][half][m];
                    acc[n][half][m] += minimum * splat(sums[(row + m) * num_groups + group]);
                }
            }
    }
    for (int n = 0; n < NP; n++) {
        int64_t column = (p + n) * PANEL, left = w.num_outputs - column;
        for (int m = 0; m < M; m++)
            sink.put(row + m, column, left < PANEL ? left : PANEL, acc[n][0][m], acc[n][1][m]);
    }
}

static void sum_groups(const Rows& x, int64_t num_rows, int64_t num_inputs, float* to) {
    for (int64_t row = 0; row < num_rows; row++)
        for (int64_t k = 0; k < num_inputs; k += GROUP) *to++ = sum(load(x[row] + k) + load(x[row] + k + LANES));
}

static void int4_product(const Matrix& w, const Rows& x, int64_t num_rows, const Sink& sink, Worker::Range panels,
                         float* sums) {
    sum_groups(x, num_rows, w.num_inputs, sums);
    int64_t p = panels.begin;
    for (; num_rows == 1 && p + 4 <= panels.end; p += 4) int4_rows<1, 4>(w, x, sums, 0, p, sink);
    for (; p < panels.end; p++) {
        int64_t row = 0;
        for (; row + 6 <= num_rows; row += 6) int4_rows<6, 1>(w, x, sums, row, p, sink);
        for (; row + 2 <= num_rows; row += 2) int4_rows<2, 1>(w, x, sums, row, p, sink);
        if (row < num_rows) int4_rows<1, 1>(w, x, sums, row, p, sink);
    }
}
