"""Families of public decoders with experts: what their configurations leave to be known. No torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from openbook.model.decoder_families import (
    BASE,
    LLAMA,
    LLAMA_SIZES,
    OLMO2,
    QWEN3,
    QWEN_WINDOW,
    TIED,
    UNTIED,
    windowed,
)
from openbook.model.decoder_fields import Fields
from openbook.model.decoder_layers import Family


def _llama4_layers(fields: Fields) -> dict[str, Any]:
    """Layers without rotary positions see everything, the others a chunk."""
    rotary = fields.items("no_rope_layers")
    if rotary is None or fields.items("layer_types") is not None:
        return {}
    return {"layer_types": ["chunked_attention" if kind else "full_attention" for kind in rotary]}


_LLAMA4 = Family(
    defaults={
        **UNTIED,
        "head_dim": 128,
        "num_key_value_heads": 8,
        "intermediate_size_mlp": 16384,
        "num_experts": 16,
        "num_experts_per_tok": 1,
        "n_shared_experts": 1,
        "attention_chunk_size": 8192,
        "sliding_window_pattern": 4,
    },
    class_sizes={**LLAMA_SIZES, "vocab_size": 202048, "hidden_size": 5120, "intermediate_size": 8192}
    | {"num_hidden_layers": 48, "num_attention_heads": 40},
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    has_experts=True,
    settle=_llama4_layers,
)


_MIXTRAL = Family(
    defaults=windowed(None) | {"num_key_value_heads": 8, "num_experts_per_tok": 2}, has_experts=True
)
_MINIMAX_M2 = Family(
    defaults=UNTIED | {"num_key_value_heads": 8, "head_dim": 128},
    has_experts=True,
    qk_norm="full",
    router_bias=True,
)


def _alternating(fields: Fields) -> dict[str, Any]:
    """A window in the first layer and each second one behind it."""
    kinds = ["sliding_attention", "full_attention"]
    return {"layer_types": fields.items("layer_types") or kinds * (fields.need("num_hidden_layers") // 2 + 1)}


_GPT_OSS = Family(
    defaults=windowed(128)
    | {"head_dim": 64, "attention_bias": True, "num_key_value_heads": 8, "num_experts_per_tok": 4},
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    has_sinks=True,
    has_experts=True,
    expert_bias=True,
    settle=_alternating,
)


_QWEN2_MOE = Family(
    defaults=QWEN_WINDOW | {"qkv_bias": True, "moe_intermediate_size": 1408, "num_experts_per_tok": 4},
    qkv_bias="qkv_bias",
    has_experts=True,
    has_shared_gate=True,
)
_QWEN3_MOE = replace(
    QWEN3,
    defaults=QWEN_WINDOW | {"moe_intermediate_size": 768, "num_key_value_heads": 4},
    class_sizes={},
    has_experts=True,
)
_DEEPSEEK_V2 = Family(defaults=UNTIED, has_experts=True)
_DEEPSEEK_V3 = replace(
    _DEEPSEEK_V2, defaults=UNTIED | {"n_shared_experts": 1, "first_k_dense_replace": 3}, router_bias=True
)
_DEEPSEEK_V1 = replace(LLAMA, has_experts=True)
_GLM4_MOE = Family(
    defaults=UNTIED | {"first_k_dense_replace": 1, "n_shared_experts": 1, "num_key_value_heads": 8},
    qkv_bias="attention_bias",
    has_experts=True,
    router_bias=True,
    vary=lambda fields: {"qk_norm": "head" if fields.flag("use_qk_norm") else "none"},
)
_GLM4_MOE_LITE = replace(_DEEPSEEK_V3, defaults=UNTIED | {"first_k_dense_replace": 1, "n_shared_experts": 1})
_DOTS1 = replace(BASE, defaults=UNTIED, qk_norm="head", has_experts=True, router_bias=True)
_ERNIE_MOE = Family(
    defaults=TIED | {"moe_layer_start_index": 1, "n_shared_experts": 2, "num_key_value_heads": 4},
    qkv_bias="use_bias",
    out_bias="use_bias",
    ffn_bias="use_bias",
    has_experts=True,
    router_bias=True,
)
_BAILING_MOE = Family(
    defaults=UNTIED,
    qkv_bias="use_qkv_bias",
    out_bias="use_bias",
    has_experts=True,
    vary=lambda fields: {
        "qk_norm": "head" if fields.flag("use_qk_norm") else "none",
        "router_bias": fields.flag("moe_router_enable_expert_bias"),
    },
)
_OLMOE = replace(OLMO2, defaults=UNTIED | {"num_experts": 64, "num_experts_per_tok": 8}, has_experts=True)
_PHIMOE = replace(
    BASE,
    defaults=windowed(None) | {"num_key_value_heads": 8, "num_experts": 16, "num_experts_per_tok": 2},
    norm_vectors=2,
    head_bias="lm_head_bias",
    has_experts=True,
)
_GRANITE_MOE = replace(BASE, defaults=UNTIED | {"num_experts": 8, "num_experts_per_tok": 2}, has_experts=True)
_DBRX = Family(
    defaults=UNTIED | {"num_key_value_heads": 1, "num_experts": 4, "num_experts_per_tok": 1},
    has_experts=True,
)

_GRANITE_HYBRID = replace(
    _GRANITE_MOE,
    # Without experts the shared network is the only one.
    settle=lambda fields: (
        {} if fields.number("num_experts") else {"intermediate_size": fields.need("shared_intermediate_size")}
    ),
)

SPARSE_FAMILIES: dict[str, Family] = {
    "llama4_text": _LLAMA4,
    "mixtral": _MIXTRAL,
    "minimax_m2": _MINIMAX_M2,
    "gpt_oss": _GPT_OSS,
    "qwen2_moe": _QWEN2_MOE,
    "qwen3_moe": _QWEN3_MOE,
    "deepseek": _DEEPSEEK_V1,
    "deepseek_v2": _DEEPSEEK_V2,
    "deepseek_v3": _DEEPSEEK_V3,
    "glm4_moe": _GLM4_MOE,
    "glm4_moe_lite": _GLM4_MOE_LITE,
    "dots1": _DOTS1,
    "ernie4_5_moe": _ERNIE_MOE,
    "bailing_moe": _BAILING_MOE,
    "olmoe": _OLMOE,
    "phimoe": _PHIMOE,
    "granitemoe": _GRANITE_MOE,
    "dbrx": _DBRX,
    "flex_olmo": replace(_OLMOE, defaults=UNTIED | {"num_experts": 7, "num_experts_per_tok": 5}),
    "afmoe": Family(
        defaults=windowed(1024, 4)
        | {"attention_gate": True, "first_k_dense_replace": 1, "n_shared_experts": 2},
        norms_per_layer=4,
        qk_norm="head",
        has_experts=True,
        router_bias=True,
    ),
    "granitemoehybrid": _GRANITE_HYBRID,
    "exaone_moe": Family(
        defaults=windowed(4096, 4) | {"first_k_dense_replace": 1, "n_shared_experts": 1},
        qk_norm="head",
        has_experts=True,
        router_bias=True,
    ),
    "hy_v3": replace(
        _DOTS1,
        defaults=UNTIED
        | {"first_k_dense_replace": 1, "n_shared_experts": 1, "head_dim": 128, "num_key_value_heads": 8},
    ),
    "granitemoe_swa": replace(
        _GRANITE_MOE,
        defaults=windowed(128, 4) | {"pattern_starts_full": True},
        has_sinks=True,
    ),
}
"""By `model_type`."""
