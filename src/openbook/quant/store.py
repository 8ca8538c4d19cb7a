"""Checkpoints of quantised models: written whole, read back as they are stored or dequantised.

    config.json, quantization_config                       tensors of a matrix X
    {"quant_method": "openbook", "format": "int8"}         X.weight int8, X.weight_scale
    {"quant_method": "openbook", "format": "int4"}         X.weight uint8, X.weight_scale, X.weight_minimum
    {"quant_method": "fp8", "fmt": "e4m3", ...}            X.weight e4m3, X.weight_scale_inv: DeepSeek-V3's

A matrix that is stored plainly among them is a plain tensor X.weight, as all are in bf16, which needs no
`quantization_config`. fp8 is read from any public checkpoint in this form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from openbook.errors import UserError, nearest
from openbook.model.checkpoint import (
    CONFIG_NAME,
    Checkpoint,
    Content,
    check_surplus,
    public_extras,
    write_checkpoint,
)
from openbook.model.config import ModelConfig
from openbook.model.convert import load_public, mtp_copies, public_views
from openbook.model.public import to_public
from openbook.model.transformer import Transformer
from openbook.model.weights import WeightFiles, WeightReader
from openbook.quant.formats import BLOCK_SIZE, WeightFormat, can_hold, find_format
from openbook.quant.modules import QuantizedMatrix, plain_state, replace_matrices, stored_parts
from openbook.quant.weight import CLASSES, Bf16Weight, QuantizedWeight, holds_half, stack

if TYPE_CHECKING:
    from openbook.model.gguf import GgufCheckpoint

OWN_METHOD = "openbook"
PUBLIC_METHOD = "fp8"

_PUBLIC_FP8 = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "quant_method": PUBLIC_METHOD,
    "weight_block_size": [BLOCK_SIZE, BLOCK_SIZE],
}
_WITHOUT_EFFECT = ("scale_fmt", "modules_to_not_convert")
"""Keys that say what the tensors show by themselves: factors of powers of two, matrices that are plain."""


def load_model(
    folder: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    with_mtp: bool = True,
    dequantized: bool = False,
) -> tuple[Checkpoint, Transformer]:
    """The checkpoint in `folder` and its network, quantised or plain, as `load_weights` reads it."""
    checkpoint = Checkpoint.open(folder)
    return checkpoint, load_weights(checkpoint, device, dtype, with_mtp=with_mtp, dequantized=dequantized)


def load_weights(
    checkpoint: Checkpoint | GgufCheckpoint,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    with_mtp: bool = True,
    dequantized: bool = False,
) -> Transformer:
    """The network of any checkpoint in evaluation mode, computing in `dtype`.

    Quantised matrices keep their stored form, or with `dequantized` become the plain parameters that training
    needs. Those of a GGUF file in Q4_1 and Q4_0 are kept as int4. Raises UserError as `Checkpoint.load` does,
    and where the form is unknown or a scale is missing.
    """
    if not isinstance(checkpoint, Checkpoint):
        return checkpoint.load(device, dtype) if dequantized else _load_groups(checkpoint, device, dtype)
    if not checkpoint.quantization:
        return checkpoint.load(device, dtype, with_mtp=with_mtp)
    stored = read_quantization(checkpoint.quantization, where=str(checkpoint.folder / CONFIG_NAME))
    config = checkpoint.config if with_mtp else replace(checkpoint.config, num_nextn_predict_layers=0)
    weights = WeightFiles.find(checkpoint.folder)
    checkpoint.verify()
    with torch.device("meta"):
        model = Transformer(config)
    with weights.reading() as reader:
        shelf = _Shelf(config=config, stored=stored, reader=reader)
        if not dequantized:
            model = replace_matrices(model, shelf.choose)
        model = model.to(dtype=dtype).to_empty(device=device)
        load_public(config, plain_state(model), shelf.read)
        check_surplus(config, shelf.known, reader)
    return model.eval()


def _load_groups(checkpoint: GgufCheckpoint, device: torch.device | str, dtype: torch.dtype) -> Transformer:
    """The network of a GGUF file, its matrices of four bits as int4, without loss."""

    def choose(name: str, plain: Tensor) -> QuantizedWeight | None:
        groups = checkpoint.affine_groups(name)
        if groups is None or groups.num_bits != 4 or groups.codes_NK.shape != plain.shape:
            return None
        if not (holds_half(groups.scale_NG) and holds_half(groups.minimum_NG)):
            return None
        return QuantizedWeight.from_affine_groups(groups.codes_NK, groups.scale_NG, groups.minimum_NG)

    with torch.device("meta"):
        model = Transformer(checkpoint.config)
    checkpoint.check_surplus(model.state_dict())
    model = replace_matrices(model, choose).to(dtype=dtype).to_empty(device=device)
    load_public(checkpoint.config, plain_state(model), checkpoint.read)
    return model.eval()


def save_quantized(
    folder: Path,
    model: Transformer,
    *,
    provenance: Mapping[str, Any],
    extra_files: Sequence[Path] = (),
    token_ids: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Write a model of `quantize_model` to `folder`, bit by bit as it is; the rest as `save_checkpoint` does.

    Its matrices are of one format, or in bf16.
    """
    formats = {one.stored.format for one in model.modules() if isinstance(one, QuantizedMatrix)}
    formats -= {WeightFormat.BF16}
    assert len(formats) <= 1, f"{formats} in one model"
    quantization = quantization_config(formats.pop() if formats else WeightFormat.BF16)
    public = to_public(model.config) | public_extras(torch.bfloat16, token_ids or {})
    if quantization:
        public["quantization_config"] = quantization
    # Nobody else reads our own form, so that the copies for others' sake would only take room.
    copies = {} if quantization.get("quant_method") == OWN_METHOD else mtp_copies(model.config)
    content = Content(config=model.config, public=public, tensors=_public_tensors(model, copies))
    return write_checkpoint(folder, content, provenance=provenance, extra_files=extra_files)


def quantization_config(stored: WeightFormat) -> dict[str, Any]:
    """What config.json says of matrices stored so: nothing of bf16, which is plain."""
    if stored is WeightFormat.BF16:
        return {}
    own = {"quant_method": OWN_METHOD, "format": stored.value}
    return dict(_PUBLIC_FP8) if stored is WeightFormat.FP8 else own


def read_quantization(quantization: Mapping[str, Any], *, where: str) -> WeightFormat:
    """The form that a `quantization_config` describes. UserError for one that we do not have."""
    method = quantization.get("quant_method")
    if method == OWN_METHOD:
        stored = find_format(str(quantization.get("format")), where=where)
    elif method == PUBLIC_METHOD:
        stored = WeightFormat.FP8
    else:
        mend = nearest(str(method), [OWN_METHOD, PUBLIC_METHOD])
        raise UserError(f"{where}: unknown quant_method {method!r}", mend)
    known = quantization_config(stored)
    for key, value in quantization.items():
        if key not in _WITHOUT_EFFECT and value != known.get(key):
            mend = f"only {known[key]!r} is supported" if key in known else ""
            raise UserError(f"{where}: quantization_config.{key} = {value!r} is not supported", mend)
    return stored


def _public_tensors(model: Transformer, copies: Mapping[str, str]) -> dict[str, Tensor]:
    """All tensors on the CPU under their public names, and copies of some under other ones."""
    states: dict[str, dict[str, Tensor]] = {"": plain_state(model)}
    for part in stored_parts(model).values():
        states.setdefault(part.suffix, {})[part.parameter] = part.tensor
    tensors = {
        public + suffix: tensor.detach().cpu().contiguous()
        for suffix, state in states.items()
        for public, tensor in public_views(model.config, state)
    }
    # A safetensors file holds no tensor twice under two names: a copy has to be one.
    return tensors | {
        copy + suffix: tensors[original + suffix].clone()
        for copy, original in copies.items()
        for suffix in states
        if original + suffix in tensors
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shelf:
    """The open files of a quantised checkpoint, read by matrix."""

    config: ModelConfig
    stored: WeightFormat
    reader: WeightReader
    known: set[str] = field(default_factory=set)
    """Every tensor that was asked for."""

    def choose(self, name: str, plain: Tensor) -> QuantizedWeight | None:
        """The stored form of one of our matrices or stacks; None where it is plain, and not in bf16."""
        views = public_views(self.config, {name: plain})
        found = [self._matrix(public, tuple(view.shape)) for public, view in views]
        matrices = [one for one in found if isinstance(one, QuantizedWeight)]
        if len(matrices) < len(found):
            return None
        if len({type(one) for one in matrices}) > 1:
            raise UserError(
                f"{self.reader.weights.folder}: the experts of {name} are stored in several forms"
            )
        return matrices[0] if plain.ndim == 2 else stack(matrices)

    def read(self, public: str, shape: tuple[int, ...]) -> Tensor:
        """A public tensor, dequantised where it is a matrix in fewer bits."""
        if len(shape) != 2:
            return self._tensor(public, shape)
        matrix = self._matrix(public, shape)
        return matrix.dequantize() if isinstance(matrix, QuantizedWeight) else matrix

    def _matrix(self, public: str, shape: tuple[int, ...]) -> QuantizedWeight | Tensor:
        """A public matrix [N, K] as it is stored, or a plain tensor."""
        num_rows, num_columns = shape
        stored = self.stored if can_hold(self.stored, num_columns) else WeightFormat.BF16
        cls = CLASSES[stored]
        layout = cls.layout(num_rows, num_columns)
        codes_part, (codes_dtype, codes_shape) = next(iter(layout.items()))
        is_packed = self.reader.weights.shapes.get(public) == codes_shape
        codes = self._tensor(public, codes_shape if is_packed else shape)
        if codes.dtype != codes_dtype:
            if codes.dtype in (torch.float32, torch.float16):
                return codes
            if codes.dtype == torch.bfloat16:
                return Bf16Weight(values=codes)
            raise self._unsupported(public, codes.dtype)
        parts = {codes_part: codes}
        for part, (dtype, part_shape) in list(layout.items())[1:]:
            parts[part] = self._scale(public + cls.suffixes[part], dtype, part_shape)
        return cls(**parts)

    def _scale(self, public: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        """A scale, in a type that holds what is stored exactly."""
        scale = self._tensor(public, shape)
        if not scale.is_floating_point() or torch.promote_types(scale.dtype, dtype) != dtype:
            raise self._unsupported(public, scale.dtype)
        if not scale.isfinite().all():
            raise UserError(f"{self._home(public)}: tensor {public} holds NaN or infinity", "copy it again")
        return scale.to(dtype)

    def _tensor(self, public: str, shape: tuple[int, ...]) -> Tensor:
        self.known.add(public)
        return self.reader.read(public, shape)

    def _unsupported(self, public: str, dtype: torch.dtype) -> UserError:
        told = str(dtype).removeprefix("torch.")
        return UserError(f"{self._home(public)}: tensor {public} is {told}, which is not of {self.stored}")

    def _home(self, public: str) -> Path:
        return self.reader.weights.homes[public]
