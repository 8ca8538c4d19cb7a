"""Log-probabilities in a few passes equal those of a softmax that is written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openbook.kernels.token_logprobs import ROWS_AT_ONCE, plain_token_logprobs, token_logprobs


def gradient(of_tokens: object, logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    given = logits.clone().requires_grad_()
    logprobs, entropy = of_tokens(given, targets, 0.7)  # type: ignore[operator]
    (logprobs * weights).sum().backward()
    assert given.grad is not None
    assert torch.equal(given.detach(), logits), "what was given stays as it is"
    return logprobs.detach(), entropy.detach(), given.grad


@pytest.mark.parametrize("num_tokens", [1, ROWS_AT_ONCE, 2 * ROWS_AT_ONCE + 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_the_plain_form(num_tokens: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(num_tokens)
    logits = (4 * torch.randn(num_tokens, 50, generator=generator)).to(dtype)
    targets = torch.randint(0, 50, (num_tokens,), generator=generator)
    weights = torch.randn(num_tokens, generator=generator)
    found = gradient(token_logprobs, logits, targets, weights)
    expected = gradient(plain_token_logprobs, logits, targets, weights)
    for one, other in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(one, other, atol=3e-5, rtol=1e-5)
    loose = {"atol": 1e-2, "rtol": 1e-2} if dtype == torch.bfloat16 else {"atol": 1e-6, "rtol": 1e-5}
    torch.testing.assert_close(found[2], expected[2], **loose)


def test_of_no_tokens_there_is_nothing() -> None:
    logprobs, entropy = token_logprobs(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64), 1.0)
    assert logprobs.shape == entropy.shape == (0,)
