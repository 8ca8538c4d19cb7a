"""RMS norm, with a backward written out for CPU.

Autograd walks back through every small step of the norm there; the closed form takes 0.4 of the time. On an
accelerator torch's own fused kernel is used both ways.
Shape letters: N row, D size of a row.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def plain_rms_norm(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """The oracle: x / sqrt(mean(x^2) + eps) * weight over the last dimension (arXiv 1910.07467)."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt() * weight_D).to(x.dtype)


def rms_norm(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """As `plain_rms_norm`, fast; the same forward bits with and without a gradient.

    Where a CPU multiplies in lower precision (autocast) the result comes in that: the products that read it
    would each round it by themselves.
    """
    if x.device.type != "cpu":
        return F.rms_norm(x, weight_D.shape, weight_D, eps)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    normed: Tensor = _RMSNorm.apply(x, weight_D, eps, dtype)  # type: ignore[no-untyped-call]
    return normed


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(x, weight_D)
        ctx.eps = eps
        return F.rms_norm(x, weight_D.shape, weight_D.to(x.dtype), eps).to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight_D = ctx.saved_tensors
        precision = torch.promote_types(x.dtype, torch.float32)
        size = x.shape[-1]
        x_ND, grad_ND = (tensor.reshape(-1, size).to(precision) for tensor in (x, grad))
        wide_D = weight_D.to(precision)
        mean_square_N1 = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True).square() / size
        scale_N1 = (mean_square_N1 + ctx.eps).rsqrt()
        normed_ND = x_ND * scale_N1
        product_ND = grad_ND * normed_ND
        pull_N1 = (product_ND @ wide_D)[:, None] * (scale_N1 / -size)
        grad_x_ND = (grad_ND * wide_D).mul_(scale_N1).addcmul_(normed_ND, pull_N1)
        return grad_x_ND.view(x.shape).to(x.dtype), product_ND.sum(0).to(weight_D.dtype), None, None
