"""The shapes that the layers of a decoder are made of, and what each of them counts. No torch.

Matrices follow from sizes; the vectors of a block (norms, biases) are plain numbers of
elements, because families differ in them in every way and nothing but the count depends on them.
"""

from __future__ import annotations

from dataclasses import dataclass

from openbook.model.counts import Parts


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupedAttention:
    """Heads that share keys and values in groups: MHA, MQA and GQA are the three cases."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    """Length of one head's query and key."""
    value_head_dim: int | None = None
    """Length of one head's value; null is `head_dim`."""
    window: int | None = None
    """Keys that a token sees at most: a sliding window, or a chunk if `is_chunked`. Null is all."""
    is_chunked: bool = False
    """The sequence is cut every `window` tokens and none looks over a cut (Llama 4)."""
    shares_cache: bool = False
    """Keys and values are read from an earlier layer: no matrices for them and no cache."""
    gate_width: int = 0
    """Outputs of a matrix that gates what the heads found, 0 where there is none."""
    num_norm_elements: int = 0
    num_bias_elements: int = 0

    @property
    def score_dims(self) -> int:
        """d_qk + d_v: multiply-adds of one head for one query and one key."""
        return self.head_dim + self._value_dim

    @property
    def decode_dims(self) -> int:
        """What `score_dims` becomes for a token that reads the cache: the same."""
        return self.score_dims

    @property
    def cache_elements(self) -> int:
        """Elements that one layer caches for one token."""
        return 0 if self.shares_cache else self.num_kv_heads * self.score_dims

    def score_flops(self, sequence_length: int) -> int:
        """A for one token, a mean over a causal sequence: n_heads (d_qk + d_v) s where nothing cuts."""
        pairs = causal_pairs(sequence_length, self.window, is_chunked=self.is_chunked)
        return self.num_heads * self.score_dims * pairs // max(sequence_length, 1)

    def decode_flops(self, context: int) -> int:
        """A_dec of one token that reads `context` cached ones."""
        return 2 * self.num_heads * self.decode_dims * self.visible(context)

    def cached_elements(self, context: int) -> int:
        """Elements that one layer keeps of `context` tokens."""
        return self.cache_elements * self.visible(context)

    def visible(self, context: int) -> int:
        """Cached tokens that a token reads at most."""
        return context if self.window is None else min(context, self.window)

    def parts(self, width: int) -> Parts:
        query = self.num_heads * self.head_dim
        return Parts(
            attention=width
            * (query + self.cache_elements + self.num_heads * self._value_dim + self.gate_width),
            norms=self.num_norm_elements,
            biases=self.num_bias_elements,
        )

    @property
    def _value_dim(self) -> int:
        return self.head_dim if self.value_head_dim is None else self.value_head_dim


@dataclass(frozen=True, kw_only=True, slots=True)
class Indexer:
    """A small attention of one key that chooses which cached tokens the large one reads (DeepSeek-V3.2)."""

    num_heads: int
    head_dim: int
    topk: int

    @property
    def dims(self) -> int:
        """Multiply-adds for one query and one key; nothing is read but the score."""
        return self.num_heads * self.head_dim

    def parts(self, width: int, query_width: int) -> Parts:
        """Query, key with a LayerNorm, and a weight for each head."""
        matrices = query_width * self.dims + width * (self.head_dim + self.num_heads)
        return Parts(attention=matrices, norms=2 * self.head_dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2 2.1): what is cached is a latent and one rotary key."""

    num_heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    indexer: Indexer | None = None
    num_bias_elements: int = 0

    @property
    def score_dims(self) -> int:
        """d_qk + d_v with keys and values expanded, as in training and prefill."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim + self.v_head_dim

    @property
    def decode_dims(self) -> int:
        """2 r_kv + d_r: with the expansion absorbed into query and output, a token reads latents."""
        return 2 * self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def window(self) -> int | None:
        """None: latents of all tokens are kept, also where an indexer chooses among them."""
        return None

    @property
    def is_chunked(self) -> bool:
        return False

    @property
    def cache_elements(self) -> int:
        """The latent, the shared rotary key and, where there is one, the indexer's key."""
        indexed = 0 if self.indexer is None else self.indexer.head_dim
        return self.kv_lora_rank + self.qk_rope_head_dim + indexed

    def score_flops(self, sequence_length: int) -> int:
        """A for one token, a mean over a causal sequence: n_heads (d_qk + d_v) s.

        Chosen keys are read as latents, as in decoding, and the indexer scores all.
        """
        if self.indexer is None:
            return self.num_heads * self.score_dims * sequence_length
        chosen = causal_pairs(sequence_length, self.indexer.topk, is_chunked=False) // max(sequence_length, 1)
        return self.num_heads * self.decode_dims * chosen + self.indexer.dims * sequence_length

    def decode_flops(self, context: int) -> int:
        """A_dec of one token that reads `context` cached ones: in absorbed form."""
        if self.indexer is None:
            return 2 * self.num_heads * self.decode_dims * context
        chosen = min(context, self.indexer.topk)
        return 2 * (self.num_heads * self.decode_dims * chosen + self.indexer.dims * context)

    def cached_elements(self, context: int) -> int:
        return self.cache_elements * context

    def parts(self, width: int) -> Parts:
        query = self.num_heads * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        expanded = self.num_heads * (self.qk_nope_head_dim + self.v_head_dim)
        rank = self.q_lora_rank
        parts = Parts(
            attention=(width * query if rank is None else (width + query) * rank)
            + width * (self.kv_lora_rank + self.qk_rope_head_dim)
            + self.kv_lora_rank * expanded
            + self.num_heads * self.v_head_dim * width,
            norms=(rank or 0) + self.kv_lora_rank,
            biases=self.num_bias_elements,
        )
        return parts if self.indexer is None else parts + self.indexer.parts(width, rank or width)


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseFeedForward:
    """One feed-forward network that every token passes."""

    intermediate_size: int
    num_matrices: int = 3
    """3 with a gate (SwiGLU, GeGLU), 2 without."""
    num_bias_elements: int = 0

    def parts(self, width: int, *, active: bool) -> Parts:
        """All of it is active."""
        return Parts(
            dense_ffn=self.num_matrices * width * self.intermediate_size, biases=self.num_bias_elements
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertFeedForward:
    """A mixture of experts: `num_experts_per_tok` of `num_experts` for each token, and a shared part."""

    num_experts: int
    num_experts_per_tok: int
    intermediate_size: int
    """Inner size of one routed expert."""
    shared_intermediate_size: int = 0
    """Inner size of what every token passes beside the routed experts, all shared experts together."""
    num_matrices: int = 3
    has_shared_gate: bool = False
    """Whether the shared part is weighed by a gate of one output (Qwen1.5-MoE)."""
    num_expert_bias_elements: int = 0
    """Biases inside one routed expert."""
    num_shared_bias_elements: int = 0
    num_router_bias_elements: int = 0
    num_norm_elements: int = 0

    def parts(self, width: int, *, active: bool) -> Parts:
        """All parameters, or those that one token meets: router and shared part whole."""
        num_experts = self.num_experts_per_tok if active else self.num_experts
        biases = num_experts * self.num_expert_bias_elements
        return Parts(
            experts=num_experts * self.num_matrices * width * self.intermediate_size,
            shared_experts=self.num_matrices * width * self.shared_intermediate_size,
            router=width * (self.num_experts + self.has_shared_gate),
            norms=self.num_norm_elements,
            biases=biases + self.num_shared_bias_elements + self.num_router_bias_elements,
        )

    def experts_touched(self, num_tokens: float) -> float:
        """Experts that a batch of `num_tokens` reads if the router spreads evenly: E (1 - (1 - K/E)^B)."""
        missed: float = (1.0 - self.num_experts_per_tok / self.num_experts) ** num_tokens
        return self.num_experts * (1.0 - missed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One decoder layer: attention, feed-forward network and the norms around them."""

    attention: GroupedAttention | LatentAttention
    feed_forward: DenseFeedForward | ExpertFeedForward
    num_norm_elements: int

    def parts(self, width: int, *, active: bool) -> Parts:
        norms = Parts(norms=self.num_norm_elements)
        return norms + self.attention.parts(width) + self.feed_forward.parts(width, active=active)


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerGroup:
    """`num_layers` equal layers, wherever in the network they lie."""

    layer: Layer
    num_layers: int


def group_layers(layers: list[Layer]) -> tuple[LayerGroup, ...]:
    """Equal layers together, in the order of their first."""
    counts: dict[Layer, int] = {}
    for layer in layers:
        counts[layer] = counts.get(layer, 0) + 1
    return tuple(LayerGroup(layer=layer, num_layers=number) for layer, number in counts.items())


def causal_pairs(sequence_length: int, window: int | None, *, is_chunked: bool) -> int:
    """Twice the (query, key) pairs that a causal sequence scores: s^2 where nothing cuts.

    Counted as areas, as FLOP counts do: half of s^2 pairs, not s (s + 1) / 2.
    """
    s = sequence_length
    if window is None or s <= window:
        return s * s
    if is_chunked:
        return (s // window) * window**2 + (s % window) ** 2
    return 2 * window * s - window**2
