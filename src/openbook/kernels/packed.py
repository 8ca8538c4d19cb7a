"""Matrices packed for the native kernels: panels of 32 outputs, read in order (native/linear.h).

Shape letters: N output, K input, P panel of 32 outputs, G group of 32 inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

PANEL = 32
GROUP = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedMatrix:
    """A matrix [N, K] in the order in which it is read. `format` is the code of native/linear.h."""

    format: int
    num_outputs: int
    num_inputs: int
    data: Tensor
    scale: Tensor | None = None
    minimum: Tensor | None = None

    @property
    def num_bytes(self) -> int:
        """What one pass over the matrix reads."""
        return sum(tensor.nbytes for tensor in (self.data, self.scale, self.minimum) if tensor is not None)

    def map(self, move: Callable[[Tensor], Tensor]) -> PackedMatrix:
        """The same matrix with its tensors moved."""
        return replace(
            self,
            data=move(self.data),
            scale=None if self.scale is None else move(self.scale),
            minimum=None if self.minimum is None else move(self.minimum),
        )


def pack_fp32(weight_NK: Tensor) -> PackedMatrix:
    """fp32 [P, K, 32]."""
    num_outputs, num_inputs = weight_NK.shape
    panels_PNK = _panels(weight_NK.detach().float())
    return PackedMatrix(
        format=0,
        num_outputs=num_outputs,
        num_inputs=num_inputs,
        data=panels_PNK.transpose(1, 2).contiguous(),
    )


def pack_bf16(weight_NK: Tensor) -> PackedMatrix:
    """bf16 by pairs of inputs [P, K / 2, 32, 2], K padded to a multiple of 32."""
    num_outputs, num_inputs = weight_NK.shape
    padded_NK = F.pad(weight_NK.detach().to(torch.bfloat16), (0, -num_inputs % GROUP))
    panels_PNK = _panels(padded_NK)
    pairs_PNK2 = panels_PNK.view(len(panels_PNK), PANEL, -1, 2)
    return PackedMatrix(
        format=1,
        num_outputs=num_outputs,
        num_inputs=num_inputs,
        data=pairs_PNK2.transpose(1, 2).contiguous(),
    )


def pack_int8(codes_NK: Tensor, scale_N: Tensor) -> PackedMatrix:
    """int8 [P, K, 32] and one fp32 scale an output."""
    num_outputs, num_inputs = codes_NK.shape
    return PackedMatrix(
        format=2,
        num_outputs=num_outputs,
        num_inputs=num_inputs,
        data=_panels(codes_NK).transpose(1, 2).contiguous(),
        scale=F.pad(scale_N.float(), (0, -num_outputs % PANEL)).contiguous(),
    )


def pack_int4(pairs_NK: Tensor, scale_NG: Tensor, minimum_NG: Tensor) -> PackedMatrix:
    """Two codes a byte, uint8 [P, K / 2, 32], the even input in the low nibble; fp16 scale and minimum.

    `pairs_NK` has K / 2 bytes a row; K must be a multiple of 32.
    """
    num_outputs, num_inputs = len(pairs_NK), 2 * pairs_NK.shape[1]
    assert num_inputs % GROUP == 0, num_inputs
    return PackedMatrix(
        format=3,
        num_outputs=num_outputs,
        num_inputs=num_inputs,
        data=_panels(pairs_NK).transpose(1, 2).contiguous(),
        scale=_panels(scale_NG.half()).transpose(1, 2).contiguous(),
        minimum=_panels(minimum_NG.half()).transpose(1, 2).contiguous(),
    )


def stack_packed(packed: list[PackedMatrix]) -> PackedMatrix:
    """Equal matrices one behind the other: the experts of a layer, or the heads."""
    first = packed[0]

    def stack(tensors: list[Tensor | None]) -> Tensor | None:
        present = [tensor for tensor in tensors if tensor is not None]
        return torch.stack(present) if present else None

    return PackedMatrix(
        format=first.format,
        num_outputs=first.num_outputs,
        num_inputs=first.num_inputs,
        data=torch.stack([one.data for one in packed]),
        scale=stack([one.scale for one in packed]),
        minimum=stack([one.minimum for one in packed]),
    )


def _panels(matrix_NK: Tensor) -> Tensor:
    """[N, K] -> [P, 32, K], the last panel padded with zeros."""
    padded_NK = F.pad(matrix_NK, (0, 0, 0, -len(matrix_NK) % PANEL)).contiguous()
    return padded_NK.view(-1, PANEL, matrix_NK.shape[1])
