// One token a row from logits, by inverting the distribution at a uniform number.
#pragma once
#include "vec.h"

// Sums are taken in pieces of 256, each in sixteen lanes: always in the same order for a vocabulary of one size.
// The token is -1 if a logit is no number.
static void sample_row(const float* logits, int64_t size, float temperature, double uniform, int32_t* token,
                       float* logprob) {
    v16f most_of_lanes = splat(-INFINITY), nothing = {};
    int64_t tail = 0;
    for (; tail + LANES <= size; tail += LANES) {
        v16f x = load(logits + tail);
        most_of_lanes = larger(x, most_of_lanes);
        nothing += x - x;  // 0, unless there is a NaN or an infinity
    }
    float highest = largest(most_of_lanes), rest_of_nothing = 0;
    for (int64_t i = tail; i < size; i++) {
        highest = logits[i] > highest ? logits[i] : highest;
        rest_of_nothing += logits[i] - logits[i];
    }
    if (!(sum(nothing) + rest_of_nothing == 0)) {
        *token = -1, *logprob = 0;
        return;
    }
    int64_t best = 0;
    while (logits[best] != highest) best++;
    if (temperature == 0) {
        *token = static_cast<int32_t>(best), *logprob = 0;
        return;
    }
    const float inverse = 1 / (temperature > 1e-30f ? temperature : 1e-30f);  // still finite
    constexpr int64_t CHUNK = 256;
    auto chunk_sum = [&](int64_t start) {
        v16f total = {};
        int64_t end = start + CHUNK < size ? start + CHUNK : size, i = start;
        for (; i + LANES <= end; i += LANES) total += exp((load(logits + i) - highest) * inverse);
        double rest = 0;
        for (; i < end; i++) rest += std::exp((logits[i] - highest) * inverse);
        return static_cast<double>(sum(total)) + rest;
    };
    double total = 0;
    for (int64_t start = 0; start < size; start += CHUNK) total += chunk_sum(start);
    double target = uniform * total, before = 0;
    int64_t start = 0;
    for (; start + CHUNK < size; start += CHUNK) {
        double here = chunk_sum(start);
        if (before + here > target) break;
        before += here;
    }
    int64_t chosen = -1, end = start + CHUNK < size ? start + CHUNK : size;
    for (int64_t i = start; i < end; i++) {
        float weight = std::exp((logits[i] - highest) * inverse);
        if (weight > 0) chosen = i;  // rounding may carry the target past the chunk: then its last possible token
        before += weight;
        if (before > target && weight > 0) break;
    }
    if (chosen < 0) chosen = best;
    *token = static_cast<int32_t>(chosen);
    *logprob = static_cast<float>((logits[chosen] - highest) * inverse - std::log(total));
}
