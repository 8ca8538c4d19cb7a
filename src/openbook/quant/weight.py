"""QuantizedWeight: a matrix in fewer bits, as plain contiguous tensors that a kernel can read.

Shape letters: N output, K input, G group of 32 inputs, Y and X block of 128 outputs and inputs. Every tensor
may have more dimensions in front, which stack matrices of one shape: the experts of a layer.

    stored = quantize(weight, WeightFormat.INT4, name="lm_head.weight")
    stored.packed, stored.scale, stored.minimum
    stored.dequantize(torch.bfloat16)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from openbook.errors import UserError
from openbook.quant.formats import (
    BLOCK_SIZE,
    E4M3_MAX,
    GROUP_SIZE,
    INT4_MAX,
    INT8_MAX,
    LARGEST,
    WeightFormat,
    num_blocks,
)

_SMALLEST_NORMAL = torch.finfo(torch.float32).tiny
_SMALLEST_HALF = 2.0**-24

Layout = dict[str, tuple[torch.dtype, tuple[int, ...]]]


class QuantizedWeight(ABC):
    """One matrix [N, K], or a stack of them [..., N, K]; each format has its parts as dataclass fields."""

    format: ClassVar[WeightFormat]
    suffixes: ClassVar[Mapping[str, str]]
    """The field of each part, with what its stored name has behind that of the matrix."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of the matrix, not of its codes."""

    @classmethod
    @abstractmethod
    def layout(cls, num_rows: int, num_columns: int) -> Layout:
        """Type and shape of each part of one matrix, the codes first."""

    @abstractmethod
    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The whole matrix [..., N, K], computed in fp32 and then cast."""

    @abstractmethod
    def error_bound(self, weight: Tensor) -> Tensor:
        """What |weight - dequantize()| never exceeds, by element; `weight` is what this was made of."""

    @classmethod
    def from_affine_groups(cls, codes: Tensor, scale: Tensor, minimum: Tensor) -> Int4Weight:
        """int4 from codes 0..15 [..., N, K] and scale and minimum [..., N, G], without loss: Q4_1 and Q4_0.

        AssertionError unless fp16 holds scale and minimum: see `holds_half`.
        """
        assert codes.shape[-1] == scale.shape[-1] * GROUP_SIZE, (codes.shape, scale.shape)
        assert bool(((codes >= 0) & (codes <= INT4_MAX)).all()), "four bits"
        assert holds_half(scale) and holds_half(minimum)
        codes = codes.to(torch.uint8)
        packed = codes[..., 0::2] | (codes[..., 1::2] << 4)
        scale, minimum = (part.to(torch.float16).contiguous() for part in (scale, minimum))
        return Int4Weight(packed=packed, scale=scale, minimum=minimum)

    def parts(self) -> dict[str, Tensor]:
        """The tensors by the name of their field."""
        return {field.name: getattr(self, field.name) for field in fields(cast("type", type(self)))}

    def dequantize_rows(self, indices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Those rows of one matrix [..., K] that an embedding looks up by integers [...]."""
        return self.map(lambda part: part[indices]).dequantize(dtype)

    @property
    def num_bytes(self) -> int:
        return sum(part.nbytes for part in self.parts().values())

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with every part changed: moved to a device, or one expert of a stack taken out."""
        return type(self)(**{name: change(part) for name, part in self.parts().items()})


@dataclass(frozen=True, kw_only=True, slots=True)
class Bf16Weight(QuantizedWeight):
    """Plain bfloat16: w^ is the nearest."""

    format: ClassVar = WeightFormat.BF16
    suffixes: ClassVar = {"values": ""}

    values: Tensor
    """bfloat16 [..., N, K]."""

    @classmethod
    def quantize(cls, weight: Tensor) -> Self:
        return cls(values=weight.to(torch.bfloat16).contiguous())

    @classmethod
    def layout(cls, num_rows: int, num_columns: int) -> Layout:
        return {"values": (torch.bfloat16, (num_rows, num_columns))}

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.values.to(dtype)

    def error_bound(self, weight: Tensor) -> Tensor:
        return weight.float().abs() * 2.0**-8 + 2.0**-134


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8Weight(QuantizedWeight):
    """w^ = scale * code."""

    format: ClassVar = WeightFormat.INT8
    suffixes: ClassVar = {"codes": "", "scale": "_scale"}

    codes: Tensor
    """int8 [..., N, K], -127..127."""
    scale: Tensor
    """fp32 [..., N]."""

    @classmethod
    def quantize(cls, weight: Tensor) -> Self:
        weight = weight.float()
        # A scale below the normal numbers would have too few bits of its own.
        scale = (weight.abs().amax(-1) / INT8_MAX).clamp_min(_SMALLEST_NORMAL)
        codes = (weight / scale[..., None]).round_().clamp_(-INT8_MAX, INT8_MAX)
        return cls(codes=codes.to(torch.int8), scale=scale)

    @classmethod
    def layout(cls, num_rows: int, num_columns: int) -> Layout:
        return {"codes": (torch.int8, (num_rows, num_columns)), "scale": (torch.float32, (num_rows,))}

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return (self.codes * self.scale[..., None]).to(dtype)

    def error_bound(self, weight: Tensor) -> Tensor:
        # A code is up to 127 scales: fp32 is off by 2^-17 scales in dividing, and again in multiplying.
        return (self.scale * (0.5 + 2.0**-16))[..., None].expand(self.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class Int4Weight(QuantizedWeight):
    """w^ = scale * code + minimum, by groups of 32 inputs."""

    format: ClassVar = WeightFormat.INT4
    suffixes: ClassVar = {"packed": "", "scale": "_scale", "minimum": "_minimum"}

    packed: Tensor
    """uint8 [..., N, K / 2]: codes 0..15, even k in the low half and odd k in the high half."""
    scale: Tensor
    """fp16 [..., N, G]."""
    minimum: Tensor
    """fp16 [..., N, G]."""

    @classmethod
    def quantize(cls, weight: Tensor) -> Int4Weight:
        assert weight.shape[-1] % GROUP_SIZE == 0, "whole groups; `format_of` sends others to bf16"
        groups = _in_groups(weight.float())
        minimum = _half_below(groups.amin(-1))
        reach = groups.amax(-1) - minimum.float()
        least = torch.where(reach > 0, _SMALLEST_HALF, 0.0)
        scale = _half_above(torch.maximum(reach / INT4_MAX, least))
        divisor = torch.where(scale > 0, scale.float(), 1.0)
        codes = ((groups - minimum.float()[..., None]) / divisor[..., None]).round_().clamp_(0, INT4_MAX)
        return cls.from_affine_groups(codes.to(torch.uint8).flatten(-2), scale, minimum)

    @classmethod
    def layout(cls, num_rows: int, num_columns: int) -> Layout:
        groups = (torch.float16, (num_rows, num_columns // GROUP_SIZE))
        return {"packed": (torch.uint8, (num_rows, num_columns // 2)), "scale": groups, "minimum": groups}

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.packed.shape[:-1], 2 * self.packed.shape[-1])

    def unpacked(self) -> Tensor:
        """The codes 0..15, one a byte: uint8 [..., N, K]."""
        return torch.stack((self.packed & INT4_MAX, self.packed >> 4), dim=-1).flatten(-2)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        groups = _in_groups(self.unpacked())
        scaled = groups * self.scale.float()[..., None] + self.minimum.float()[..., None]
        return scaled.flatten(-2).to(dtype)

    def error_bound(self, weight: Tensor) -> Tensor:
        scale, minimum = self.scale.float(), self.minimum.float()
        bound = scale / 2 + (minimum.abs() + INT4_MAX * scale) * 2.0**-21
        return bound.repeat_interleave(GROUP_SIZE, dim=-1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fp8Weight(QuantizedWeight):
    """w^ = scale_inv * code, by blocks of 128 x 128 of which the last ones may be parts."""

    format: ClassVar = WeightFormat.FP8
    suffixes: ClassVar = {"codes": "", "scale_inv": "_scale_inv"}

    codes: Tensor
    """float8_e4m3fn [..., N, K]."""
    scale_inv: Tensor
    """fp32 [..., Y, X]."""

    @classmethod
    def quantize(cls, weight: Tensor) -> Self:
        weight = weight.float()
        num_rows, num_columns = weight.shape[-2:]
        whole = F.pad(weight, (0, -num_columns % BLOCK_SIZE, 0, -num_rows % BLOCK_SIZE))
        num_down, num_across = num_blocks(num_rows), num_blocks(num_columns)
        blocks = whole.view(*weight.shape[:-2], num_down, BLOCK_SIZE, num_across, BLOCK_SIZE)
        scale_inv = (blocks.abs().amax((-3, -1)) / E4M3_MAX).clamp_min(_SMALLEST_NORMAL)
        scaled = weight / _per_element(scale_inv, num_rows, num_columns)
        return cls(codes=scaled.clamp_(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn), scale_inv=scale_inv)

    @classmethod
    def layout(cls, num_rows: int, num_columns: int) -> Layout:
        blocks = (torch.float32, (num_blocks(num_rows), num_blocks(num_columns)))
        return {"codes": (torch.float8_e4m3fn, (num_rows, num_columns)), "scale_inv": blocks}

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return (self.codes.float() * _per_element(self.scale_inv, *self.shape[-2:])).to(dtype)

    def dequantize_rows(self, indices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        factors = self.scale_inv[indices // BLOCK_SIZE].repeat_interleave(BLOCK_SIZE, dim=-1)
        return (self.codes[indices].float() * factors[..., : self.shape[-1]]).to(dtype)

    def error_bound(self, weight: Tensor) -> Tensor:
        least = _per_element(self.scale_inv, *self.shape[-2:]) * 2.0**-10
        return torch.maximum(weight.float().abs() * 2.0**-4, least) * (1 + 2.0**-18) + 2.0**-149


CLASSES: Mapping[WeightFormat, type[Bf16Weight | Int8Weight | Int4Weight | Fp8Weight]] = {
    WeightFormat.BF16: Bf16Weight,
    WeightFormat.INT8: Int8Weight,
    WeightFormat.INT4: Int4Weight,
    WeightFormat.FP8: Fp8Weight,
}


@torch.no_grad()
def quantize(weight: Tensor, stored: WeightFormat, *, name: str) -> QuantizedWeight:
    """`weight` [..., N, K] of any floating dtype in another form.

    UserError that gives `name` if it holds NaN, infinity, or more than the format takes.
    """
    low, high = (float(extreme) for extreme in weight.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"tensor {name} holds NaN or infinity", "a model that diverged cannot be quantised")
    if max(-low, high) > LARGEST[stored]:
        what = (
            f"tensor {name} reaches {max(-low, high):.4g}, and {stored} takes {LARGEST[stored]:.5g} at most"
        )
        raise UserError(what, "take another format")
    return CLASSES[stored].quantize(weight)


def holds_half(values: Tensor) -> bool:
    """Whether each of `values` is a finite fp16 number."""
    return bool(values.isfinite().all()) and torch.equal(values.half().to(values.dtype), values)


def stack(weights: Sequence[QuantizedWeight]) -> QuantizedWeight:
    """Matrices [N, K] of one format and shape as one stack [len, N, K]."""
    first = weights[0]
    assert all(type(one) is type(first) for one in weights), "one format"
    parts = [one.parts() for one in weights]
    return type(first)(**{name: torch.stack([one[name] for one in parts]) for name in parts[0]})


def _in_groups(matrix: Tensor) -> Tensor:
    """[..., K] -> [..., G, 32]."""
    return matrix.reshape(*matrix.shape[:-1], -1, GROUP_SIZE)


def _per_element(scale_inv: Tensor, num_rows: int, num_columns: int) -> Tensor:
    """The factor of each element [..., N, K] from those of the blocks [..., Y, X]."""
    by_row = scale_inv.repeat_interleave(BLOCK_SIZE, dim=-2)[..., :num_rows, :]
    return by_row.repeat_interleave(BLOCK_SIZE, dim=-1)[..., :num_columns]


def _half_above(x: Tensor) -> Tensor:
    """The least fp16 that is not below fp32 `x`."""
    near = x.half()
    # Counting up by one in the bits is one step away from zero.
    away = (near.abs().view(torch.int16) + 1).view(torch.float16)
    toward = (near.view(torch.int16) - 1).view(torch.float16)
    above = torch.where(near >= 0, away, toward)
    return torch.where(near.float() < x, above, near)


def _half_below(x: Tensor) -> Tensor:
    return -_half_above(-x)
