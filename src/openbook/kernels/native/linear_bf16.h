// bf16: the row is rounded to bf16 too, products of pairs are added in fp32. Included by linear.h.
//
// One packing serves three instructions: AMX tiles for many rows, the pairwise dot product of AVX512-BF16, and
// plain multiply-adds on widened halves elsewhere.
#pragma once

// x as bf16, each row padded with zeros to `inputs`, the rows padded to `padded_rows`.
static void round_rows(const Rows& x, int64_t num_rows, int64_t num_inputs, int64_t inputs, int64_t padded_rows,
                       uint16_t* to) {
    for (int64_t row = 0; row < padded_rows; row++) {
        uint16_t* out = to + row * inputs;
        int64_t k = 0;
        if (row < num_rows) {
            const float* in = x[row];
#if defined(__AVX512BF16__)
            for (; k + LANES <= num_inputs; k += LANES) {
                __m256bh half = _mm512_cvtneps_pbh(bits<__m512>(load(in + k)));
                memcpy(out + k, &half, sizeof half);
            }
#endif
            for (; k < num_inputs; k++) out[k] = to_bf16(in[k]);
        }
        memset(out + k, 0, (inputs - k) * sizeof *out);
    }
}

// acc + a pair of inputs times a pair of weights, for sixteen outputs.
static inline v16f add_pairs(v16f acc, uint32_t inputs, v16u pairs) {
#if defined(__AVX512BF16__)
    return bits<v16f>(_mm512_dpbf16_ps(bits<__m512>(acc), bits<__m512bh>(_mm512_set1_epi32(static_cast<int>(inputs))),
                                       bits<__m512bh>(pairs)));
#else
    acc += bits<float>(inputs << 16) * bits<v16f>(pairs << 16);
    acc += bits<float>(inputs & 0xFFFF0000u) * bits<v16f>(pairs & 0xFFFF0000u);
    return acc;
#endif
}

template <int M, int NP>
static void bf16_rows(const uint16_t* const* panels, int64_t inputs, const uint16_t* x, int64_t row, int64_t column,
                      int64_t count, const Sink& sink) {
    v16f acc[NP][2][M] = {};
    for (int64_t pair = 0; pair < inputs / 2; pair++) {
        v16u weights[NP][2];
        for (int n = 0; n < NP; n++) memcpy(weights[n], panels[n] + pair * PANEL * 2, sizeof weights[n]);
        for (int n = 0; NP > 1 && n < NP; n++) {
            const uint16_t* next = panels[n] + NP * inputs * PANEL + pair * PANEL * 2;
            __builtin_prefetch(next, 0, 2), __builtin_prefetch(next + PANEL, 0, 2);
        }
        for (int m = 0; m < M; m++) {
            uint32_t a;
            memcpy(&a, x + (row + m) * inputs + 2 * pair, sizeof a);
            for (int n = 0; n < NP; n++)
                for (int half = 0; half < 2; half++) acc[n][half][m] = add_pairs(acc[n][half][m], a, weights[n][half]);
        }
    }
    for (int n = 0; n < NP; n++)
        for (int m = 0; m < M; m++)
            sink.put(row + m, column + n * PANEL, NP > 1 ? PANEL : count, acc[n][0][m], acc[n][1][m]);
}

#if defined(__AMX_BF16__)
struct TileConfig {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// 32 rows times one panel; rows behind `num_rows` are padding.
static void amx_tile(const uint16_t* panel, int64_t inputs, const uint16_t* x, int64_t row, int64_t num_rows,
                     int64_t column, int64_t count, const Sink& sink, float* block) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const int64_t stride = inputs * 2;
    for (int64_t k = 0; k < inputs; k += 32) {
        _tile_loadd(4, x + row * inputs + k, stride);
        _tile_loadd(5, x + (row + 16) * inputs + k, stride);
        _tile_loadd(6, panel + k * PANEL, 2 * PANEL * 2);
        _tile_loadd(7, panel + k * PANEL + 2 * LANES, 2 * PANEL * 2);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    constexpr int64_t row_bytes = PANEL * 4;
    _tile_stored(0, block, row_bytes);
    _tile_stored(1, block + LANES, row_bytes);
    _tile_stored(2, block + 16 * PANEL, row_bytes);
    _tile_stored(3, block + 16 * PANEL + LANES, row_bytes);
    for (int64_t m = 0; m < 32 && row + m < num_rows; m++)
        sink.put(row + m, column, count, load(block + m * PANEL), load(block + m * PANEL + LANES));
}
#endif

constexpr int64_t AMX_FROM = 8;

static void bf16_product(const Matrix& w, const Rows& x, int64_t num_rows, const Sink& sink, Worker::Range panels,
                         char* scratch, bool exact) {
    const int64_t inputs = w.padded_inputs(), padded_rows = (num_rows + 31) / 32 * 32;
    uint16_t* rounded = reinterpret_cast<uint16_t*>(scratch + 4096);
    auto panel = [&](int64_t p) { return static_cast<const uint16_t*>(w.data) + p * inputs * PANEL; };
    auto count = [&](int64_t p) { return w.num_outputs - p * PANEL < PANEL ? w.num_outputs - p * PANEL : PANEL; };
#if defined(__AMX_BF16__)
    if (!exact && num_rows >= AMX_FROM) {
        round_rows(x, num_rows, w.num_inputs, inputs, padded_rows, rounded);
        static const TileConfig config;
        // Compilers do not know that tiles are loaded from memory: without a fence they may drop what was stored there.
        asm volatile("" ::: "memory");
        _tile_loadconfig(&config);
        for (int64_t p = panels.begin; p < panels.end; p++)
            for (int64_t row = 0; row < num_rows; row += 32)
                amx_tile(panel(p), inputs, rounded, row, num_rows, p * PANEL, count(p), sink,
                         reinterpret_cast<float*>(scratch));
        _tile_release();
        return;
    }
#endif
    round_rows(x, num_rows, w.num_inputs, inputs, num_rows, rounded);
    int64_t p = panels.begin;
    for (; num_rows == 1 && p + 4 <= panels.end && (p + 4) * PANEL <= w.num_outputs; p += 4) {
        const uint16_t* four[4] = {panel(p), panel(p + 1), panel(p + 2), panel(p + 3)};
        bf16_rows<1, 4>(four, inputs, rounded, 0, p * PANEL, PANEL, sink);
    }
    for (; p < panels.end; p++) {
        const uint16_t* one[1] = {panel(p)};
        int64_t row = 0;
        for (; row + 12 <= num_rows; row += 12) bf16_rows<12, 1>(one, inputs, rounded, row, p * PANEL, count(p), sink);
        for (; row + 4 <= num_rows; row += 4) bf16_rows<4, 1>(one, inputs, rounded, row, p * PANEL, count(p), sink);
        for (; row < num_rows; row++) bf16_rows<1, 1>(one, inputs, rounded, row, p * PANEL, count(p), sink);
    }
}
