// Routed experts: who goes where, and the work of those who are asked (DeepSeek-V3 2.1.2, equations 12 to 16).
#pragma once
#include "linear.h"

constexpr int MAX_EXPERTS = 512;

struct Route {
    int64_t num_experts, num_choices, num_groups, num_kept_groups;
    int64_t is_sigmoid, is_biased, normalize;
    const float* bias;  // [E], for `is_biased`
    double factor;
};

// The best of `values`, which is then taken out; ties go to the lower index.
static inline int take_best(float* values, int count) {
    int best = 0;
    for (int i = 1; i < count; i++) best = values[i] > values[best] ? i : best;
    values[best] = -INFINITY;
    return best;
}

static void score_experts(const Route& r, const float* logits, float* scores) {
    const int count = static_cast<int>(r.num_experts);
    float most = -INFINITY, total = 0;
    for (int e = 0; e < count; e++) most = logits[e] > most ? logits[e] : most;
    for (int e = 0; e < count; e++)
        scores[e] = r.is_sigmoid ? 1.0f / (1.0f + std::exp(-logits[e])) : std::exp(logits[e] - most);
    if (r.is_sigmoid) return;
    for (int e = 0; e < count; e++) total += scores[e];
    for (int e = 0; e < count; e++) scores[e] /= total;
}

// -inf in the groups that lost: never zero, which would win against negative biases.
static void limit_groups(const Route& r, float* wanted) {
    const int groups = static_cast<int>(r.num_groups), size = static_cast<int>(r.num_experts / r.num_groups);
    float ranks[MAX_EXPERTS];
    bool kept[MAX_EXPERTS] = {};
    for (int g = 0; g < groups; g++) {
        float first = -INFINITY, second = -INFINITY;
        for (int i = 0; i < size; i++) {
            float value = wanted[g * size + i];
            if (value > first) second = first, first = value;
            else if (value > second) second = value;
        }
        ranks[g] = r.is_biased && size > 1 ? first + second : first;
    }
    for (int i = 0; i < r.num_kept_groups; i++) kept[take_best(ranks, groups)] = true;
    for (int g = 0; g < groups; g++)
        if (!kept[g])
            for (int i = 0; i < size; i++) wanted[g * size + i] = -INFINITY;
}

static void choose_experts(const Route& r, const float* logits, int32_t* experts, float* shares) {
    float scores[MAX_EXPERTS], wanted[MAX_EXPERTS];
    score_experts(r, logits, scores);
    for (int e = 0; e < r.num_experts; e++) wanted[e] = scores[e] + (r.is_biased ? r.bias[e] : 0.0f);
    if (r.num_kept_groups < r.num_groups) limit_groups(r, wanted);
    float total = 0;
    for (int k = 0; k < r.num_choices; k++) {
        experts[k] = take_best(wanted, static_cast<int>(r.num_experts));
        shares[k] = scores[experts[k]];
        total += shares[k];
    }
    for (int k = 0; k < r.num_choices; k++) {
        if (r.normalize) shares[k] /= total + 1e-20f;
        shares[k] *= static_cast<float>(r.factor);
    }
}

struct Experts {
    int64_t num_experts, num_choices, width, inner;
    Matrix gate_up, down;  // of the first expert; the next follows after the strides
    int64_t gate_up_bytes, gate_up_scale_bytes, down_bytes, down_scale_bytes;
    const int32_t* experts;  // [rows, K]
    const float* shares;     // [rows, K]
    int32_t *place, *source, *starts;  // [rows * K], [rows * K], [E + 1]
    float *sent, *hidden, *back;       // [rows * K, D], [rows * K, 2 I], [rows * K, D]
};

static Matrix expert_matrix(const Matrix& first, int64_t expert, int64_t bytes, int64_t scale_bytes) {
    auto move = [&](const void* from, int64_t step) {
        return from ? static_cast<const void*>(static_cast<const char*>(from) + expert * step) : nullptr;
    };
    Matrix w = first;
    w.data = move(first.data, bytes), w.scale = move(first.scale, scale_bytes);
    w.minimum = move(first.minimum, scale_bytes);
    return w;
}

// Sorted by expert; within an expert the rows keep their order.
static void sort_copies(const Experts& x, int64_t num_rows) {
    memset(x.starts, 0, sizeof(int32_t) * (x.num_experts + 1));
    const int64_t copies = num_rows * x.num_choices;
    for (int64_t c = 0; c < copies; c++) x.starts[x.experts[c] + 1]++;
    for (int64_t e = 0; e < x.num_experts; e++) x.starts[e + 1] += x.starts[e];
    int32_t next[MAX_EXPERTS];
    memcpy(next, x.starts, sizeof(int32_t) * x.num_experts);
    for (int64_t c = 0; c < copies; c++) {
        int32_t place = next[x.experts[c]]++;
        x.place[c] = place, x.source[place] = static_cast<int32_t>(c);
    }
}

// One matrix of every expert that has rows; panels of all of them are shared out together.
static void expert_products(const Experts& x, const Matrix& first, int64_t bytes, int64_t scale_bytes, const Rows& in,
                            const Rows& out, const Worker& worker, bool exact) {
    int64_t busy = 0;
    for (int64_t e = 0; e < x.num_experts; e++) busy += x.starts[e + 1] > x.starts[e];
    const int64_t panels = first.num_panels();
    Worker::Range mine = worker.share(busy * panels);
    int64_t base = 0;
    for (int64_t e = 0; e < x.num_experts; e++) {
        int64_t begin = x.starts[e], count = x.starts[e + 1] - begin;
        if (count == 0) continue;
        int64_t from = mine.begin > base ? mine.begin - base : 0, to = mine.end - base;
        to = to < panels ? to : panels;
        base += panels;
        if (from >= to) continue;
        Matrix w = expert_matrix(first, e, bytes, scale_bytes);
        Rows rows = {in[begin], in.stride};
        Sink sink = {{out[begin], out.stride}, nullptr, false};
        product(w, rows, count, sink, {from, to}, worker.scratch, exact);
    }
}

// out[row] += sum over its experts of share * expert(in[row]), added in the order of choice.
static void run_experts(const Experts& x, const Rows& in, const Rows& out, int64_t num_rows, const Worker& worker,
                        bool exact) {
    const int64_t copies = num_rows * x.num_choices;
    if (worker.rank == 0) sort_copies(x, num_rows);
    worker.meet();
    Worker::Range mine = worker.share(copies);
    for (int64_t m = mine.begin; m < mine.end; m++)
        memcpy(x.sent + m * x.width, in[x.source[m] / x.num_choices], sizeof(float) * x.width);
    worker.meet();
    const Rows sent = {x.sent, x.width}, hidden = {x.hidden, 2 * x.inner}, back = {x.back, x.width};
    expert_products(x, x.gate_up, x.gate_up_bytes, x.gate_up_scale_bytes, sent, hidden, worker, exact);
    worker.meet();
    for (int64_t m = mine.begin; m < mine.end; m++) {
        float *gate = hidden[m], *up = gate + x.inner, share = x.shares[x.source[m]];
        for (int64_t i = 0; i < x.inner; i++) gate[i] = lone_silu(gate[i]) * up[i] * share;
    }
    worker.meet();
    expert_products(x, x.down, x.down_bytes, x.down_scale_bytes, hidden, back, worker, exact);
    worker.meet();
    Worker::Range rows = worker.share(num_rows);
    for (int64_t row = rows.begin; row < rows.end; row++)
        for (int64_t k = 0; k < x.num_choices; k++) {
            const float* from = back[x.place[row * x.num_choices + k]];
            float* to = out[row];
            for (int64_t d = 0; d < x.width; d++) to[d] += from[d];
        }
}
