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
        for start in range(0, size, ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            scaled = logits_NV[rows].float() / temperature
            logsumexp = scaled.logsumexp(-1)
            taken_N[rows] = scaled.gather(1, targets_N[rows, None])[:, 0] - logsumexp
            sums_N[rows] = logsumexp
            # H = logsumexp - sum p * logit
            shares = scaled.sub(logsumexp[:, None]).exp_()
            entropy_N[rows] = logsumexp - shares.mul_(scaled).sum(-1)
        ctx.save_for_backward(logits_NV, targets_N, sums_N)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy_N)
        return taken_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits_NV, targets_N, sums_N = ctx.saved_tensors
        scale_N = gradients[0] / ctx.temperature
        out_NV = torch.empty_like(logits_NV)
        for start in range(0, len(logits_NV), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            shares = (logits_NV[rows].float() / ctx.temperature).sub_(sums_N[rows, None]).exp_()
            shares.mul_(-scale_N[rows, None])
            shares.scatter_add_(1, targets_N[rows, None], scale_N[rows, None])
            out_NV[rows] = shares
        return out_NV, None, None
