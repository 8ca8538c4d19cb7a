"""Rotary position embedding: frequencies, YaRN, and the two ways of pairing dimensions.

Shape letters: T position, H head, R rotary size of a head, P = R / 2 frequencies, ... any leading dimensions.
A rotation is held as one complex number per pair, e^(i * position * frequency): turning a query is then one
complex multiplication, one read and one write, on CPU several times faster than the form with cos and sin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class YarnScaling:
    """How YaRN stretches a context (arXiv 2309.00071; DeepSeek-V3 4.3)."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float
    beta_slow: float


def inverse_frequencies(rotary_dim: int, theta: float) -> Tensor:
    """Radians per position of each pair: theta^(-2i / R), fp32 [P]."""
    exponents_P = torch.arange(0, rotary_dim, 2, dtype=torch.float64, device="cpu") / rotary_dim
    return (theta**-exponents_P).float()


def yarn_inverse_frequencies(rotary_dim: int, theta: float, yarn: YarnScaling) -> Tensor:
    """Frequencies after YaRN, fp32 [P]: fast pairs stay, slow ones are divided by the factor, a ramp between.

    Source: `precompute_freqs_cis` of the DeepSeek-V3 reference, restated.
    """
    plain_P = inverse_frequencies(rotary_dim, theta)

    def pair_that_turns(times: float) -> float:
        """The (fractional) pair index that makes `times` full turns over the original context."""
        wavelength_ratio = yarn.original_max_position_embeddings / (2 * math.pi * times)
        return rotary_dim * math.log(wavelength_ratio) / (2 * math.log(theta))

    low = max(math.floor(pair_that_turns(yarn.beta_fast)), 0)
    high = min(math.ceil(pair_that_turns(yarn.beta_slow)), rotary_dim - 1)
    # The reference nudges an empty ramp open by the same amount.
    width = high - low if high > low else 0.001
    pairs_P = torch.arange(rotary_dim // 2, dtype=torch.float32, device="cpu")
    ramp_P = ((pairs_P - low) / width).clamp(0, 1)
    return plain_P * (1 - ramp_P) + plain_P / yarn.factor * ramp_P


def yarn_mscale(factor: float, mscale: float) -> float:
    """YaRN's attention temperature: 0.1 * mscale * ln(factor) + 1, and 1 where nothing is stretched."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def rotation_table(
    frequencies_P: Tensor, num_positions: int, *, scale: float = 1.0, passed_pairs: int = 0
) -> Tensor:
    """The rotation of every position, complex64 [num_positions, passed_pairs + P].

    The first `passed_pairs` pairs are ones: a head whose leading dimensions carry no position can then be
    turned whole, without being split and joined again. `scale` stretches the rotated pairs only.
    """
    positions_T = torch.arange(num_positions, dtype=torch.float64, device="cpu")
    angles_TP = torch.outer(positions_T, frequencies_P.double())
    turned_TP = torch.polar(torch.full_like(angles_TP, scale), angles_TP)
    passed_TP = turned_TP.new_ones(num_positions, passed_pairs)
    return torch.cat((passed_TP, turned_TP), dim=-1).to(torch.complex64)


def rotate_adjacent(x: Tensor, rotation: Tensor) -> Tensor:
    """Turns the pairs (0, 1), (2, 3), ... of `x` [..., R] by `rotation` [..., P], as DeepSeek."""
    pairs = torch.view_as_complex(_at_least_fp32(x).contiguous().view(*x.shape[:-1], x.shape[-1] // 2, 2))
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)


def rotate_halves(x: Tensor, rotation: Tensor) -> Tensor:
    """Turns the pairs (0, P), (1, P + 1), ... of `x` [..., R] by `rotation` [..., P], as Llama and Qwen."""
    turned: Tensor = _RotateHalves.apply(x, rotation)  # type: ignore[no-untyped-call]
    return turned


class _RotateHalves(torch.autograd.Function):
    """Turning back is the gradient of turning: cheaper than to walk back through its products one by one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rotation: Tensor) -> Tensor:
        ctx.save_for_backward(rotation)
        return _turn_halves(x, rotation.real, rotation.imag)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (rotation,) = ctx.saved_tensors
        return _turn_halves(grad, rotation.real, -rotation.imag), None


def _turn_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = _at_least_fp32(x).chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)


def _at_least_fp32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
