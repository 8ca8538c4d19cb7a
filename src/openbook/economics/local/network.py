"""What one token, one pass and one update of a network of ours ask of a machine. Arithmetic only, no torch.

The operators that a pass starts were counted by a dispatch mode of torch on networks of this project, views
left out; they belong to the code of `model`, not to a machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from openbook.model.config import GQAConfig, MLAConfig, ModelConfig
from openbook.model.cost import count
from openbook.model.memory import TrainingSetup, training_memory

LAUNCHES_OF_PASS = 27
"""Recorded operators of a forward pass outside its blocks: embedding, last norm, head, loss."""
LAUNCHES_OF_MLA = 46
"""Of a block with latent attention and a dense feed-forward network."""
LAUNCHES_OF_QUERY_LATENT = 8
LAUNCHES_OF_GQA = 59
"""Of a block with grouped-query attention, its norms of queries and keys included."""
LAUNCHES_OF_EXPERTS = 57
"""What experts add to a block."""
LAUNCHES_OF_EXPERT = 1.5
"""Of one expert: its three products are started inside a grouped one, for half the price of an operator."""
LAUNCHES_OF_MTP = 47
"""What a multi-token prediction module adds to its block."""
LAUNCHES_OF_MUON = 23
"""Of the update of one matrix by Muon."""
NEWTON_SCHULZ_STEPS = 5
FP32_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """One network, counted for what a forecast needs. FLOPs count a multiplication and an addition as two."""

    product_parameters: int
    """Matrix elements that one token meets, routed experts and the head left out."""
    routed_parameters: int
    """Matrix elements of the routed experts that one token meets; padding meets none."""
    head_parameters: int
    width: int
    score_flops: int
    """Forward, of one token and one position that it looks at, over all layers."""
    cached_score_flops: int
    """The same when sampling: latent attention reads the latents as they are."""
    launches: float
    """Recorded operators of a forward pass."""
    activation_bytes: int
    """Kept for the backward pass, of one token."""
    key_value_bytes: int
    """Keys and values of one position for all heads, over all layers: what rows taken apart copy."""
    num_layers: int
    num_parameters: int
    muon_matrices: int
    muon_flops: int
    """Of one update by Muon of every hidden matrix."""
    vocab_size: int


def network_of(config: ModelConfig, *, with_mtp: bool = False) -> Network:
    """The network of `config`; its MTP modules are in where supervised training runs them."""
    cost = count(config)
    num_modules = config.num_nextn_predict_layers if with_mtp else 0
    shapes = list(_hidden_matrices(config, with_mtp=config.num_nextn_predict_layers > 0))
    head = config.vocab_size * config.hidden_size
    main = cost.matmul_parameters - head
    mtp = cost.mtp_active.matrices if num_modules else 0
    num_blocks = config.num_hidden_layers + num_modules
    routed = _routed_parameters(config, num_modules)
    return Network(
        product_parameters=main + mtp - routed,
        routed_parameters=routed,
        head_parameters=head * (1 + num_modules),
        width=config.hidden_size,
        score_flops=num_blocks * _score_flops(config),
        cached_score_flops=config.num_hidden_layers * _cached_score_flops(config),
        launches=_launches(config, num_modules),
        activation_bytes=_activation_bytes(config),
        key_value_bytes=FP32_BYTES * num_blocks * _key_value_elements(config),
        num_layers=config.num_hidden_layers,
        num_parameters=cost.parameters_total + cost.mtp.total,
        muon_matrices=len(shapes),
        muon_flops=sum(_newton_schulz_flops(*shape) for shape in shapes),
        vocab_size=config.vocab_size,
    )


def _launches(config: ModelConfig, num_modules: int) -> float:
    moe = config.moe
    attention: float = LAUNCHES_OF_GQA
    if isinstance(config.attention, MLAConfig):
        attention = LAUNCHES_OF_MLA
        if config.attention.q_lora_rank is not None:
            attention += LAUNCHES_OF_QUERY_LATENT
    experts = 0.0 if moe is None else LAUNCHES_OF_EXPERTS + LAUNCHES_OF_EXPERT * moe.n_routed_experts
    num_moe = sum(map(config.is_moe_layer, range(config.num_hidden_layers)))
    main = LAUNCHES_OF_PASS + config.num_hidden_layers * attention + num_moe * experts
    return main + num_modules * (LAUNCHES_OF_MTP + attention + experts)


def _routed_parameters(config: ModelConfig, num_modules: int) -> int:
    moe = config.moe
    if moe is None:
        return 0
    num_moe = sum(map(config.is_moe_layer, range(config.num_hidden_layers))) + num_modules
    return num_moe * moe.num_experts_per_tok * 3 * config.hidden_size * moe.moe_intermediate_size


def _score_flops(config: ModelConfig) -> int:
    """Queries by keys, and shares by values."""
    match config.attention:
        case MLAConfig() as mla:
            size = mla.qk_nope_head_dim + mla.qk_rope_head_dim + mla.v_head_dim
        case GQAConfig() as gqa:
            size = 2 * gqa.head_dim
    return 2 * config.num_attention_heads * size


def _key_value_elements(config: ModelConfig) -> int:
    match config.attention:
        case MLAConfig() as mla:
            size = mla.qk_nope_head_dim + mla.qk_rope_head_dim + mla.v_head_dim
            return config.num_attention_heads * size
        case GQAConfig() as gqa:
            return 2 * gqa.num_key_value_heads * gqa.head_dim


def _cached_score_flops(config: ModelConfig) -> int:
    match config.attention:
        case MLAConfig() as mla:
            size = 2 * mla.kv_lora_rank + mla.qk_rope_head_dim
        case GQAConfig() as gqa:
            size = 2 * gqa.head_dim
    return 2 * config.num_attention_heads * size


def _activation_bytes(config: ModelConfig) -> int:
    setup = TrainingSetup(num_tokens=1, logits_tokens=0)
    return training_memory(config, setup).activations


def _newton_schulz_flops(rows: int, columns: int) -> int:
    """Five times `A = X X^T`, `B = b A + c A A`, `X = a X + B X`, with X lying on its side."""
    short, long = sorted((rows, columns))
    return NEWTON_SCHULZ_STEPS * (4 * short * short * long + 2 * short**3)


def _hidden_matrices(config: ModelConfig, *, with_mtp: bool) -> Iterator[tuple[int, int]]:
    """The shapes that Muon is meant for: matrices of blocks, without gates and stacked experts."""
    width, moe = config.hidden_size, config.moe
    num_modules = config.num_nextn_predict_layers if with_mtp else 0
    kinds = [config.is_moe_layer(layer) for layer in range(config.num_hidden_layers)]
    kinds += [moe is not None] * num_modules
    for is_moe in kinds:
        yield from _attention_matrices(config)
        inner = config.intermediate_size
        if is_moe and moe is not None:
            inner = moe.n_shared_experts * moe.moe_intermediate_size
        if inner:
            yield from ((inner, width), (inner, width), (width, inner))
    yield from [(width, 2 * width)] * num_modules


def _attention_matrices(config: ModelConfig) -> Iterator[tuple[int, int]]:
    width, heads = config.hidden_size, config.num_attention_heads
    match config.attention:
        case MLAConfig() as mla:
            query = heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
            if mla.q_lora_rank is None:
                yield query, width
            else:
                yield from ((mla.q_lora_rank, width), (query, mla.q_lora_rank))
            yield mla.kv_lora_rank + mla.qk_rope_head_dim, width
            yield heads * (mla.qk_nope_head_dim + mla.v_head_dim), mla.kv_lora_rank
            yield width, heads * mla.v_head_dim
        case GQAConfig() as gqa:
            key = gqa.num_key_value_heads * gqa.head_dim
            yield from ((heads * gqa.head_dim, width), (key, width), (key, width))
            yield width, heads * gqa.head_dim
