"""The policy loss of GRPO, per token.

Shape legend: B completions, T positions.

    ratio_t = exp(logp_t - old_t)
    loss_t  = -min(ratio_t A, clip(ratio_t, 1 - eps, 1 + eps) A) + beta * k3_t
    k3_t    = exp(ref_t - logp_t) - (ref_t - logp_t) - 1
    loss    = mean over completions of the mean over their tokens        (DeepSeekMath eq. 3 and 4)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class LossTerms:
    """Sums over a batch as shares of the step's mean; `total` has the gradient."""

    total: Tensor
    kl: Tensor
    clipped: Tensor


def grpo_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    ref_logprobs_BT: Tensor,
    advantages_B: Tensor,
    mask_BT: Tensor,
    *,
    epsilon: float,
    beta: float,
    num_completions: int,
) -> LossTerms:
    """This batch's share of the loss of `num_completions` completions.

    `mask_BT` is 1 on completion tokens. `kl` and `clipped` (the share of tokens whose ratio was
    cut) are means in the same sense as the loss.
    """
    per_token_BT = mask_BT / mask_BT.sum(1, keepdim=True).clamp(min=1) / num_completions
    ratio_BT = torch.exp(logprobs_BT - old_logprobs_BT)
    advantages_B1 = advantages_B[:, None]
    clipped_BT = ratio_BT.clamp(1 - epsilon, 1 + epsilon)
    surrogate_BT = torch.minimum(ratio_BT * advantages_B1, clipped_BT * advantages_B1)
    kl_BT = k3(logprobs_BT, ref_logprobs_BT)
    total = ((beta * kl_BT - surrogate_BT) * per_token_BT).sum()
    was_clipped_BT = (clipped_BT * advantages_B1 < ratio_BT * advantages_B1).to(per_token_BT.dtype)
    return LossTerms(
        total=total,
        kl=(kl_BT.detach() * per_token_BT).sum(),
        clipped=(was_clipped_BT * per_token_BT).sum(),
    )


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Schulman's unbiased, never negative estimate of KL(policy || reference) at sampled tokens."""
    difference = ref_logprobs - logprobs
    return torch.exp(difference) - difference - 1
