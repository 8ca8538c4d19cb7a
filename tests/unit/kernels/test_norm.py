from __future__ import annotations

import pytest
import torch

from openbook.kernels.norm import plain_rms_norm, rms_norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fast_norm_equals_the_plain_one_in_value_and_gradient(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, 16, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(16, generator=generator).to(dtype).requires_grad_()
    direction = torch.randn(3, 5, 16, generator=generator).to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    results = []
    for norm in (plain_rms_norm, rms_norm):
        out = norm(x, weight, 1e-6)
        assert out.dtype == dtype
        results.append((out, *torch.autograd.grad(out, (x, weight), direction)))
    for plain, fast in zip(*results, strict=True):
        torch.testing.assert_close(plain, fast, atol=tolerance, rtol=tolerance)


def test_fast_norm_has_exact_gradients_on_strided_input() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 9, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, weight: rms_norm(x[:, 2:8], weight, 0.1), (x, weight))


def test_a_row_of_zeros_stays_finite() -> None:
    x = torch.zeros(2, 8, requires_grad=True)
    out = rms_norm(x, torch.ones(8), 1e-6)
    out.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(out).all() and torch.isfinite(x.grad).all()
