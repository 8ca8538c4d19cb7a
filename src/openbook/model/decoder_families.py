"""The families of public decoders: what their configurations leave to be known. No torch.

Facts of the published code of each: which vectors and matrices a layer has, and what an absent
field means. `FAMILIES` has them by `model_type`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from openbook.model.decoder_fields import Fields
from openbook.model.decoder_layers import Family

_TIED = {"tie_word_embeddings": True}
_UNTIED = {"tie_word_embeddings": False}


def _windowed(size: int | None, pattern: int | None = None, *, tied: bool = False) -> dict[str, Any]:
    """Defaults of a family with sliding windows: all layers, or all but each `pattern`-th."""
    common = {"use_sliding_window": True, "sliding_window": size, "tie_word_embeddings": tied}
    return common if pattern is None else {**common, "sliding_window_pattern": pattern}


# --- Llama and its like: RMSNorm twice, a gate, no biases unless told

_BASE = Family(defaults=_UNTIED, qkv_bias="attention_bias", out_bias="attention_bias")
_LLAMA_SIZES = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
_LLAMA = Family(
    defaults=_UNTIED,
    class_sizes=_LLAMA_SIZES,
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    ffn_bias="mlp_bias",
)
_LLAMA4 = Family(
    defaults={
        **_UNTIED,
        "head_dim": 128,
        "num_key_value_heads": 8,
        "intermediate_size_mlp": 16384,
        "num_experts": 16,
        "num_experts_per_tok": 1,
        "n_shared_experts": 1,
        "attention_chunk_size": 8192,
        "sliding_window_pattern": 4,
    },
    class_sizes={**_LLAMA_SIZES, "vocab_size": 202048, "hidden_size": 5120, "intermediate_size": 8192}
    | {"num_hidden_layers": 48, "num_attention_heads": 40},
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    has_experts=True,
    settle=lambda fields: _llama4_layers(fields),
)


def _llama4_layers(fields: Fields) -> dict[str, Any]:
    """Layers without rotary positions see everything, the others a chunk."""
    rotary = fields.items("no_rope_layers")
    if rotary is None or fields.items("layer_types") is not None:
        return {}
    return {"layer_types": ["chunked_attention" if kind else "full_attention" for kind in rotary]}


_MISTRAL = Family(
    defaults=_windowed(4096) | {"num_key_value_heads": 8},
    class_sizes={**_LLAMA_SIZES, "intermediate_size": 14336},
)
_MINISTRAL3 = Family(defaults=_UNTIED | {"num_key_value_heads": 8})
_MIXTRAL = Family(
    defaults=_windowed(None) | {"num_key_value_heads": 8, "num_experts_per_tok": 2}, has_experts=True
)
_MINIMAX_M2 = Family(
    defaults=_UNTIED | {"num_key_value_heads": 8, "head_dim": 128},
    has_experts=True,
    qk_norm="full",
    router_bias=True,
)
_GPT_OSS = Family(
    defaults=_windowed(128)
    | {"head_dim": 64, "attention_bias": True, "num_key_value_heads": 8, "num_experts_per_tok": 4},
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    has_sinks=True,
    has_experts=True,
    expert_bias=True,
    settle=lambda fields: _alternating(fields),
)


def _alternating(fields: Fields) -> dict[str, Any]:
    """A window in the first layer and each second one behind it."""
    kinds = ["sliding_attention", "full_attention"]
    return {"layer_types": fields.items("layer_types") or kinds * (fields.need("num_hidden_layers") // 2 + 1)}


# --- Qwen

_QWEN_SIZES = {**_LLAMA_SIZES, "vocab_size": 151936, "intermediate_size": 22016}
_QWEN_WINDOW = {"sliding_window": 4096, "max_window_layers": 28, "tie_word_embeddings": False}
_QWEN2 = Family(defaults=_QWEN_WINDOW, class_sizes=_QWEN_SIZES, qkv_bias=True)
_QWEN3 = Family(
    defaults=_QWEN_WINDOW | {"head_dim": 128},
    class_sizes=_QWEN_SIZES,
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    qk_norm="head",
)
_QWEN2_MOE = Family(
    defaults=_QWEN_WINDOW | {"qkv_bias": True, "moe_intermediate_size": 1408, "num_experts_per_tok": 4},
    qkv_bias="qkv_bias",
    has_experts=True,
    has_shared_gate=True,
)
_QWEN3_MOE = replace(
    _QWEN3,
    defaults=_QWEN_WINDOW | {"moe_intermediate_size": 768, "num_key_value_heads": 4},
    class_sizes={},
    has_experts=True,
)
_QWEN1 = Family(
    defaults=_UNTIED,
    qkv_bias=True,
    # Theirs is the size of gate and value together.
    settle=lambda fields: {"intermediate_size": fields.need("intermediate_size") // 2},
)

# --- DeepSeek and others with a bias per expert

_DEEPSEEK_V2 = Family(defaults=_UNTIED, has_experts=True)
_DEEPSEEK_V3 = replace(
    _DEEPSEEK_V2, defaults=_UNTIED | {"n_shared_experts": 1, "first_k_dense_replace": 3}, router_bias=True
)
_DEEPSEEK_V1 = replace(_LLAMA, has_experts=True)
_GLM4_MOE = Family(
    defaults=_UNTIED | {"first_k_dense_replace": 1, "n_shared_experts": 1, "num_key_value_heads": 8},
    qkv_bias="attention_bias",
    has_experts=True,
    router_bias=True,
    vary=lambda fields: {"qk_norm": "head" if fields.flag("use_qk_norm") else "none"},
)
_GLM4_MOE_LITE = replace(_DEEPSEEK_V3, defaults=_UNTIED | {"first_k_dense_replace": 1, "n_shared_experts": 1})
_DOTS1 = replace(_BASE, defaults=_UNTIED, qk_norm="head", has_experts=True, router_bias=True)
_ERNIE_MOE = Family(
    defaults=_TIED | {"moe_layer_start_index": 1, "n_shared_experts": 2, "num_key_value_heads": 4},
    qkv_bias="use_bias",
    out_bias="use_bias",
    ffn_bias="use_bias",
    has_experts=True,
    router_bias=True,
)
_BAILING_MOE = Family(
    defaults=_UNTIED,
    qkv_bias="use_qkv_bias",
    out_bias="use_bias",
    has_experts=True,
    vary=lambda fields: {
        "qk_norm": "head" if fields.flag("use_qk_norm") else "none",
        "router_bias": fields.flag("moe_router_enable_expert_bias"),
    },
)

# --- Gemma, Cohere, OLMo, GLM, EXAONE

_GEMMA_SIZES = {"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26}
_GEMMA = replace(
    _BASE,
    defaults=_TIED | {"head_dim": 256},
    class_sizes={"vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576}
    | {"num_hidden_layers": 28, "num_attention_heads": 16},
)
_GEMMA2 = replace(
    _BASE,
    defaults=_windowed(4096, 2, tied=True) | {"head_dim": 256, "num_key_value_heads": 4},
    class_sizes={**_GEMMA_SIZES, "vocab_size": 256000, "num_attention_heads": 8},
    norms_per_layer=4,
)
_GEMMA3 = replace(
    _GEMMA2,
    defaults=_windowed(4096, 6, tied=True) | {"head_dim": 256, "num_key_value_heads": 4},
    class_sizes={**_GEMMA_SIZES, "vocab_size": 262208, "num_attention_heads": 8},
    qk_norm="head",
)
_COHERE = replace(
    _BASE,
    defaults=_TIED,
    norms_per_layer=1,
    vary=lambda fields: {"qk_norm": "full" if fields.flag("use_qk_norm") else "none"},
)
_COHERE2 = replace(_COHERE, defaults=_windowed(4096, 4, tied=True))
_OLMO = replace(_LLAMA, norm_vectors=0, ffn_bias=False)
_OLMO2 = replace(_LLAMA, qk_norm="full", ffn_bias=False)
_OLMO3 = replace(_OLMO2, defaults=_windowed(4096, 4))
_OLMOE = replace(_OLMO2, defaults=_UNTIED | {"num_experts": 64, "num_experts_per_tok": 8}, has_experts=True)
_GLM = Family(
    defaults=_UNTIED | {"attention_bias": True, "head_dim": 128, "num_key_value_heads": 2},
    qkv_bias="attention_bias",
)
_GLM4 = replace(_GLM, norms_per_layer=4)
_EXAONE4 = Family(defaults=_windowed(4096, 4), qk_norm="head")
_SEED_OSS = Family(
    defaults=_UNTIED | {"attention_bias": True, "head_dim": 128, "num_key_value_heads": 8},
    qkv_bias="attention_bias",
    out_bias="attention_out_bias",
    ffn_bias="mlp_bias",
)
_CHATGLM = Family(
    defaults=_UNTIED, qkv_bias="add_qkv_bias", out_bias="add_bias_linear", ffn_bias="add_bias_linear"
)
_INTERNLM = Family(defaults=_UNTIED | {"bias": True}, qkv_bias="bias", out_bias="bias")
_MINICPM3 = Family(
    defaults=_TIED | {"q_lora_rank": 768, "kv_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32}
)
_BITNET = replace(
    _BASE,
    defaults=_UNTIED | {"num_key_value_heads": 5},
    # What attention and the gate found is normed once more.
    vary=lambda fields: {"num_other_elements": fields.need("hidden_size") + fields.need("intermediate_size")},
)

# --- Phi, Granite, DBRX

_PHI = Family(
    defaults=_UNTIED,
    norm_vectors=2,
    norms_per_layer=1,
    qkv_bias=True,
    out_bias=True,
    num_ffn_matrices=2,
    ffn_bias=True,
    head_bias=True,
    qk_norm_vectors=2,
    vary=lambda fields: {"qk_norm": "head" if fields.flag("qk_layernorm") else "none"},
)
_PHI3 = Family(
    defaults=_windowed(None),
    class_sizes={**_LLAMA_SIZES, "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192},
)
_PHIMOE = replace(
    _BASE,
    defaults=_windowed(None) | {"num_key_value_heads": 8, "num_experts": 16, "num_experts_per_tok": 2},
    norm_vectors=2,
    head_bias="lm_head_bias",
    has_experts=True,
)
_GRANITE_MOE = replace(
    _BASE, defaults=_UNTIED | {"num_experts": 8, "num_experts_per_tok": 2}, has_experts=True
)
_GRANITE_SWA = replace(
    _BASE,
    defaults=_windowed(128, 4, tied=True) | {"pattern_starts_full": True, "num_key_value_heads": 4},
    has_sinks=True,
)
_DBRX = Family(
    defaults=_UNTIED | {"num_key_value_heads": 1, "num_experts": 4, "num_experts_per_tok": 1},
    has_experts=True,
)

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "llama4_text": _LLAMA4,
    "mistral": _MISTRAL,
    "ministral3": _MINISTRAL3,
    "mixtral": _MIXTRAL,
    "minimax_m2": _MINIMAX_M2,
    "gpt_oss": _GPT_OSS,
    "qwen": _QWEN1,
    "qwen2": _QWEN2,
    "qwen3": _QWEN3,
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
    "ernie4_5": Family(
        defaults=_TIED | {"head_dim": 128, "num_key_value_heads": 2},
        qkv_bias="use_bias",
        out_bias="use_bias",
        ffn_bias="use_bias",
    ),
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA3,
    "cohere": _COHERE,
    "cohere2": _COHERE2,
    "olmo": _OLMO,
    "olmo2": _OLMO2,
    "olmo3": _OLMO3,
    "olmoe": _OLMOE,
    "flex_olmo": replace(_OLMOE, defaults=_UNTIED | {"num_experts": 7, "num_experts_per_tok": 5}),
    "glm": _GLM,
    "glm4": _GLM4,
    "exaone4": _EXAONE4,
    "seed_oss": _SEED_OSS,
    "chatglm": _CHATGLM,
    "internlm": _INTERNLM,
    "internlm2": _INTERNLM,
    "minicpm3": _MINICPM3,
    "bitnet": _BITNET,
    "phi": _PHI,
    "phi3": _PHI3,
    "phimoe": _PHIMOE,
    "granitemoe": _GRANITE_MOE,
    "granite_swa": _GRANITE_SWA,
    "dbrx": _DBRX,
    "cwm": Family(
        defaults=_windowed(8192, 4) | {"pattern_starts_full": True, "head_dim": 128, "num_key_value_heads": 8}
    ),
    "smollm3": replace(_LLAMA, defaults=_TIED | {"num_key_value_heads": 4}),
    "minicpm": replace(_LLAMA, defaults=_TIED, has_experts=True),
    "exaone": replace(_LLAMA, defaults=_TIED, ffn_bias=False),
    "hunyuan_v1_dense": replace(_LLAMA, ffn_bias=False, qk_norm="head"),
    "helium": replace(_LLAMA, defaults=_UNTIED | {"head_dim": 128}, out_bias=False),
    "apertus": replace(_LLAMA, num_ffn_matrices=2, qk_norm="head", ffn_bias=False, num_other_elements=2),
    "arcee": replace(_LLAMA, num_ffn_matrices=2),
    "nemotron": replace(_LLAMA, num_ffn_matrices=2, norm_vectors=2),
    "orion": replace(_LLAMA, norm_vectors=2),
    "stablelm": Family(
        defaults=_UNTIED,
        norm_vectors=2,
        qkv_bias="use_qkv_bias",
        vary=lambda fields: {
            "norms_per_layer": 1 if fields.flag("use_parallel_residual") else 2,
            "qk_norm": "full" if fields.flag("qk_layernorm") else "none",
        },
    ),
    "persimmon": Family(
        defaults=_UNTIED | {"qk_layernorm": True},
        norm_vectors=2,
        qkv_bias=True,
        out_bias=True,
        ffn_bias=True,
        num_ffn_matrices=2,
        qk_norm_vectors=2,
        vary=lambda fields: {"qk_norm": "head" if fields.flag("qk_layernorm") else "none"},
    ),
    "afmoe": Family(
        defaults=_windowed(1024, 4)
        | {"attention_gate": True, "first_k_dense_replace": 1, "n_shared_experts": 2},
        norms_per_layer=4,
        qk_norm="head",
        has_experts=True,
        router_bias=True,
    ),
}
"""By `model_type`; those of LayerNorm and a plain network are in `decoder_older.py`."""

SAME_AS = {
    "granite": "llama",
    "yi": "llama",
    "Yi": "llama",
    "baichuan": "llama",
    "xverse": "llama",
    "aquila": "llama",
    "aquila2": "llama",
    "smollm": "llama",
    "hyperclovax": "llama",
    "mistral_text": "mistral",
    "ministral": "mistral",
    "kimi_k2": "deepseek_v3",
    "granitemoeshared": "granitemoe",
    "stablelm_epoch": "stablelm",
    "phi-msft": "phi",
    "phi3_v": "phi3",
    "solar_open": "glm4_moe",
    "qwen2_vl": "qwen2",
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
    "gemma3": "gemma3_text",
    "llama4": "llama4_text",
    "mllama_text_model": "llama",
}
"""Other `model_type`s of the same network, or of its decoder."""
