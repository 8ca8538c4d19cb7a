"""The layers of a public decoder: which are of experts, which see a window, what each holds. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from openbook.errors import UserError
from openbook.model.decoder_fields import Fields, Flag
from openbook.model.shapes import (
    DenseFeedForward,
    ExpertFeedForward,
    GroupedAttention,
    Indexer,
    LatentAttention,
    Layer,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """What the configuration of a family leaves unsaid, because its code says it."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What an absent field means."""
    class_sizes: Mapping[str, int] = field(default_factory=dict)
    """Sizes that a configuration nested in another may leave out; alone it has to give them."""
    norm_vectors: int = 1
    """Vectors of one norm: a scale (RMSNorm), a scale and a shift (LayerNorm), or none."""
    norms_per_layer: int = 2
    has_final_norm: bool = True
    has_embedding_norm: bool = False
    qk_norm: Literal["none", "head", "full"] = "none"
    """Norms of query and key: one for all heads, or as wide as the heads together."""
    qk_norm_vectors: int = 1
    qkv_bias: Flag = False
    out_bias: Flag = False
    num_ffn_matrices: int = 3
    ffn_bias: Flag = False
    head_bias: Flag = False
    position_offset: int | None = None
    """Rows of the table of learned positions beyond `max_position_embeddings`; null is no table."""
    has_sinks: bool = False
    """One learned number a head in the softmax."""
    has_experts: bool = False
    expert_bias: Flag = False
    """Biases inside the experts, and of the router."""
    router_bias: Flag = False
    has_shared_gate: bool = False
    num_other_elements: int = 0
    """Vectors of a layer that are neither its norms nor its biases, as an activation's own numbers."""
    ffn_multiple: int | None = None
    """The inner size where none is given, in widths."""
    vary: Callable[[Fields], dict[str, Any]] | None = None
    """What of the above depends on the configuration."""
    settle: Callable[[Fields], dict[str, Any]] | None = None
    """Values that follow from others."""


_WINDOWED = {"sliding_attention", "local", "sliding"}
_WHOLE = {"full_attention", "global", "full", "attention", "indexed_attention"}
_CHUNKED = "chunked_attention"


def build_layers(family: Family, fields: Fields, num_layers: int) -> list[Layer]:
    """The first `num_layers` layers, in order; more than the network has are like the last (MTP)."""
    windows = _windows(fields, num_layers)
    return [_layer(family, fields, index, windows[index]) for index in range(num_layers)]


def _layer(family: Family, fields: Fields, index: int, window: tuple[int | None, bool]) -> Layer:
    width = fields.need("hidden_size")
    is_latent = fields.number("kv_lora_rank") is not None
    attention = _latent(fields) if is_latent else _grouped(family, fields, window)
    feed_forward: DenseFeedForward | ExpertFeedForward
    if family.has_experts and _is_moe(fields, index):
        feed_forward = _experts(family, fields)
    else:
        feed_forward = _dense(family, fields)
    norms = family.norms_per_layer * family.norm_vectors * width
    return Layer(
        attention=attention,
        feed_forward=feed_forward,
        num_norm_elements=norms + family.num_other_elements,
    )


def head_dim(fields: Fields) -> int:
    heads = fields.need("num_attention_heads")
    given = fields.number("head_dim")
    return given or fields.need("hidden_size") // heads


def _grouped(family: Family, fields: Fields, window: tuple[int | None, bool]) -> GroupedAttention:
    heads, width, dim = fields.need("num_attention_heads"), fields.need("hidden_size"), head_dim(fields)
    kv_heads = fields.number("num_key_value_heads") or heads
    if heads % kv_heads:
        raise UserError(
            f"{fields.where}: num_key_value_heads = {kv_heads} does not divide {heads} heads",
            "a group of heads shares one key",
        )
    value_dim = fields.number("v_head_dim")
    norms = {"none": 0, "head": 2 * dim, "full": (heads + kv_heads) * dim}[family.qk_norm]
    biases = heads * family.has_sinks
    if fields.flag(family.qkv_bias):
        biases += heads * dim + kv_heads * (dim + (value_dim or dim))
    if fields.flag(family.out_bias):
        biases += width
    return GroupedAttention(
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=dim,
        value_head_dim=value_dim,
        window=window[0],
        is_chunked=window[1],
        num_norm_elements=norms * family.qk_norm_vectors,
        num_bias_elements=biases,
        gate_width=heads * dim if fields.flag("attention_gate") else 0,
    )


def _latent(fields: Fields) -> LatentAttention:
    heads, width = fields.need("num_attention_heads"), fields.need("hidden_size")
    # Some writers say 0 where others say null: no query compression.
    q_lora_rank = fields.number("q_lora_rank") or None
    kv_lora_rank, rope_dim = fields.need("kv_lora_rank"), fields.need("qk_rope_head_dim")
    biases = (q_lora_rank or 0) + kv_lora_rank + rope_dim + width
    return LatentAttention(
        num_heads=heads,
        q_lora_rank=q_lora_rank,
        kv_lora_rank=kv_lora_rank,
        qk_nope_head_dim=fields.need("qk_nope_head_dim"),
        qk_rope_head_dim=rope_dim,
        v_head_dim=fields.number("v_head_dim") or width // heads,
        indexer=_indexer(fields),
        num_bias_elements=biases if fields.flag("attention_bias") else 0,
    )


def _indexer(fields: Fields) -> Indexer | None:
    if fields.number("index_topk") is None:
        return None
    return Indexer(
        num_heads=fields.need("index_n_heads"),
        head_dim=fields.need("index_head_dim"),
        topk=fields.need("index_topk"),
    )


def _dense(family: Family, fields: Fields) -> DenseFeedForward:
    width, inner = fields.need("hidden_size"), inner_size(family, fields)
    biases = (family.num_ffn_matrices - 1) * inner + width
    return DenseFeedForward(
        intermediate_size=inner,
        num_matrices=family.num_ffn_matrices,
        num_bias_elements=biases if fields.flag(family.ffn_bias) else 0,
    )


def inner_size(family: Family, fields: Fields) -> int:
    """The inner size of a dense network: Llama 4 names it apart from that of its experts."""
    apart = fields.number("intermediate_size_mlp")
    if apart is not None:
        return apart
    if family.ffn_multiple is not None and not fields.number("intermediate_size"):
        return family.ffn_multiple * fields.need("hidden_size")
    return fields.need("intermediate_size")


def _experts(family: Family, fields: Fields) -> ExpertFeedForward:
    width, num_experts = fields.need("hidden_size"), fields.need("num_experts")
    per_token = fields.need("num_experts_per_tok")
    if per_token > num_experts:
        raise UserError(
            f"{fields.where}: num_experts_per_tok is {per_token} and there are {num_experts} experts",
            "a token cannot meet more",
        )
    inner = fields.number("moe_intermediate_size") or fields.need("intermediate_size")
    shared = fields.number("shared_intermediate_size")
    if shared is None:
        shared = fields.get("n_shared_experts", 0) * inner
    inside = (family.num_ffn_matrices - 1) * inner + width
    has_bias = fields.flag(family.expert_bias)
    router_biases = has_bias + fields.flag(family.router_bias)
    return ExpertFeedForward(
        num_experts=num_experts,
        num_experts_per_tok=per_token,
        intermediate_size=inner,
        shared_intermediate_size=shared,
        num_matrices=family.num_ffn_matrices,
        has_shared_gate=family.has_shared_gate and shared > 0,
        num_expert_bias_elements=inside if has_bias else 0,
        num_router_bias_elements=router_biases * num_experts,
    )


def _is_moe(fields: Fields, index: int) -> bool:
    """Every way in which a configuration says which layers have experts; what is absent excludes none."""
    if not fields.number("num_experts"):
        return False
    kinds, chosen = fields.items("mlp_layer_types"), fields.items("moe_layers")
    frequencies = fields.values.get("moe_layer_freq") or None
    if kinds is not None:
        return bool(kinds[min(index, len(kinds) - 1)] == "sparse")
    if chosen is not None:
        return index in chosen
    if isinstance(frequencies, list):
        return bool(frequencies[min(index, len(frequencies) - 1)])
    if index in (fields.items("mlp_only_layers") or ()):
        return False
    first = max(fields.get("first_k_dense_replace", 0), fields.get("moe_layer_start_index", 0))
    last = fields.get("moe_layer_end_index", index)
    frequency, step = fields.get("moe_layer_freq", 1) or 1, _moe_step(fields)
    return first <= index <= last and index % frequency == 0 and (index + 1) % step == 0


def _moe_step(fields: Fields) -> int:
    names = ("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval")
    return max(fields.get(name, 1) or 1 for name in names)


def _windows(fields: Fields, num_layers: int) -> list[tuple[int | None, bool]]:
    """For each layer the keys that it sees, None for all, and whether it is in chunks."""
    window, chunk = fields.number("sliding_window"), fields.number("attention_chunk_size")
    sizes: dict[str, tuple[int | None, bool]] = {
        **dict.fromkeys(_WHOLE, (None, False)),
        **dict.fromkeys(_WINDOWED, (window or None, False)),
        _CHUNKED: (chunk or None, True) if chunk else (None, False),
    }
    windows = []
    for kind in _layer_types(fields, num_layers):
        if kind not in sizes:
            raise UserError(
                f"{fields.where}: layer_types has {kind!r}, which is not counted",
                f"known: {', '.join(sorted(sizes))}",
            )
        windows.append(sizes[kind])
    return windows


def _layer_types(fields: Fields, num_layers: int) -> list[str]:
    """A kind for each layer, from the list that says it, or the pattern that it follows."""
    given = fields.items("layer_types") or fields.items("attention_layers")
    if given is not None:
        if len(given) < num_layers:
            given = given + [given[-1]] * (num_layers - len(given))
        return [str(kind) for kind in given]
    local = _CHUNKED if fields.number("attention_chunk_size") else "sliding_attention"
    has_window = fields.number("sliding_window") and fields.flag("use_sliding_window")
    if not has_window and local != _CHUNKED:
        return ["full_attention"] * num_layers
    pattern = fields.number("sliding_window_pattern")
    if pattern:
        offset = 0 if fields.flag("pattern_starts_full") else 1
        return ["full_attention" if (i + offset) % pattern == 0 else local for i in range(num_layers)]
    first = fields.get("max_window_layers", 0)
    return [local if i >= first else "full_attention" for i in range(num_layers)]
