"""The families of public decoders: what their configurations leave to be known. No torch.

Facts of the published code of each: which vectors and matrices a layer has, and what an absent
field means. `FAMILIES` has the dense ones by `model_type`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from openbook.model.decoder_layers import Family

TIED = {"tie_word_embeddings": True}
UNTIED = {"tie_word_embeddings": False}


def windowed(size: int | None, pattern: int | None = None, *, tied: bool = False) -> dict[str, Any]:
    """Defaults of a family with sliding windows: all layers, or all but each `pattern`-th."""
    common = {"use_sliding_window": True, "sliding_window": size, "tie_word_embeddings": tied}
    return common if pattern is None else {**common, "sliding_window_pattern": pattern}


# --- Llama and its like: RMSNorm twice, a gate, no biases unless told

BASE = Family(defaults=UNTIED, qkv_bias="attention_bias", out_bias="attention_bias")
LLAMA_SIZES = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
LLAMA = Family(
    defaults=UNTIED,
    class_sizes=LLAMA_SIZES,
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    ffn_bias="mlp_bias",
)
_MISTRAL = Family(
    defaults=windowed(4096) | {"num_key_value_heads": 8},
    class_sizes={**LLAMA_SIZES, "intermediate_size": 14336},
)
_MINISTRAL3 = Family(defaults=UNTIED | {"num_key_value_heads": 8})

# --- Qwen

_QWEN_SIZES = {**LLAMA_SIZES, "vocab_size": 151936, "intermediate_size": 22016}
QWEN_WINDOW = {"sliding_window": 4096, "max_window_layers": 28, "tie_word_embeddings": False}
_QWEN2 = Family(defaults=QWEN_WINDOW, class_sizes=_QWEN_SIZES, qkv_bias=True)
QWEN3 = Family(
    defaults=QWEN_WINDOW | {"head_dim": 128},
    class_sizes=_QWEN_SIZES,
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    qk_norm="head",
)
_QWEN1 = Family(
    defaults=UNTIED,
    qkv_bias=True,
    # Theirs is the size of gate and value together.
    settle=lambda fields: {"intermediate_size": fields.need("intermediate_size") // 2},
)

# --- Gemma, Cohere, OLMo, GLM, EXAONE

_GEMMA_SIZES = {"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26}
_GEMMA = replace(
    BASE,
    defaults=TIED | {"head_dim": 256},
    class_sizes={"vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576}
    | {"num_hidden_layers": 28, "num_attention_heads": 16},
)
_GEMMA2 = replace(
    BASE,
    defaults=windowed(4096, 2, tied=True) | {"head_dim": 256, "num_key_value_heads": 4},
    class_sizes={**_GEMMA_SIZES, "vocab_size": 256000, "num_attention_heads": 8},
    norms_per_layer=4,
)
_GEMMA3 = replace(
    _GEMMA2,
    defaults=windowed(4096, 6, tied=True) | {"head_dim": 256, "num_key_value_heads": 4},
    class_sizes={**_GEMMA_SIZES, "vocab_size": 262208, "num_attention_heads": 8},
    qk_norm="head",
)
_COHERE = replace(
    BASE,
    defaults=TIED,
    norms_per_layer=1,
    vary=lambda fields: {"qk_norm": "full" if fields.flag("use_qk_norm") else "none"},
)
_COHERE2 = replace(_COHERE, defaults=windowed(4096, 4, tied=True))
_OLMO = replace(LLAMA, norm_vectors=0, ffn_bias=False)
OLMO2 = replace(LLAMA, qk_norm="full", ffn_bias=False)
_OLMO3 = replace(OLMO2, defaults=windowed(4096, 4))
_GLM = Family(
    defaults=UNTIED | {"attention_bias": True, "head_dim": 128, "num_key_value_heads": 2},
    qkv_bias="attention_bias",
)
_GLM4 = replace(_GLM, norms_per_layer=4)
_EXAONE4 = Family(defaults=windowed(4096, 4), qk_norm="head")
_SEED_OSS = Family(
    defaults=UNTIED | {"attention_bias": True, "head_dim": 128, "num_key_value_heads": 8},
    qkv_bias="attention_bias",
    out_bias="attention_out_bias",
    ffn_bias="mlp_bias",
)
_CHATGLM = Family(
    defaults=UNTIED, qkv_bias="add_qkv_bias", out_bias="add_bias_linear", ffn_bias="add_bias_linear"
)
_INTERNLM = Family(defaults=UNTIED | {"bias": True}, qkv_bias="bias", out_bias="bias")
_MINICPM3 = Family(
    defaults=TIED | {"q_lora_rank": 768, "kv_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32}
)
_BITNET = replace(
    BASE,
    defaults=UNTIED | {"num_key_value_heads": 5},
    # What attention and the gate found is normed once more.
    vary=lambda fields: {"num_other_elements": fields.need("hidden_size") + fields.need("intermediate_size")},
)

# --- Phi, Granite, DBRX

_PHI = Family(
    defaults=UNTIED,
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
    defaults=windowed(None),
    class_sizes={**LLAMA_SIZES, "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192},
)
_GRANITE_SWA = replace(
    BASE,
    defaults=windowed(128, 4, tied=True) | {"pattern_starts_full": True, "num_key_value_heads": 4},
    has_sinks=True,
)

FAMILIES: dict[str, Family] = {
    "llama": LLAMA,
    "mistral": _MISTRAL,
    "ministral3": _MINISTRAL3,
    "qwen": _QWEN1,
    "qwen2": _QWEN2,
    "qwen3": QWEN3,
    "ernie4_5": Family(
        defaults=TIED | {"head_dim": 128, "num_key_value_heads": 2},
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
    "olmo2": OLMO2,
    "olmo3": _OLMO3,
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
    "granite_swa": _GRANITE_SWA,
    "cwm": Family(
        defaults=windowed(8192, 4) | {"pattern_starts_full": True, "head_dim": 128, "num_key_value_heads": 8}
    ),
    "smollm3": replace(LLAMA, defaults=TIED | {"num_key_value_heads": 4}),
    "minicpm": replace(LLAMA, defaults=TIED, has_experts=True),
    "exaone": replace(LLAMA, defaults=TIED, ffn_bias=False),
    "hunyuan_v1_dense": replace(LLAMA, ffn_bias=False, qk_norm="head"),
    "helium": replace(LLAMA, defaults=UNTIED | {"head_dim": 128}, out_bias=False),
    "apertus": replace(LLAMA, num_ffn_matrices=2, qk_norm="head", ffn_bias=False, num_other_elements=2),
    "arcee": replace(LLAMA, num_ffn_matrices=2),
    "nemotron": replace(LLAMA, num_ffn_matrices=2, norm_vectors=2),
    "jais2": replace(
        LLAMA,
        defaults=UNTIED | {"attention_bias": True, "mlp_bias": True},
        num_ffn_matrices=2,
        norm_vectors=2,
    ),
    "nanochat": replace(BASE, num_ffn_matrices=2, norm_vectors=0),
    "orion": replace(LLAMA, norm_vectors=2),
    "stablelm": Family(
        defaults=UNTIED,
        norm_vectors=2,
        qkv_bias="use_qkv_bias",
        vary=lambda fields: {
            "norms_per_layer": 1 if fields.flag("use_parallel_residual") else 2,
            "qk_norm": "full" if fields.flag("qk_layernorm") else "none",
        },
    ),
    "persimmon": Family(
        defaults=UNTIED | {"qk_layernorm": True},
        norm_vectors=2,
        qkv_bias=True,
        out_bias=True,
        ffn_bias=True,
        num_ffn_matrices=2,
        qk_norm_vectors=2,
        vary=lambda fields: {"qk_norm": "head" if fields.flag("qk_layernorm") else "none"},
    ),
}
"""By `model_type`; with experts they are in `decoder_sparse.py`, from GPT-2 on in `decoder_older.py`."""

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
    "deepseek_v32": "deepseek_v3",
    "glm_moe_dsa": "deepseek_v3",
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
