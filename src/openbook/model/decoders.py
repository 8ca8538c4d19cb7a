"""Any public decoder's `config.json` as an Architecture. No torch.

    read_decoder(json.loads(path.read_text()), where=str(path)) -> Architecture

A known `model_type` is read with the defaults and the layout of its published code; an
unknown one with usual field names is read as what its fields say, and `warnings` say so.
What is no decoder of attention layers (encoders, state-space models and mixtures with them)
is refused: a number would be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openbook.config import parse
from openbook.errors import UserError
from openbook.model.architecture import Architecture, architecture_of
from openbook.model.config import ModelConfig
from openbook.model.decoder_families import FAMILIES, SAME_AS
from openbook.model.decoder_fields import Fields, rename
from openbook.model.decoder_layers import Family, build_layers
from openbook.model.decoder_older import OLDER_FAMILIES, OLDER_SAME_AS
from openbook.model.decoder_refusals import refuse_others
from openbook.model.decoder_sparse import SPARSE_FAMILIES
from openbook.model.public import OWN_MODEL_TYPE
from openbook.model.shapes import group_layers

_INNER = ("text_config", "language_config", "llm_config", "thinker_config")
_OTHER_MODES = ("vision_config", "audio_config", "visual", "vision_tower", "talker_config", "dac_config")

MOST_LAYERS = 10_000
"""Each is looked at, so that a slip in a digit must not take minutes and all memory."""
_ESSENTIAL = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")


def read_decoder(public: Mapping[str, Any], where: str = "config.json") -> Architecture:
    """The decoder that a public configuration describes.

    Raises UserError for what is no such decoder, a missing size or a value that is none, each
    by its name; `where` is the file that the errors speak of.
    """
    if not isinstance(public, Mapping):
        raise UserError(f"{where} holds no object", "name a public config.json")
    if public.get("model_type") == OWN_MODEL_TYPE:
        return architecture_of(parse(ModelConfig, public.get("model", {}), where=f"{where}: model"))
    inner, warnings = _inside(public, where)
    is_nested = inner is not public
    refuse_others(inner, where)
    model_type = _model_type(inner, public)
    name = (SAME_AS | OLDER_SAME_AS).get(model_type, model_type)
    known = (FAMILIES | SPARSE_FAMILIES | OLDER_FAMILIES).get(name)
    values = rename(inner)
    if known is None:
        family, assumed = _guess(values, model_type)
        warnings = [*warnings, *assumed]
    else:
        family = known
    values = {**family.defaults, **values, "model_type": model_type}
    if is_nested:
        lacking = [key for key in family.class_sizes if values.get(key) is None]
        values |= {key: family.class_sizes[key] for key in lacking}
    return _assemble(family, Fields(values, where), tuple(warnings))


def _assemble(family: Family, fields: Fields, warnings: tuple[str, ...]) -> Architecture:
    sizes = {name: fields.need(name) for name in _ESSENTIAL}
    num_layers, width = sizes["num_hidden_layers"], sizes["hidden_size"]
    if num_layers > MOST_LAYERS:
        raise UserError(
            f"{fields.where}: num_hidden_layers = {num_layers} is more than {MOST_LAYERS:,}",
            "give the layers of one decoder",
        )
    if family.settle is not None:
        fields = Fields({**fields.values, **family.settle(fields)}, fields.where)
    if family.vary is not None:
        family = replace(family, **family.vary(fields))
    num_modules = fields.get("num_nextn_predict_layers", 0)
    layers = build_layers(family, fields, num_layers + (num_modules > 0))
    embedding_size = fields.number("word_embed_proj_dim")
    return Architecture(
        model_type=str(fields.values["model_type"]),
        vocab_size=sizes["vocab_size"],
        hidden_size=width,
        groups=group_layers(layers[:num_layers]),
        tie_word_embeddings=fields.flag("tie_word_embeddings"),
        embedding_size=None if embedding_size == width else embedding_size,
        num_position_elements=_positions(family, fields),
        num_norm_elements=(family.has_final_norm + family.has_embedding_norm) * family.norm_vectors * width,
        num_bias_elements=sizes["vocab_size"] if fields.flag(family.head_bias) else 0,
        num_mtp_modules=num_modules,
        mtp_layer=layers[num_layers] if num_modules else None,
        max_position_embeddings=fields.number("max_position_embeddings"),
        warnings=warnings,
    )


def _positions(family: Family, fields: Fields) -> int:
    if family.position_offset is None:
        return 0
    rows = fields.need("max_position_embeddings") + family.position_offset
    return rows * fields.need("hidden_size")


def _inside(public: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], list[str]]:
    """The decoder's part of a configuration, and what was left out of it."""
    outer, inner = public, public
    while True:
        name = next((key for key in _INNER if isinstance(inner.get(key), Mapping)), None)
        if name is None:
            break
        outer, inner = inner, inner[name]
    warnings = []
    others = sorted({key for part in (public, outer, inner) for key in _OTHER_MODES if part.get(key)})
    if others:
        warnings.append(f"{', '.join(others)} left out: the decoder of the text alone is counted")
    if inner is not public and "tie_word_embeddings" not in inner and "tie_word_embeddings" in outer:
        inner = {**inner, "tie_word_embeddings": outer["tie_word_embeddings"]}
    return inner, warnings


def _model_type(inner: Mapping[str, Any], public: Mapping[str, Any]) -> str:
    model_type = inner.get("model_type") or public.get("model_type") or ""
    if model_type == "chatglm" and "position_encoding_2d" in inner:
        return "chatglm1"
    return str(model_type)


def _guess(values: Mapping[str, Any], model_type: str) -> tuple[Family, list[str]]:
    """The family that the fields of an unknown type speak for, and the lines that say so."""
    is_plain = str(values.get("hidden_act", values.get("activation_function", "silu"))) in _PLAIN
    is_plain = is_plain and any(name in values for name in ("ffn_dim", "n_inner", "n_embd"))
    is_plain = is_plain or str(values.get("hidden_act")) in _NEVER_GATED
    has_experts = bool(values.get("num_experts"))
    family = Family(
        defaults={"tie_word_embeddings": False},
        qk_norm="head" if values.get("use_qk_norm") or values.get("qk_layernorm") else "none",
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        router_bias=values.get("topk_method") == "noaux_tc",
        num_ffn_matrices=2 if is_plain else 3,
        ffn_bias="mlp_bias",
        ffn_multiple=4 if is_plain else None,
        norm_vectors=2 if "layer_norm_epsilon" in values or "layer_norm_eps" in values else 1,
        has_experts=has_experts,
    )
    said = f"model_type {model_type!r}" if model_type else "a configuration without model_type"
    network = "a plain feed-forward network" if is_plain else "a gated feed-forward network"
    experts = ", experts in each layer that no field excludes" if has_experts else ""
    lines = [
        f"{said} is not known: read as what its fields say",
        f"assumed: {network}{experts}, two norms a layer, biases only where a field says so",
    ]
    if "tie_word_embeddings" not in values:
        lines.append("assumed: embedding and head are two tables (tie_word_embeddings is not given)")
    return family, lines


_NEVER_GATED = {"relu2", "gelu_new", "xielu"}
_PLAIN = {"gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "relu2", "quick_gelu"}
