// Vectors of sixteen floats, in the compiler's own vector extension: one source for AVX-512, AVX2 and NEON.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

constexpr int LANES = 16;

typedef float v16f __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));
typedef uint32_t v16u __attribute__((vector_size(64)));
typedef int8_t v16i8 __attribute__((vector_size(16)));
typedef uint8_t v16u8 __attribute__((vector_size(16)));
typedef uint16_t v16u16 __attribute__((vector_size(32)));

template <class To, class From>
static inline To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "a reinterpretation keeps the size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

static inline v16f splat(float value) { return value - v16f{}; }

static inline v16f load(const float* from) {
    v16f v;
    memcpy(&v, from, sizeof v);
    return v;
}

static inline void store(float* to, v16f v) { memcpy(to, &v, sizeof v); }

// bf16 is the upper half of an fp32.
static inline v16f load(const uint16_t* from) {
#if defined(__AVX512F__)
    __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return bits<v16f>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
#else
    v16u16 half;
    memcpy(&half, from, sizeof half);
    return bits<v16f>(__builtin_convertvector(half, v16u) << 16);
#endif
}

static inline float widen(uint16_t half) { return bits<float>(static_cast<uint32_t>(half) << 16); }
static inline float widen(float value) { return value; }

// Round to nearest, ties to even; a NaN stays one.
static inline uint16_t to_bf16(float value) {
    uint32_t word = bits<uint32_t>(value);
    if (value != value) return static_cast<uint16_t>((word >> 16) | 0x40);
    return static_cast<uint16_t>((word + 0x7FFF + ((word >> 16) & 1)) >> 16);
}

static inline void narrow(float value, uint16_t* to) { *to = to_bf16(value); }
static inline void narrow(float value, float* to) { *to = value; }

// The compiler widens bytes to floats one by one; these are the instructions that do it at once.
static inline v16f load_int8(const int8_t* from) {
#if defined(__AVX512F__)
    __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return bits<v16f>(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)));
#else
    v16i8 codes;
    memcpy(&codes, from, sizeof codes);
    return __builtin_convertvector(__builtin_convertvector(codes, v16i), v16f);
#endif
}

static inline v16i load_bytes(const uint8_t* from) {
#if defined(__AVX512F__)
    return bits<v16i>(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#else
    v16u8 codes;
    memcpy(&codes, from, sizeof codes);
    return __builtin_convertvector(codes, v16i);
#endif
}

// Sixteen fp16 numbers, which standard C++ cannot convert as a vector everywhere.
static inline v16f load_half(const uint16_t* from) {
#if defined(__AVX512F__)
    return bits<v16f>(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#else
    v16f out;
    for (int lane = 0; lane < LANES; lane++) {
        uint32_t half = from[lane], sign = (half & 0x8000u) << 16, rest = half & 0x7FFFu;
        float value = rest < 0x400u ? static_cast<float>(rest) * 5.9604644775390625e-8f
                    : bits<float>(rest >= 0x7C00u ? (rest << 13) | 0x7F800000u : (rest << 13) + 0x38000000u);
        out[lane] = bits<float>(bits<uint32_t>(value) | sign);
    }
    return out;
#endif
}

// The lanes added up in halves: 16 to 8 to 4 to 2 to 1.
static inline float sum(v16f v) {
    v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    return v[0];
}

// Lane i of the result is the sum of the lanes of vector i: pairs, then fours, eights and sixteens are added.
static inline v16f sums(const v16f* v) {
    v16f two[8], four[4], eight[2];
    for (int i = 0; i < 8; i++) {
        v16f a = v[2 * i], b = v[2 * i + 1];
        two[i] = __builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
                 __builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
    }
    for (int i = 0; i < 4; i++) {
        v16f a = two[2 * i], b = two[2 * i + 1];
        four[i] = __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
                  __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
    for (int i = 0; i < 2; i++) {
        v16f a = four[2 * i], b = four[2 * i + 1];
        eight[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +
                   __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    }
    v16f a = eight[0], b = eight[1];
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
}

static inline v16f larger(v16f a, v16f b) { return a > b ? a : b; }

static inline float largest(v16f v) {
    v = larger(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    v = larger(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
    v = larger(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
    v = larger(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
    return v[0];
}

// `v` in the first `count` lanes, `other` in the rest.
static inline v16f first_lanes(v16f v, int64_t count, float other) {
    const v16i lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return lane < static_cast<int32_t>(count) ? v : splat(other);
}

// e^x: x = n ln 2 + r with |r| <= ln 2 / 2, then a Taylor polynomial whose remainder is below half a bit.
static inline v16f exp(v16f x) {
    x = larger(x, splat(-87.0f));
    x = x > splat(88.0f) ? splat(88.0f) : x;
    const v16f shifter = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
    v16f shifted = x * 1.44269504088896341f + shifter;
    v16f n = shifted - shifter;
    v16f r = x - n * 0.693145751953125f - n * 1.42860682030941723e-6f;
    v16f p = splat(1.98412698e-4f);
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    v16i exponent = (bits<v16i>(shifted) - bits<v16i>(shifter)) << 23;
    return bits<v16f>(bits<v16i>(p) + exponent);
}

static inline v16f silu(v16f x) { return x / (1.0f + exp(-x)); }
static inline float lone_silu(float x) { return x / (1.0f + std::exp(-x)); }
