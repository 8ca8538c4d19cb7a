"""How far each matrix of a quantised model is from the plain one, beside what its format states."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from openbook.quant.formats import WeightFormat
from openbook.quant.weight import QuantizedWeight


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixReport:
    """One matrix, or the stack of a layer's experts."""

    name: str
    shape: tuple[int, ...]
    stored: WeightFormat
    num_bytes: int
    largest_error: float
    """Largest |w - w^|."""
    share_of_bound: float
    """Largest |w - w^| / bound, each element against its own: never above 1."""
    relative_rms: float
    """Root mean square of w - w^, relative to that of w; 0 for a matrix of zeros."""


@torch.no_grad()
def measure(name: str, weight: Tensor, made: QuantizedWeight) -> MatrixReport:
    """Hold `made` against the `weight` it was made of."""
    weight = weight.float()
    error = (weight - made.dequantize()).abs()
    # A bound of zero, for a group of int4 that is one fp16 throughout, is met by an error of zero.
    bound = made.error_bound(weight).clamp_min(torch.finfo(torch.float32).tiny)
    norm = float(torch.linalg.vector_norm(weight))
    return MatrixReport(
        name=name,
        shape=made.shape,
        stored=made.format,
        num_bytes=made.num_bytes,
        largest_error=float(error.max()),
        share_of_bound=float((error / bound).max()),
        relative_rms=float(torch.linalg.vector_norm(error)) / norm if norm else 0.0,
    )
