"""The public `config.json` and our ModelConfig, each read from the other. No torch.

    from_public({"model_type": "deepseek_v3", ...}) -> ModelConfig
    to_public(config) -> {"model_type": "deepseek_v3", ...}

Read and written: `deepseek_v3`, `deepseek_v2`, `llama`, `qwen3` and `qwen2`, in the layout that other
loaders know. A network that none of them describes (an unusual router, experts beside grouped-query
attention) is written under the model type `openbook`, which only this project reads. A key that would
change the network in a way we do not have is an error, never silently dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openbook.config import dump, parse
from openbook.errors import UserError, nearest
from openbook.model.config import GQAConfig, MLAConfig, ModelConfig, YarnConfig

OWN_MODEL_TYPE = "openbook"

_ARCHITECTURES = {
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    OWN_MODEL_TYPE: "OpenbookForCausalLM",
}

_SHAPE_KEYS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "rms_norm_eps",
)
_MLA_KEYS = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
_EXPERT_KEYS = ("n_routed_experts", "n_shared_experts", "num_experts_per_tok", "moe_intermediate_size")

_ONLY_SUPPORTED = {
    "hidden_act": "silu",
    "mlp_bias": False,
    "attention_dropout": 0,
    "use_sliding_window": False,
    "moe_layer_freq": 1,
    "rope_interleave": True,
    "partial_rotary_factor": 1,
}
"""Keys that change the network, with the one value that ours has; absent and null are that value."""

_KINDS: dict[Any, str] = {
    bool: "true or false",
    (int, float): "a number",
    str: "a string",
    list: "a list",
    Mapping: "an object",
}
"""What a value of each JSON type is called; bool comes first, since Python counts it among the integers."""


def from_public(public: Mapping[str, Any], *, where: str = "config.json") -> ModelConfig:
    """The ModelConfig that a public configuration describes.

    Raises UserError for an unknown model type, a missing key or a value that we do not
    support, each by its name; `where` is the file that the errors speak of.
    """
    model_type = public.get("model_type")
    if model_type == OWN_MODEL_TYPE:
        return parse(ModelConfig, public.get("model", {}), where=f"{where}: model")
    if model_type not in _ARCHITECTURES:
        mend = nearest(str(model_type), list(_ARCHITECTURES))
        raise UserError(f"{where}: unknown model_type {model_type!r}", mend)
    keys = _Keys(public, where=where)
    keys.check_supported()
    read = _read_deepseek if model_type.startswith("deepseek") else _read_dense
    return parse(ModelConfig, read(keys), where=where)


def to_public(config: ModelConfig) -> dict[str, Any]:
    """The public configuration of `config`; `from_public` gives `config` back, with `init_std` resolved."""
    model_type = public_model_type(config)
    head = {"architectures": [_ARCHITECTURES[model_type]], "model_type": model_type}
    if model_type == OWN_MODEL_TYPE:
        return head | {"model": dump(config)}
    return head | _write_common(config) | _write_attention(config) | _write_experts(config)


def quantization_of(public: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """What a public configuration says of how its weights are stored; empty where they are plain."""
    quantization: Mapping[str, Any] = _Keys(public, where=where).get("quantization_config", {})
    return dict(quantization)


def public_model_type(config: ModelConfig) -> str:
    """The public architecture that computes what `config` does, or `openbook` where there is none."""
    attention, moe = config.attention, config.moe
    has_mtp = config.num_nextn_predict_layers > 0
    if isinstance(attention, GQAConfig):
        dense = {(False, False): "llama", (True, False): "qwen3", (False, True): "qwen2"}
        model_type = dense.get((attention.qk_norm, config.attention_bias), OWN_MODEL_TYPE)
        return model_type if moe is None and not has_mtp else OWN_MODEL_TYPE
    if moe is None or (moe.topk_method == "noaux_tc" and moe.scoring_func == "sigmoid"):
        return "deepseek_v3"
    v2_routing = moe.topk_method != "noaux_tc" and moe.scoring_func == "softmax" and not moe.norm_topk_prob
    return "deepseek_v2" if v2_routing and not has_mtp else OWN_MODEL_TYPE


@dataclass(frozen=True, slots=True)
class _Keys:
    """A public configuration with errors that name the key. A key that is null counts as absent."""

    values: Mapping[str, Any]
    where: str

    def need(self, *names: str) -> dict[str, Any]:
        """Numbers that have to be there."""
        for name in names:
            if self.values.get(name) is None:
                raise UserError(
                    f"{self.where}: {name} is missing",
                    f"a {self.values['model_type']} configuration has to give it",
                )
        return {name: self.get(name, 0) for name in names}

    def get(self, name: str, default: Any) -> Any:
        """The value of a key, of the same kind as `default`, which is what an absent key means."""
        value = self.values.get(name)
        if value is None:
            return default
        kinds = next(kinds for kinds in _KINDS if isinstance(default, kinds))
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise UserError(f"{self.where}: {name} = {value!r} has to be {_KINDS[kinds]}")
        return value

    def get_number(self, name: str) -> float | None:
        return None if self.values.get(name) is None else float(self.get(name, 0))

    def check(self, name: str, supported: Any) -> None:
        if self.get(name, supported) != supported:
            self.refuse(name, f"only {supported!r} is supported")

    def check_supported(self) -> None:
        for name, supported in _ONLY_SUPPORTED.items():
            self.check(name, supported)
        if any(kind != "full_attention" for kind in self.get("layer_types", [])):
            self.refuse("layer_types", "only 'full_attention' is supported")

    def refuse(self, name: str, mend: str) -> None:
        raise UserError(f"{self.where}: {name} = {self.values.get(name)!r} is not supported", mend)


def _read_common(keys: _Keys) -> dict[str, Any]:
    shape = keys.need(*_SHAPE_KEYS)
    for name, value in shape.items():
        if value <= 0:
            keys.refuse(name, "it has to be positive")
    return {
        **shape,
        "tie_word_embeddings": keys.get("tie_word_embeddings", False),
        "init_std": keys.get_number("initializer_range"),
    }


def _read_deepseek(keys: _Keys) -> dict[str, Any]:
    common = _read_common(keys)
    num_heads = common["num_attention_heads"]
    if keys.get("num_key_value_heads", num_heads) != num_heads:
        keys.refuse("num_key_value_heads", "latent attention has as many as num_attention_heads")
    # Some writers say 0 where others say null: no query compression.
    q_lora_rank = keys.get("q_lora_rank", 0) or None
    num_modules = keys.get("num_nextn_predict_layers", keys.get("num_mtp_layers", 0))
    return {
        **common,
        **_read_rope(keys, is_mla=True),
        "attention": {**keys.need(*_MLA_KEYS[1:]), "kind": "mla", "q_lora_rank": q_lora_rank},
        "attention_bias": keys.get("attention_bias", False),
        "moe": _read_experts(keys, num_blocks=common["num_hidden_layers"] + num_modules),
        "num_nextn_predict_layers": num_modules,
    }


def _read_experts(keys: _Keys, num_blocks: int) -> dict[str, Any] | None:
    """The mixture of experts, or None where every block (the MTP modules included) is dense."""
    is_v3 = keys.values["model_type"] == "deepseek_v3"
    first = keys.need("first_k_dense_replace")["first_k_dense_replace"]
    if first >= num_blocks:
        return None
    return {
        **keys.need(*_EXPERT_KEYS),
        "first_k_dense_replace": first,
        "n_group": keys.get("n_group", 1),
        "topk_group": keys.get("topk_group", 1),
        "routed_scaling_factor": keys.get("routed_scaling_factor", 1.0),
        "norm_topk_prob": keys.get("norm_topk_prob", is_v3),
        "scoring_func": keys.get("scoring_func", "sigmoid" if is_v3 else "softmax"),
        "topk_method": keys.get("topk_method", "noaux_tc" if is_v3 else "greedy"),
    }


def _read_dense(keys: _Keys) -> dict[str, Any]:
    """Llama and Qwen: grouped-query attention and a dense feed-forward network."""
    common = _read_common(keys)
    num_heads, model_type = common["num_attention_heads"], keys.values["model_type"]
    if model_type != "qwen2" and keys.get("attention_bias", False):
        keys.refuse("attention_bias", "only the three biases of qwen2 are, none behind the attention")
    return {
        **common,
        **_read_rope(keys, is_mla=False),
        "attention_bias": model_type == "qwen2",
        "attention": {
            "kind": "gqa",
            "num_key_value_heads": keys.get("num_key_value_heads", num_heads),
            "head_dim": keys.get("head_dim", common["hidden_size"] // num_heads),
            "qk_norm": model_type == "qwen3",
        },
    }


def _read_rope(keys: _Keys, *, is_mla: bool) -> dict[str, Any]:
    """`rope_theta` and `yarn` from either spelling: `rope_scaling` and `rope_theta`, or `rope_parameters`."""
    name = "rope_scaling" if keys.values.get("rope_parameters") is None else "rope_parameters"
    table = keys.get(name, {})
    if any(isinstance(value, Mapping) for value in table.values()):
        keys.refuse(name, "only one rope for all layers is supported")
    kind = table.get("rope_type", table.get("type", "default"))
    rope = _Keys({**table, "model_type": f"{kind} rope"}, where=f"{keys.where}: {name}")
    rope.check("partial_rotary_factor", 1)
    theta = rope.get("rope_theta", keys.get("rope_theta", 10000.0))
    if kind == "default":
        return {"rope_theta": theta, "yarn": None}
    if kind != "yarn":
        raise UserError(f"{rope.where}: rope type {kind!r} is not supported", "known: default, yarn")
    return {"rope_theta": theta, "yarn": _read_yarn(rope, is_mla=is_mla)}


def _read_yarn(rope: _Keys, *, is_mla: bool) -> dict[str, Any]:
    rope.check("truncate", True)
    return {
        **rope.need("factor", "original_max_position_embeddings"),
        "beta_fast": rope.get("beta_fast", 32.0),
        "beta_slow": rope.get("beta_slow", 1.0),
        **(_read_mla_scales(rope) if is_mla else _read_gqa_scales(rope)),
    }


def _read_mla_scales(rope: _Keys) -> dict[str, float]:
    if rope.get_number("attention_factor") is not None:
        rope.refuse("attention_factor", "latent attention takes mscale and mscale_all_dim")
    return {"mscale": rope.get("mscale", 1.0), "mscale_all_dim": rope.get("mscale_all_dim", 0.0)}


def _read_gqa_scales(rope: _Keys) -> dict[str, float]:
    """Llama and Qwen scale the rotation alone, by `attention_factor` or what follows from the mscales.

    The same factor is reached with `mscale_all_dim` = 0 and one `mscale`.
    """
    factor, mscale, all_dim = rope.get("factor", 1), rope.get("mscale", 0), rope.get("mscale_all_dim", 0)
    attention_factor = rope.get_number("attention_factor")
    if attention_factor is None and mscale and all_dim:
        attention_factor = temperature(factor, mscale) / temperature(factor, all_dim)
    if attention_factor is None or factor <= 1:
        return {"mscale": 1.0, "mscale_all_dim": 0.0}
    return {"mscale": (attention_factor - 1) / (0.1 * math.log(factor)), "mscale_all_dim": 0.0}


def temperature(factor: float, mscale: float) -> float:
    """YaRN's attention temperature (arXiv 2309.00071): 0.1 mscale ln(factor) + 1, or 1 without stretching."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _write_common(config: ModelConfig) -> dict[str, Any]:
    return {key: getattr(config, key) for key in _SHAPE_KEYS} | {
        "hidden_act": "silu",
        "attention_bias": config.attention_bias,
        "attention_dropout": 0.0,
        "initializer_range": config.initial_std,
        "tie_word_embeddings": config.tie_word_embeddings,
        "rope_theta": config.rope_theta,
        "rope_scaling": None if config.yarn is None else _write_yarn(config.yarn, config.attention),
    }


def _write_yarn(yarn: YarnConfig, attention: MLAConfig | GQAConfig) -> dict[str, Any]:
    written: dict[str, Any] = {
        "type": "yarn",
        "factor": yarn.factor,
        "original_max_position_embeddings": yarn.original_max_position_embeddings,
        "beta_fast": yarn.beta_fast,
        "beta_slow": yarn.beta_slow,
    }
    if isinstance(attention, MLAConfig):
        return written | {"mscale": yarn.mscale, "mscale_all_dim": yarn.mscale_all_dim}
    if yarn.mscale == 1.0:
        return written
    # Theirs scales the rotation alone. In ours mscale_all_dim divides the rotation and, squared,
    # multiplies the softmax, so that it cancels out of the scores.
    return written | {"attention_factor": temperature(yarn.factor, yarn.mscale)}


def _write_attention(config: ModelConfig) -> dict[str, Any]:
    attention = config.attention
    if isinstance(attention, MLAConfig):
        sizes = {key: getattr(attention, key) for key in _MLA_KEYS}
        return {**sizes, "num_key_value_heads": config.num_attention_heads}
    return {"num_key_value_heads": attention.num_key_value_heads, "head_dim": attention.head_dim}


def _write_experts(config: ModelConfig) -> dict[str, Any]:
    """The expert keys of DeepSeek; a dense one says that its dense layers never end."""
    if isinstance(config.attention, GQAConfig):
        return {}
    modules = {"num_nextn_predict_layers": config.num_nextn_predict_layers}
    num_layers = config.num_hidden_layers
    if config.moe is None:
        return modules | {"first_k_dense_replace": num_layers + config.num_nextn_predict_layers}
    # An MTP module is always of experts, even behind a main model that is dense throughout.
    first = min(config.moe.first_k_dense_replace, num_layers)
    return modules | dump(config.moe) | {"first_k_dense_replace": first, "moe_layer_freq": 1}
