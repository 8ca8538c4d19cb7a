"""Corrections where the completions come from another policy than the one that is trained.

Shape legend: B completions, T positions; B1 one value a completion.

Sampler and trainer may differ by rounding, by kernels, by the experts chosen, and by age. With the trainer's
own log-probabilities before the first update,

    w_t = pi_trainer(t) / pi_sampler(t)          token
    w   = prod_t w_t                             sequence

weighs the policy loss, between a floor and a cap: truncated to them (Yao et al. 2025, "Your efficient RL
framework secretly brings you off-policy RL training"), or 0 outside them (Liu et al. 2025, "When speed kills
stability").
"""

from __future__ import annotations

import torch
from torch import Tensor

from openbook.rl.objective import ObjectiveConfig


def importance_weights(
    trainer_logprobs_BT: Tensor, sampler_logprobs_BT: Tensor, mask_BT: Tensor, config: ObjectiveConfig
) -> Tensor | None:
    """The weights, [B, T] by token or [B, 1] by sequence; None where nothing is corrected."""
    kind = config.importance_correction
    if kind == "none":
        return None
    log_weights = (trainer_logprobs_BT - sampler_logprobs_BT) * mask_BT
    if kind in ("sequence_truncate", "sequence_mask"):
        log_weights = log_weights.sum(1, keepdim=True)
    weights = log_weights.exp()
    low, high = config.importance_floor, config.weight_cap
    if kind in ("token_truncate", "sequence_truncate"):
        return weights.clamp(low, high)
    return weights.masked_fill((weights < low) | (weights > high), 0.0)


def off_policy_mask(
    logprobs_BT: Tensor,
    sampler_logprobs_BT: Tensor,
    advantages_B1: Tensor,
    mask_BT: Tensor,
    threshold: float | None,
) -> Tensor:
    """0 for a completion with A < 0 and mean_t log(pi_sampler / pi) > threshold, else 1; [B, 1].

    DeepSeek-V3.2 (arXiv 2512.02556) equation 9: what the policy would hardly say any more is not pushed down.
    """
    if threshold is None:
        return torch.ones_like(advantages_B1)
    gap_BT = (sampler_logprobs_BT - logprobs_BT.detach()) * mask_BT
    mean_gap_B1 = gap_BT.sum(1, keepdim=True) / mask_BT.sum(1, keepdim=True).clamp(min=1)
    return ((advantages_B1 >= 0) | (mean_gap_B1 <= threshold)).to(mask_BT.dtype)


def top_entropy_mask(entropy_BT: Tensor, mask_BT: Tensor, share: float) -> Tensor:
    """1 on the `share` of this batch's tokens with the highest entropy ("Beyond the 80/20 rule", 2506.01939).

    Their least entropy is the (1 - share) quantile; tokens that equal it count.
    """
    counted = mask_BT.bool()
    if share == 1 or not counted.any():
        return mask_BT
    least = torch.quantile(entropy_BT.detach()[counted].float(), 1 - share)
    return ((entropy_BT.detach() >= least) & counted).to(mask_BT.dtype)
