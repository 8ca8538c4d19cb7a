"""GGUF, the format of llama.cpp, read into our Transformer: Llama, Qwen2 and Qwen3.

Two things differ from the public safetensors layout. The names are llama.cpp's (`blk.0.attn_q.weight`), and
the query and key rows of a `llama` file are permuted, so that the pairs which its rope turns are adjacent;
ours lie half a head apart, so the permutation is undone. Qwen files are not permuted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from openbook.errors import UserError
from openbook.model.config import GQAConfig, ModelConfig
from openbook.model.convert import load_public
from openbook.model.gguf_config import ARCHITECTURES, read_config
from openbook.model.gguf_file import GgufFile, GgufTensor
from openbook.model.gguf_groups import AffineGroups, affine_groups
from openbook.model.transformer import Transformer
from openbook.model.weights import file_digest

_PERMUTED = {"llama": ("q_proj", "k_proj")}
"""The projections whose rows llama.cpp permutes, by architecture."""

_STRETCHED_ROPE = "rope_freqs.weight"


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufCheckpoint:
    """A model in a GGUF file, with the face of `checkpoint.Checkpoint`.

    `digest` is the sha256 of the file; nothing is known of where it comes from, so `provenance` is empty.
    """

    file: GgufFile
    config: ModelConfig
    digest: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> GgufCheckpoint:
        """Read the header; no tensor yet. UserError for a broken file or a network that we do not have."""
        file = GgufFile.open(path)
        return cls(file=file, config=read_config(file), digest=file_digest(path))

    @property
    def folder(self) -> Path:
        """Where it lies, under the name that `Checkpoint` has for it: here a file."""
        return self.file.path

    @property
    def metadata(self) -> Mapping[str, Any]:
        """All that the file says of itself, its tokenizer and chat template included."""
        return self.file.metadata

    def load(
        self,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        with_mtp: bool = True,
    ) -> Transformer:
        """The network with these weights, dequantised, in evaluation mode; no GGUF file has MTP modules.

        Raises UserError naming file and tensor if one is missing, surplus, of the wrong shape, or of a type
        that cannot be dequantised.
        """
        with torch.device("meta"):
            model = Transformer(self.config)
        model = model.to(dtype=dtype).to_empty(device=device)
        state = model.state_dict()
        self.check_surplus(state)
        load_public(self.config, state, self.read)
        return model.eval()

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor of our (public) name, fp32, its rows in our order. UserError as for `load`."""
        tensor = self._find(name)
        if tensor.shape != shape:
            what = f"{self.file.path}: tensor {tensor.name} has shape {list(tensor.shape)}"
            raise UserError(what, f"the metadata ask for {list(shape)}")
        return self._in_our_order(name, dequantize(self.file, tensor).reshape(shape))

    def affine_groups(self, name: str) -> AffineGroups | None:
        """The stored codes, scales and minima of a matrix of our name, its rows in our order.

        None for a tensor that is stored in another way than Q4_0, Q4_1 or Q8_0.
        """
        tensor = self._find(name)
        groups = affine_groups(self.file.read(tensor), tensor.type)
        if groups is None:
            return None
        return AffineGroups(
            codes_NK=self._in_our_order(name, groups.codes_NK),
            scale_NG=self._in_our_order(name, groups.scale_NG),
            minimum_NG=self._in_our_order(name, groups.minimum_NG),
            num_bits=groups.num_bits,
        )

    def _find(self, name: str) -> GgufTensor:
        stored = self._stored_name(name)
        tensor = self.file.tensors.get(stored)
        if tensor is None:
            raise UserError(f"{self.file.path}: tensor {stored} is missing", "the metadata ask for it")
        return tensor

    def _stored_name(self, name: str) -> str:
        return _stored_names(self._architecture, self.config.num_hidden_layers)(name)

    @property
    def _architecture(self) -> str:
        return str(self.metadata["general.architecture"])

    def _in_our_order(self, name: str, rows: Tensor) -> Tensor:
        projection = name.split(".")[-2]
        if projection not in _PERMUTED.get(self._architecture, ()):
            return rows
        assert isinstance(self.config.attention, GQAConfig)
        return unpermute(rows, len(rows) // self.config.attention.head_dim)

    def check_surplus(self, names: Iterable[str]) -> None:
        """UserError for a stored tensor that is none of our `names`."""
        known = {self._stored_name(name) for name in names}
        for name in self.file.tensors:
            if name == _STRETCHED_ROPE:
                what = f"{self.file.path}: tensor {name} stretches the rope of Llama 3.1 and later"
                raise UserError(what, "only plain rope and YaRN are supported")
            if name not in known:
                raise UserError(f"{self.file.path}: tensor {name} has no place in the model of the metadata")


def dequantize(file: GgufFile, tensor: GgufTensor) -> Tensor:
    """The values of a tensor, fp32, rows [N, K]: affine groups by our own code, all else by the library's."""
    stored = file.read(tensor)
    groups = affine_groups(stored, tensor.type)
    if groups is not None:
        return groups.dequantize()
    try:
        values = gguf.dequantize(stored, tensor.type)
    except NotImplementedError as error:
        what = f"{file.path}: tensor {tensor.name} is of type {tensor.type.name}"
        raise UserError(what, "the `gguf` library cannot dequantise it") from error
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def unpermute(rows: Tensor, num_heads: int) -> Tensor:
    """Undoes llama.cpp's permutation of the rows of a query or key projection: [heads * size, ...].

    It made of a head's halves adjacent pairs: row 2j + h of a head is row h * size/2 + j of ours.
    """
    return rows.view(num_heads, -1, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


@cache
def _stored_names(architecture: str, num_layers: int) -> Callable[[str], str]:
    """From our name of a tensor to llama.cpp's."""
    names = gguf.get_tensor_name_map(ARCHITECTURES[architecture], num_layers)

    def stored_name(name: str) -> str:
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert stored is not None, f"{name} has no name in a GGUF file"
        return stored

    return stored_name
