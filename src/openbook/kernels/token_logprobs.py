"""Log-probabilities of given tokens behind an output head, without keeping a softmax over the vocabulary.

    logits = hidden weight^T / temperature,  logprob = logits[target] - logsumexp(logits)
    d logprob / d logits = onehot(target) - softmax(logits)

What is kept for the gradient is the logits, in the precision that the product has; the softmax is made again
a few rows at a time, while they are in the processor's cache.

Shape letters: N token, D model width, V vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

ROWS_AT_ONCE = 16


def plain_token_logprobs(logits_NV: Tensor, targets_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The oracle: log-probability of each target and the entropy, fp32 [N] both."""
    logprobs_NV = torch.log_softmax(logits_NV.float() / temperature, dim=-1)
    entropy_N = -(logprobs_NV.exp() * logprobs_NV).sum(-1)
    return logprobs_NV.gather(1, targets_N[:, None])[:, 0], entropy_N


def token_logprobs(logits_NV: Tensor, targets_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """As `plain_token_logprobs`; the entropy has no gradient."""
    found = _TokenLogprobs.apply(logits_NV, targets_N, temperature)  # type: ignore[no-untyped-call]
    return cast("tuple[Tensor, Tensor]", found)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, targets_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        size = len(logits_NV)
        taken_N, sums_N, entropy_N = (torch.empty(size, device=logits_NV.device) for _ in range(3))
        scaled_RV, shares_RV = _workspace(logits_NV), _workspace(logits_NV)
        for start in range(0, size, ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            count = min(ROWS_AT_ONCE, size - start)
            scaled, shares = scaled_RV[:count], shares_RV[:count]
            scaled.copy_(logits_NV[rows]).div_(temperature)
            most = scaled.amax(-1, keepdim=True)
            torch.sub(scaled, most, out=shares)
            total = shares.exp_().sum(-1, keepdim=True)
            logsumexp = (most + total.log())[:, 0]
            taken_N[rows] = scaled.gather(1, targets_N[rows, None])[:, 0] - logsumexp
            sums_N[rows] = logsumexp
            # H = logsumexp - sum p * logit
            entropy_N[rows] = logsumexp - shares.mul_(scaled).sum(-1) / total[:, 0]
        ctx.save_for_backward(logits_NV, targets_N, sums_N)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy_N)
        return taken_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits_NV, targets_N, sums_N = ctx.saved_tensors
        scale_N = gradients[0] / ctx.temperature
        out_NV, shares_RV = torch.empty_like(logits_NV), _workspace(logits_NV)
        for start in range(0, len(logits_NV), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            shares = shares_RV[: min(ROWS_AT_ONCE, len(logits_NV) - start)]
            shares.copy_(logits_NV[rows]).div_(ctx.temperature).sub_(sums_N[rows, None]).exp_()
            shares.mul_(-scale_N[rows, None])
            shares.scatter_add_(1, targets_N[rows, None], scale_N[rows, None])
            out_NV[rows] = shares
        return out_NV, None, None


def _workspace(logits_NV: Tensor) -> Tensor:
    """Rows that are written again and again: new ones would come as pages to be cleared each time."""
    return torch.empty(ROWS_AT_ONCE, logits_NV.shape[1], device=logits_NV.device)
