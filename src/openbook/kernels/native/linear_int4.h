// int4: affine groups of 32 inputs, w = scale * code + minimum. Included by linear.h.
#pragma once

struct Int4Panel {
    const uint8_t* data;
    const uint16_t* scale;
    const uint16_t* minimum;

    // Inputs 2 * pair (low nibbles) and 2 * pair + 1 (high nibbles) of sixteen outputs.
    void pair(int64_t pair, int half, v16f scale, v16f minimum, v16f* even, v16f* odd) const {
        v16i codes = load_bytes(data + pair * PANEL + half * LANES);
        *even = to_float(codes & 15) * scale + minimum;
        *odd = to_float(codes >> 4) * scale + minimum;
    }
    v16f scales(int64_t group, int half) const { return load_half(scale + group * PANEL + half * LANES); }
    v16f minima(int64_t group, int half) const { return load_half(minimum + group * PANEL + half * LANES); }
};

static Int4Panel int4_panel(const Matrix& w, int64_t p) {
    int64_t bytes = w.num_inputs / 2 * PANEL, groups = w.num_inputs / GROUP * PANEL;
    return {static_cast<const uint8_t*>(w.data) + p * bytes, static_cast<const uint16_t*>(w.scale) + p * groups,
            static_cast<const uint16_t*>(w.minimum) + p * groups};
}

static void unpack_int4(const Int4Panel& panel, int64_t num_inputs, float* to) {
    for (int64_t group = 0; group < num_inputs / GROUP; group++)
        for (int half = 0; half < 2; half++) {
            v16f scale = panel.scales(group, half), minimum = panel.minima(group, half), even, odd;
            for (int64_t pair = group * GROUP / 2; pair < (group + 1) * GROUP / 2; pair++) {
                panel.pair(pair, half, scale, minimum, &even, &odd);
                float* at = to + 2 * pair * PANEL + half * LANES;
                store(at, even), store(at + PANEL, odd);
            }
        }
}

// M rows and NP panels straight from the nibbles; all chains take a step for each pair of inputs.
template <int M, int NP>
static void int4_rows(const Matrix& w, const Rows& x, int64_t row, int64_t p, const Sink& sink) {
    Int4Panel panels[NP];
    for (int n = 0; n < NP; n++) panels[n] = int4_panel(w, p + n);
    v16f acc[NP][2][M] = {};
    for (int64_t group = 0; group < w.num_inputs / GROUP; group++) {
        v16f scale[NP][2], minimum[NP][2], even, odd;
        for (int n = 0; n < NP; n++)
            for (int half = 0; half < 2; half++)
                scale[n][half] = panels[n].scales(group, half), minimum[n][half] = panels[n].minima(group, half);
        for (int64_t pair = group * GROUP / 2; pair < (group + 1) * GROUP / 2; pair++)
            for (int n = 0; n < NP; n++)
                for (int half = 0; half < 2; half++) {
                    panels[n].pair(pair, half, scale[n][half], minimum[n][half], &even, &odd);
                    for (int m = 0; m < M; m++) {
                        acc[n][half][m] += splat(x[row + m][2 * pair]) * even;
                        acc[n][half][m] += splat(x[row + m][2 * pair + 1]) * odd;
                    }
                }
    }
    for (int n = 0; n < NP; n++) {
        int64_t column = (p + n) * PANEL, left = w.num_outputs - column;
        for (int m = 0; m < M; m++)
            sink.put(row + m, column, left < PANEL ? left : PANEL, acc[n][0][m], acc[n][1][m]);
    }
}

static void int4_product(const Matrix& w, const Rows& x, int64_t num_rows, const Sink& sink, Worker::Range panels,
                         float* scratch) {
    int64_t p = panels.begin;
    for (; num_rows == 1 && p + 4 <= panels.end; p += 4) int4_rows<1, 4>(w, x, 0, p, sink);
    for (; p < panels.end; p++) {
        if (num_rows > 4) {
            unpack_int4(int4_panel(w, p), w.num_inputs, scratch);
            int64_t column = p * PANEL, left = w.num_outputs - column;
            panel_all(Fp32Panel{scratch}, w.num_inputs, x, num_rows, column, left < PANEL ? left : PANEL, sink);
            continue;
        }
        int64_t row = 0;
        for (; row + 4 <= num_rows; row += 4) int4_rows<4, 1>(w, x, row, p, sink);
        for (; row + 2 <= num_rows; row += 2) int4_rows<2, 1>(w, x, row, p, sink);
        if (row < num_rows) int4_rows<1, 1>(w, x, row, p, sink);
    }
}
