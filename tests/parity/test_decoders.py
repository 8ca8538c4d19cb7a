"""A public configuration counts as many parameters as the network that `transformers` makes of it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from openbook.model.decoder_families import FAMILIES
from openbook.model.decoder_fields import rename
from openbook.model.decoder_older import OLDER_FAMILIES
from openbook.model.decoder_sparse import SPARSE_FAMILIES
from openbook.model.decoders import read_decoder

transformers = pytest.importorskip("transformers", reason="a test dependency: `pip install openbook[test]`")
from transformers import CONFIG_MAPPING, AutoModelForCausalLM  # noqa: E402  only where it is installed

DECODERS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "decoders.json").read_text()
)

# Numbers that steer the router are buffers there and parameters here, as they are in the checkpoint.
STEERING = ("e_score_correction_bias", "expert_bias")

# Their code comes with their weights.
WITHOUT_CLASS = {"qwen", "deepseek", "kimi_k2", "chatglm", "internlm2", "baichuan", "minicpm"}

# What a configuration has to give; the rest is left to the defaults of its class, and to ours.
ESSENTIAL = """
model_type vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size num_experts
num_experts_per_tok moe_intermediate_size q_lora_rank kv_lora_rank qk_nope_head_dim qk_rope_head_dim
v_head_dim shared_intermediate_size
"""
# Classes that cannot be made of their defaults.
BROKEN_BY_DEFAULT = {
    "dbrx",
    "deepseek_v2",
    "dots1",
    "gpt_neo",
    "granitemoehybrid",
    "hunyuan_v1_dense",
    "nemotron",
}


def text_of(name: str) -> dict[str, Any]:
    config = DECODERS[name]["config"]
    return dict(config.get("text_config", config))


def size(model: Any) -> int:
    """Parameters, tied ones once."""
    steering = sum(
        tensor.numel() for name, tensor in model.named_buffers() if name.rpartition(".")[2] in STEERING
    )
    return steering + sum(int(tensor.numel()) for tensor in model.parameters())


def on_meta(known: Any) -> Any:
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        return AutoModelForCausalLM.from_config(known)


def class_config(name: str) -> Any:
    """The configuration as its class resolves it."""
    config = text_of(name)
    return CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))


with_class = [name for name in DECODERS if text_of(name)["model_type"] not in WITHOUT_CLASS]


@pytest.mark.parametrize("name", with_class)
def test_a_published_decoder_counts_as_transformers_builds_it(name: str) -> None:
    found = read_decoder(DECODERS[name]["config"], where=name)
    assert found.parameters_total == size(on_meta(class_config(name)))


windowed = [name for name in with_class if text_of(name).get("sliding_window")]


@pytest.mark.parametrize("name", [*windowed, "llama-4-scout"])
def test_windows_lie_in_the_layers_where_transformers_has_them(name: str) -> None:
    known = class_config(name)
    found = read_decoder(DECODERS[name]["config"], where=name)
    num_windowed = sum(group.num_layers for group in found.groups if group.layer.attention.window)
    kinds = getattr(known, "layer_types", None)
    if kinds is None:
        assert num_windowed == (known.num_hidden_layers if known.sliding_window else 0)
    else:
        assert num_windowed == sum(kind != "full_attention" for kind in kinds)


by_default = sorted(
    (FAMILIES.keys() | SPARSE_FAMILIES.keys() | OLDER_FAMILIES.keys())
    & set(CONFIG_MAPPING) - BROKEN_BY_DEFAULT
)


@pytest.mark.parametrize("model_type", by_default)
def test_the_defaults_of_a_family_are_those_of_its_class(model_type: str) -> None:
    known = CONFIG_MAPPING[model_type](num_hidden_layers=6)
    given = {name: value for name, value in rename(known.to_dict()).items() if name in ESSENTIAL.split()}
    found = read_decoder(given, where=model_type)
    assert found.parameters_total == size(on_meta(known))
    if kinds := getattr(known, "layer_types", None):
        num_windowed = sum(group.num_layers for group in found.groups if group.layer.attention.window)
        assert num_windowed == sum(kind != "full_attention" for kind in kinds)
