"""Affine groups: the block formats of GGUF that are a scale and a minimum for 32 codes.

Shape letters: N output feature (row), K input feature, G = K / 32 groups, P byte of a group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from gguf import GGMLQuantizationType
from numpy.typing import NDArray
from torch import Tensor

GROUP_SIZE = 32
_HALF_BYTES = 2
_MIDDLE_OF_Q4_0 = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class AffineGroups:
    """A matrix as it is stored: w = scale * code + minimum, without loss.

    The stored scales and minima are fp16; here they are fp32, which holds -8 times a scale, the minimum of
    Q4_0, exactly too.
    """

    codes_NK: Tensor
    """uint8 in 0..15 for Q4_0 and Q4_1, int8 for Q8_0."""
    scale_NG: Tensor
    minimum_NG: Tensor
    """Zero throughout for Q8_0."""
    num_bits: int
    """Bits of a code: 4 or 8."""

    def dequantize(self) -> Tensor:
        """The weights, fp32 [N, K]: every value that the file can hold is exact."""
        weights_NGK = self.codes_NK.view(*self.scale_NG.shape, GROUP_SIZE).float()
        weights_NGK.mul_(self.scale_NG[..., None]).add_(self.minimum_NG[..., None])
        return weights_NGK.flatten(1)


def affine_groups(stored_NP: NDArray[np.uint8], kind: GGMLQuantizationType) -> AffineGroups | None:
    """The groups in the bytes of a matrix, one row each; None for a type that is not made of them.

    A group is its scale, its minimum (Q4_1 alone), then the codes: a byte each, or two to a byte, the low
    halves being the first sixteen (ggml-common.h).
    """
    num_headers = {
        GGMLQuantizationType.Q4_0: 1,
        GGMLQuantizationType.Q4_1: 2,
        GGMLQuantizationType.Q8_0: 1,
    }.get(kind)
    if num_headers is None:
        return None
    is_wide = kind is GGMLQuantizationType.Q8_0
    header_bytes = num_headers * _HALF_BYTES
    group_bytes = header_bytes + (GROUP_SIZE if is_wide else GROUP_SIZE // 2)
    num_rows = len(stored_NP)
    groups_NGP = stored_NP.reshape(num_rows, -1, group_bytes)
    headers_NGH = groups_NGP[..., :header_bytes].copy().view("<f2").astype(np.float32)
    codes_NGP = groups_NGP[..., header_bytes:]
    if is_wide:
        codes = codes_NGP.copy().view(np.int8)
    else:
        codes = np.concatenate((codes_NGP & 15, codes_NGP >> 4), axis=-1)
    scale_NG = headers_NGH[..., 0]
    minimum_NG = {
        GGMLQuantizationType.Q4_0: -_MIDDLE_OF_Q4_0 * scale_NG,
        GGMLQuantizationType.Q4_1: headers_NGH[..., -1],
    }.get(kind, np.zeros_like(scale_NG))
    return AffineGroups(
        codes_NK=torch.from_numpy(codes.reshape(num_rows, -1)),
        scale_NG=torch.from_numpy(scale_NG.copy()),
        minimum_NG=torch.from_numpy(minimum_NG.copy()),
        num_bits=8 if is_wide else 4,
    )
