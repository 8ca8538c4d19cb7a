"""Families of public decoders with LayerNorm and a plain feed-forward network, GPT-2 and after. No torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from openbook.errors import UserError
from openbook.model.decoder_fields import Fields
from openbook.model.decoder_layers import Family

_TIED = {"tie_word_embeddings": True}
_UNTIED = {"tie_word_embeddings": False}

_GPT2 = Family(
    defaults=_TIED | {"max_position_embeddings": 1024},
    class_sizes={"vocab_size": 50257, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    norm_vectors=2,
    qkv_bias=True,
    out_bias=True,
    num_ffn_matrices=2,
    ffn_bias=True,
    ffn_multiple=4,
    position_offset=0,
)
_GPTJ = replace(
    _GPT2,
    defaults=_UNTIED,
    class_sizes={},
    norms_per_layer=1,
    qkv_bias=False,
    out_bias=False,
    head_bias=True,
    position_offset=None,
)


def _gpt_neo_layers(fields: Fields) -> dict[str, Any]:
    """`attention_types` is a list of patterns, each with how often it is repeated."""
    types = fields.items("attention_types")
    if types is None or fields.items("attention_layers") is not None:
        return {}
    num_layers = fields.need("num_hidden_layers")
    try:
        repeated = [kind for pattern, times in types for kind in pattern * min(times, num_layers)]
        return {"attention_layers": repeated}
    except (TypeError, ValueError):
        raise UserError(
            f"{fields.where}: attention_types = {types!r} is not understood",
            'it has to be like [[["global", "local"], 12]]',
        ) from None


_GPT_NEO = replace(
    _GPT2,
    defaults=_TIED
    | {
        "max_position_embeddings": 2048,
        "sliding_window": 256,
        "attention_types": [[["global", "local"], 12]],
    },
    class_sizes={},
    qkv_bias=False,
    settle=_gpt_neo_layers,
)
_GPT_NEOX = replace(
    _GPT2,
    defaults=_UNTIED | {"attention_bias": True},
    class_sizes={},
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    ffn_multiple=None,
    position_offset=None,
)


def _one_key(fields: Fields) -> dict[str, Any]:
    return {"num_key_value_heads": 1 if fields.flag("multi_query") else None}


_GPT_BIGCODE = replace(_GPT2, defaults={**_GPT2.defaults, "multi_query": True}, settle=_one_key)
_STARCODER2 = Family(
    defaults=_TIED
    | {
        "use_bias": True,
        "num_key_value_heads": 2,
        "use_sliding_window": True,
        "sliding_window": None,
    },
    norm_vectors=2,
    qkv_bias="use_bias",
    out_bias="use_bias",
    num_ffn_matrices=2,
    ffn_bias="use_bias",
)

_OPT = replace(
    _GPT2,
    defaults=_TIED
    | {"enable_bias": True, "do_layer_norm_before": True, "layer_norm_elementwise_affine": True}
    | {"max_position_embeddings": 2048},
    class_sizes={},
    qkv_bias="enable_bias",
    out_bias="enable_bias",
    ffn_bias="enable_bias",
    ffn_multiple=None,
    position_offset=2,
    vary=lambda fields: {
        "norm_vectors": 2 if fields.flag("layer_norm_elementwise_affine") else 0,
        "has_final_norm": fields.flag("do_layer_norm_before") and not fields.flag("_remove_final_layer_norm"),
    },
)
_XGLM = replace(_GPT2, defaults=_TIED, class_sizes={}, ffn_multiple=None, position_offset=None)
_BIOGPT = replace(_XGLM, defaults=_TIED | {"max_position_embeddings": 1024}, position_offset=2)
_BLOOM = replace(_GPT2, defaults=_TIED, class_sizes={}, position_offset=None, has_embedding_norm=True)


def _falcon_keys(fields: Fields) -> dict[str, Any]:
    """`num_kv_heads` counts in the new architecture alone; the old one has one key or all."""
    heads = fields.need("num_attention_heads")
    if fields.flag("new_decoder_architecture"):
        return {"num_key_value_heads": fields.number("num_key_value_heads") or heads}
    return {"num_key_value_heads": 1 if fields.flag("multi_query") else heads}


def _falcon_norms(fields: Fields) -> dict[str, Any]:
    if not fields.flag("parallel_attn"):
        return {"norms_per_layer": 2}
    is_new = fields.flag("new_decoder_architecture")
    return {"norms_per_layer": fields.get("num_ln_in_parallel_attn", 2) if is_new else 1}


_FALCON = Family(
    defaults=_TIED | {"multi_query": True, "parallel_attn": True},
    norm_vectors=2,
    qkv_bias="bias",
    out_bias="bias",
    num_ffn_matrices=2,
    ffn_bias="bias",
    ffn_multiple=4,
    settle=_falcon_keys,
    vary=_falcon_norms,
)


def _mpt_sizes(fields: Fields) -> dict[str, Any]:
    ratio = fields.values.get("expansion_ratio", 4)
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or ratio <= 0:
        raise UserError(f"{fields.where}: expansion_ratio = {ratio!r} has to be a positive number")
    one_key = fields.values.get("attn_type") == "multiquery_attention"
    return {"intermediate_size": int(ratio * fields.need("hidden_size"))} | (
        {"num_key_value_heads": 1} if one_key else {}
    )


_MPT = Family(
    defaults=_TIED | {"no_bias": True, "alibi": True, "max_position_embeddings": 2048},
    qkv_bias="not no_bias",
    out_bias="not no_bias",
    num_ffn_matrices=2,
    ffn_bias="not no_bias",
    settle=_mpt_sizes,
    vary=lambda fields: {
        "norm_vectors": 1 if fields.flag("no_bias") else 2,
        "qk_norm": "full" if fields.flag("qk_ln") else "none",
        "position_offset": None if fields.flag("alibi") else 0,
    },
)

_CTRL = replace(_GPT2, defaults=_TIED, class_sizes={}, head_bias=True, position_offset=None)
_CHATGLM1 = replace(_GPT2, defaults=_UNTIED, class_sizes={}, position_offset=None)

OLDER_FAMILIES: dict[str, Family] = {
    "gpt2": _GPT2,
    "gptj": _GPTJ,
    "codegen": _GPTJ,
    "gpt_neo": _GPT_NEO,
    "gpt_neox": _GPT_NEOX,
    "gpt_bigcode": _GPT_BIGCODE,
    "starcoder2": _STARCODER2,
    "opt": _OPT,
    "xglm": _XGLM,
    "biogpt": _BIOGPT,
    "bloom": _BLOOM,
    "falcon": _FALCON,
    "mpt": _MPT,
    "ctrl": _CTRL,
    "openai-gpt": replace(_GPT2, defaults=_TIED | {"max_position_embeddings": 512}, has_final_norm=False),
    "chatglm1": _CHATGLM1,
}

OLDER_SAME_AS = {
    "gpt-sw3": "gpt2",
    "RefinedWebModel": "falcon",
    "RefinedWeb": "falcon",
    "mosaic_gpt": "mpt",
}
