"""Names between our module tree and the public safetensors layout.

Ours are the public names, with two exceptions:

    ours                                          public
    X.mlp.experts.gate_proj        [E, I, D]      X.mlp.experts.{0..E-1}.gate_proj.weight      [I, D]
    X.mlp.experts.up_proj          [E, I, D]      X.mlp.experts.{0..E-1}.up_proj.weight        [I, D]
    X.mlp.experts.down_proj        [E, D, I]      X.mlp.experts.{0..E-1}.down_proj.weight      [D, I]
    mtp.K.norm.weight                             model.layers.{L+K}.shared_head.norm.weight
    mtp.K.REST                                    model.layers.{L+K}.REST

where L is `num_hidden_layers`. Public MTP layers also carry copies of the embedding and of the output head.
Both rotary pairings stay as they are published: adjacent for DeepSeek, halves for Llama and Qwen; `eh_proj`
reads [embedding, hidden] (DeepSeek-V3 repository, README_WEIGHTS).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from openbook.model.config import ModelConfig

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"

_STACKED = re.compile(r"(?P<experts>.+\.mlp\.experts)\.(?P<matrix>gate_proj|up_proj|down_proj)")
_LAYER = re.compile(r"model\.layers\.(?P<layer>\d+)\.")
_MTP = re.compile(r"mtp\.(?P<depth>\d+)\.(?P<rest>.+)")


def public_views(config: ModelConfig, state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Every public name with the part of our storage behind it.

    `state` is a Transformer's state dict. Writing reads the views, loading copies into them,
    so that both directions are this one function.
    """
    for name, tensor in state.items():
        public = _public_name(config, name)
        stacked = _STACKED.fullmatch(public)
        if stacked is None:
            yield public, tensor
            continue
        for expert, matrix in enumerate(tensor.unbind(0)):
            yield f"{stacked['experts']}.{expert}.{stacked['matrix']}.weight", matrix


def public_tensors(config: ModelConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All that a public checkpoint holds, on the CPU, the copies of the MTP layers included."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in public_views(config, state)}
    # A safetensors file holds no tensor twice under two names: a copy has to be one.
    copies = {copy: tensors[original].clone() for copy, original in mtp_copies(config).items()}
    return tensors | copies


@torch.no_grad()
def load_public(
    config: ModelConfig, state: Mapping[str, Tensor], read: Callable[[str, tuple[int, ...]], Tensor]
) -> None:
    """Fill `state` in place, casting to its dtypes; `read(name, shape)` gives a public tensor or raises."""
    for name, view in public_views(config, state):
        view.copy_(read(name, tuple(view.shape)))


def public_copies(config: ModelConfig) -> dict[str, str]:
    """Public names that may only repeat another tensor, and which: MTP's two tables, and a tied head."""
    tied = {HEAD: EMBEDDING} if config.tie_word_embeddings else {}
    return tied | mtp_copies(config)


def is_ignored(config: ModelConfig, name: str) -> bool:
    """Whether a public tensor has rightly no place in our model.

    True for the layers behind the last one that `config` has, which is how a checkpoint with
    MTP modules is read without them, and for the tabled rotary frequencies of old Llamas.
    """
    if name.endswith(".rotary_emb.inv_freq"):
        return True
    layer, num_blocks = _LAYER.match(name), config.num_hidden_layers + config.num_nextn_predict_layers
    return layer is not None and int(layer["layer"]) >= num_blocks


def mtp_prefix(config: ModelConfig, depth: int) -> str:
    """`model.layers.61.` for the first (depth 0) module behind 61 layers."""
    return f"model.layers.{config.num_hidden_layers + depth}."


def mtp_copies(config: ModelConfig) -> dict[str, str]:
    """The tables that a public MTP layer repeats, and which they repeat."""
    head = EMBEDDING if config.tie_word_embeddings else HEAD
    prefixes = [mtp_prefix(config, depth) for depth in range(config.num_nextn_predict_layers)]
    return {
        prefix + table: original
        for prefix in prefixes
        for table, original in (("embed_tokens.weight", EMBEDDING), ("shared_head.head.weight", head))
    }


def _public_name(config: ModelConfig, name: str) -> str:
    module = _MTP.fullmatch(name)
    if module is None:
        return name
    rest = "shared_head.norm.weight" if module["rest"] == "norm.weight" else module["rest"]
    return mtp_prefix(config, int(module["depth"])) + rest
