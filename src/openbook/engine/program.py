"""A Transformer as native operations (kernels/native/program.cpp), built once and run for every step.

Rows are tokens of any sequences, prefill and decode alike. MLA runs in its absorbed form throughout, so that
the cache holds nothing but latents. Activations are fp32; what the matrices are is the packer's choice.

    body       x [R, D] -> x after all blocks, keys and latents stored on the way
    head       x [M, D] -> logits [M, V], for the rows that are sampled from
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from openbook.engine.builder import ONE, ProgramBuilder, Steps
from openbook.engine.matrices import MatrixSource, absorbed, expert_stacks, matrix_of
from openbook.kernels import operations as ops
from openbook.kernels.packed import PackedMatrix, pack_fp32, stack_packed
from openbook.model.block import Block
from openbook.model.cache import CachePool
from openbook.model.config import ModelConfig
from openbook.model.gqa import GroupedQueryAttention
from openbook.model.layers import RMSNorm, SwiGLU
from openbook.model.mla import MultiHeadLatentAttention
from openbook.model.moe import MixtureOfExperts
from openbook.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What the operations of all layers share."""

    config: ModelConfig
    pool: CachePool
    rotation: Tensor
    """Cosine and sine by position and pair: fp32 [positions, pairs, 2]."""


def add_block(builder: ProgramBuilder, around: Surroundings, block: Block, layer: int, x: Tensor) -> None:
    """Attention and feed-forward behind their norms, added to `x`; `layer` is the place in the cache."""
    normed = builder.buffer("normed", around.config.hidden_size)
    builder.norm(block.input_layernorm, ops.Rows.of(x), ops.Rows.of(normed))
    if isinstance(block.self_attn, MultiHeadLatentAttention):
        _latent_attention(builder, around, block.self_attn, layer, x)
    else:
        _grouped_attention(builder, around, block.self_attn, layer, x)
    builder.norm(block.post_attention_layernorm, ops.Rows.of(x), ops.Rows.of(normed))
    if isinstance(block.mlp, MixtureOfExperts):
        _mixture(builder, around, block.mlp, block.moe_layer, x)
    else:
        _swiglu(builder, block.mlp, normed, x)


def add_head(builder: ProgramBuilder, norm: RMSNorm, head: PackedMatrix, x: Tensor, logits: Tensor) -> None:
    """A final norm and the output head."""
    normed = builder.buffer("normed", x.shape[1])
    builder.norm(norm, ops.Rows.of(x), ops.Rows.of(normed))
    builder.linear_packed(head, ops.Rows.of(normed), ops.Rows.of(logits))


def head_matrix(model: Transformer) -> MatrixSource:
    """The output head, which may be the embedding."""
    return matrix_of(model.model.embed_tokens if model.config.tie_word_embeddings else model.lm_head)


def rotation_of(model: Transformer, num_positions: int) -> Tensor:
    """The model's own rotations as pairs of cosine and sine: fp32 [positions, pairs, 2]."""
    return torch.view_as_real(model.rotations(num_positions)[:, 0]).float().contiguous()


def _grouped_attention(
    builder: ProgramBuilder, around: Surroundings, attention: GroupedQueryAttention, layer: int, x: Tensor
) -> None:
    heads, kv_heads, size = attention.num_heads, attention.gqa.num_key_value_heads, attention.gqa.head_dim
    normed = builder.buffer("normed", around.config.hidden_size)
    qkv = builder.buffer("qkv", (heads + 2 * kv_heads) * size)
    mixed = builder.buffer("mixed", heads * size)
    first_key, first_value = heads * size, (heads + kv_heads) * size
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    builder.linear(
        [matrix_of(one) for one in projections],
        ops.Rows.of(normed),
        ops.Rows.of(qkv),
        biases=[one.bias for one in projections],
    )
    if attention.gqa.qk_norm:
        for norm, column, count in ((attention.q_norm, 0, heads), (attention.k_norm, first_key, kv_heads)):
            builder.norm(norm, ops.Rows.of(qkv, column), ops.Rows.of(qkv, column), count=count)
    turned = ops.Rows.of(qkv)  # keys lie right behind queries: all heads are turned at once
    _rope(builder, around, turned, turned, Steps(count=heads + kv_heads, rows_in=size, rows_out=size))
    keys, values = around.pool.layers[layer]
    builder.store(ops.Rows.of(qkv, first_key), keys)
    builder.store(ops.Rows.of(qkv, first_value), values)
    builder.add(
        ops.Attend(
            queries=ops.Rows.of(qkv),
            rows_out=ops.Rows.of(mixed),
            num_heads=heads,
            num_kv_heads=kv_heads,
            key_size=size,
            value_size=size,
            key_width=keys.shape[1],
            value_width=values.shape[1],
            keys=keys.data_ptr(),
            values=values.data_ptr(),
            is_bf16=int(keys.dtype == torch.bfloat16),
            scale=attention.scale,
        )
    )
    builder.linear([matrix_of(attention.o_proj)], ops.Rows.of(mixed), ops.Rows.of(x), add=True)


def _latent_attention(
    builder: ProgramBuilder, around: Surroundings, attention: MultiHeadLatentAttention, layer: int, x: Tensor
) -> None:
    mla, heads, size = attention.mla, attention.num_heads, attention.qk_size
    latent, rotary = mla.kv_lora_rank, mla.qk_rope_head_dim
    kept = latent + rotary
    queries = _latent_queries(builder, attention, around.config.hidden_size)
    own = builder.buffer("latent", kept)
    normed = builder.buffer("normed", around.config.hidden_size)
    compress = attention.kv_a_proj_with_mqa
    builder.linear([matrix_of(compress)], ops.Rows.of(normed), ops.Rows.of(own), biases=[compress.bias])
    builder.norm(attention.kv_a_layernorm, ops.Rows.of(own), ops.Rows.of(own))
    key = ops.Rows.of(own, latent)
    _rope(builder, around, key, key, ONE)
    (pool_nKs,) = around.pool.layers[layer]
    builder.store(ops.Rows.of(own), pool_nKs)

    to_key_HLk, to_value_HVL = absorbed(attention)
    absorbed_queries = builder.buffer("absorbed", heads * kept)
    averages = builder.buffer("averages", heads * latent)
    mixed = builder.buffer("mixed", heads * mla.v_head_dim)
    pack = builder.packer.pack_plain
    builder.linear_packed(
        stack_packed([pack(one) for one in to_key_HLk]),
        ops.Rows.of(queries),
        ops.Rows.of(absorbed_queries),
        steps=Steps(count=heads, rows_in=size, rows_out=kept),
    )
    _rope(
        builder,
        around,
        ops.Rows.of(queries, mla.qk_nope_head_dim),
        ops.Rows.of(absorbed_queries, latent),
        Steps(count=heads, rows_in=size, rows_out=kept),
    )
    builder.add(
        ops.Attend(
            queries=ops.Rows.of(absorbed_queries),
            rows_out=ops.Rows.of(averages),
            num_heads=heads,
            num_kv_heads=1,
            key_size=kept,
            value_size=latent,
            key_width=kept,
            value_width=kept,
            keys=pool_nKs.data_ptr(),
            values=pool_nKs.data_ptr(),
            is_bf16=int(pool_nKs.dtype == torch.bfloat16),
            scale=attention.scale,
        )
    )
    builder.linear_packed(
        stack_packed([pack(one) for one in to_value_HVL]),
        ops.Rows.of(averages),
        ops.Rows.of(mixed),
        steps=Steps(count=heads, rows_in=latent, rows_out=mla.v_head_dim),
    )
    o_proj = attention.o_proj
    builder.linear([matrix_of(o_proj)], ops.Rows.of(mixed), ops.Rows.of(x), add=True, biases=[o_proj.bias])


def _latent_queries(builder: ProgramBuilder, attention: MultiHeadLatentAttention, width: int) -> Tensor:
    """Not yet turned [R, H * Q]."""
    queries = builder.buffer("queries", attention.num_heads * attention.qk_size)
    normed = builder.buffer("normed", width)
    if attention.mla.q_lora_rank is None:
        builder.linear([matrix_of(attention.q_proj)], ops.Rows.of(normed), ops.Rows.of(queries))
        return queries
    compressed, compress = builder.buffer("compressed", attention.mla.q_lora_rank), attention.q_a_proj
    builder.linear(
        [matrix_of(compress)], ops.Rows.of(normed), ops.Rows.of(compressed), biases=[compress.bias]
    )
    builder.norm(attention.q_a_layernorm, ops.Rows.of(compressed), ops.Rows.of(compressed))
    builder.linear([matrix_of(attention.q_b_proj)], ops.Rows.of(compressed), ops.Rows.of(queries))
    return queries


def _swiglu(builder: ProgramBuilder, mlp: SwiGLU, normed: Tensor, x: Tensor) -> None:
    gate, up = matrix_of(mlp.gate_proj), matrix_of(mlp.up_proj)
    inner = gate.shape[0]
    both = builder.buffer("gate and up", 2 * inner)
    builder.linear([gate, up], ops.Rows.of(normed), ops.Rows.of(both))
    builder.add(ops.Silu(rows_in=ops.Rows.of(both), rows_out=ops.Rows.of(both), size=inner))
    builder.linear([matrix_of(mlp.down_proj)], ops.Rows.of(both), ops.Rows.of(x), add=True)


def _mixture(
    builder: ProgramBuilder, around: Surroundings, mlp: MixtureOfExperts, moe_layer: int, x: Tensor
) -> None:
    moe, width = mlp.moe, around.config.hidden_size
    choices, inner = moe.num_experts_per_tok, moe.moe_intermediate_size
    normed = builder.buffer("normed", width)
    experts, shares = _route(builder, around, mlp, moe_layer)
    gate, up, down = expert_stacks(mlp.experts)
    gate_up, back = (
        builder.pack(builder.packer.pack_stack([gate, up])),
        builder.pack(builder.packer.pack_stack([down])),
    )
    scratch = {
        "place": builder.buffer("place", 1, rows=choices, dtype=torch.int32),
        "source": builder.buffer("source", 1, rows=choices, dtype=torch.int32),
        "starts": torch.zeros(moe.n_routed_experts + 1, dtype=torch.int32),
        "sent": builder.buffer("sent", width, rows=choices),
        "hidden": builder.buffer("expert hidden", 2 * inner, rows=choices),
        "back": builder.buffer("back", width, rows=choices),
    }
    builder.add(
        ops.Experts(
            rows_in=ops.Rows.of(normed),
            rows_out=ops.Rows.of(x),
            num_experts=moe.n_routed_experts,
            num_choices=choices,
            width=width,
            inner=inner,
            gate_up=ops.Matrix.of(gate_up),
            down=ops.Matrix.of(back),
            gate_up_bytes=ops.step_bytes(gate_up.data),
            gate_up_scale_bytes=ops.step_bytes(gate_up.scale),
            down_bytes=ops.step_bytes(back.data),
            down_scale_bytes=ops.step_bytes(back.scale),
            experts=experts.data_ptr(),
            shares=shares.data_ptr(),
            **{name: builder.keep(tensor) for name, tensor in scratch.items()},
        )
    )
    if moe.n_shared_experts > 0:
        _swiglu(builder, mlp.shared_experts, normed, x)


def _route(
    builder: ProgramBuilder, around: Surroundings, mlp: MixtureOfExperts, moe_layer: int
) -> tuple[Tensor, Tensor]:
    """Who computes each row, and with what share: [R, K] both; also noted beside the cache."""
    moe, choices = mlp.moe, mlp.moe.num_experts_per_tok
    normed = builder.buffer("normed", around.config.hidden_size)
    logits = builder.buffer("expert logits", moe.n_routed_experts)
    experts = builder.buffer("experts", choices, dtype=torch.int32)
    shares = builder.buffer("shares", choices)
    gate_weight = pack_fp32(mlp.gate.weight)  # in fp32 whatever the rest is: near ties decide who computes
    builder.linear_packed(gate_weight, ops.Rows.of(normed), ops.Rows.of(logits))
    is_biased = moe.topk_method == "noaux_tc"
    bias = mlp.gate.e_score_correction_bias.float().clone() if is_biased else None
    record_nsLK = around.pool.experts_nsLK
    is_limited = moe.topk_method != "greedy"
    builder.add(
        ops.Route(
            logits=ops.Rows.of(logits),
            num_experts=moe.n_routed_experts,
            num_choices=choices,
            num_groups=moe.n_group if is_limited else 1,
            num_kept_groups=moe.topk_group if is_limited else 1,
            is_sigmoid=int(moe.scoring_func == "sigmoid"),
            is_biased=int(is_biased),
            normalize=int(moe.norm_topk_prob),
            bias=None if bias is None else builder.keep(bias),
            factor=moe.routed_scaling_factor,
            experts=experts.data_ptr(),
            shares=shares.data_ptr(),
            record=record_nsLK.data_ptr(),
            record_width=record_nsLK.shape[2] * choices,
            record_first=moe_layer * choices,
        )
    )
    return experts, shares


def _rope(
    builder: ProgramBuilder, around: Surroundings, rows_in: ops.Rows, rows_out: ops.Rows, steps: Steps
) -> None:
    attention = around.config.attention
    passed = attention.qk_nope_head_dim // 2 if attention.kind == "mla" else 0
    num_pairs = around.rotation.shape[1]
    builder.add(
        ops.Rope(
            rows_in=rows_in,
            rows_out=rows_out,
            count=steps.count,
            in_step=steps.rows_in,
            out_step=steps.rows_out,
            pairs=num_pairs - passed,
            is_halves=int(attention.kind == "gqa"),
            table=around.rotation.data_ptr(),
            table_pairs=num_pairs,
            table_first=passed,
        )
    )
