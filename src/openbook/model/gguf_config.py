"""The metadata of a GGUF file and our ModelConfig: Llama, Qwen2 and Qwen3. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np

from openbook.errors import UserError, nearest
from openbook.model.config import ModelConfig
from openbook.model.gguf_file import GgufFile
from openbook.model.public import from_public

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}
_REQUIRED = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
"""What our configuration is read from, and the metadata that give it."""

_ONLY_SUPPORTED: dict[str, Any] = {
    "expert_count": 0,
    "attention.sliding_window": 0,
    "attention.scale": 0.0,
    "logit_scale": 0.0,
    "residual_scale": 0.0,
    "embedding_scale": 0.0,
}
"""Metadata that change the network, with the value that means they do not; absent is that value."""


def read_config(file: GgufFile) -> ModelConfig:
    """The network that the metadata describe. UserError naming the key that is missing or not supported."""
    architecture = file.metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        mend = nearest(str(architecture), list(ARCHITECTURES))
        raise UserError(f"{file.path}: unknown architecture {architecture!r}", mend)
    keys = _Keys(file=file, architecture=architecture)
    for name, value in _ONLY_SUPPORTED.items():
        keys.check(name, value)
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise UserError(f"{file.path}: tensor token_embd.weight is missing", "every model has it")
    public = {name: keys.number(key) for name, key in _REQUIRED.items()}
    num_heads = public["num_attention_heads"]
    num_kv_heads = keys.number("attention.head_count_kv", num_heads)
    head_dim = keys.number("attention.key_length", public["hidden_size"] // num_heads)
    if num_heads % num_kv_heads or head_dim % 2:
        what = f"{file.path}: {num_heads} query and {num_kv_heads} key heads of {head_dim}"
        raise UserError(what, "whole groups of query heads, of an even size, are supported")
    keys.check("attention.value_length", head_dim)
    keys.check("rope.dimension_count", head_dim)
    shape = {
        "model_type": architecture,
        "vocab_size": embedding.shape[0],
        "num_key_value_heads": num_kv_heads,
        "head_dim": head_dim,
        "rope_theta": keys.number("rope.freq_base", 10000.0),
        "rope_scaling": _read_scaling(keys),
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }
    return from_public(public | shape, where=str(file.path))


def _read_scaling(keys: _Keys) -> dict[str, Any] | None:
    kind = keys.get("rope.scaling.type", "none")
    if kind == "none" or (kind == "linear" and keys.number("rope.scaling.factor", 1.0) == 1):
        return None
    if kind != "yarn":
        keys.refuse("rope.scaling.type", "known: none, yarn")
    return {
        "type": "yarn",
        "factor": keys.number("rope.scaling.factor"),
        "original_max_position_embeddings": keys.number("rope.scaling.original_context_length"),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Keys:
    """The metadata of an architecture, with errors that name the key."""

    file: GgufFile
    architecture: str

    def get(self, name: str, default: Any) -> Any:
        return self.file.metadata.get(f"{self.architecture}.{name}", default)

    def number(self, name: str, default: float | None = None) -> Any:
        """A positive number, the shortest that its 32 bits can mean; without a default it has to be there."""
        value = self.get(name, default)
        if value is None:
            raise UserError(f"{self.file.path}: {self.architecture}.{name} is missing")
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            self.refuse(name, "it has to be a positive number, the same for all layers")
        return value if isinstance(value, int) else float(str(np.float32(value)))

    def check(self, name: str, supported: Any) -> None:
        if self.get(name, supported) != supported:
            self.refuse(name, f"only {supported!r} is supported")

    def refuse(self, name: str, mend: str) -> None:
        key = f"{self.architecture}.{name}"
        raise UserError(f"{self.file.path}: {key} = {self.get(name, None)!r} is not supported", mend)
