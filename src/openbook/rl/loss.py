"""The policy loss: ratio -> surrogate -> weights -> aggregation.

Shape legend: B completions, T positions.

    ratio   = pi / pi_old, of a token or of the sequence                   surrogate.importance_ratio
    loss_t  = surrogate(ratio, A, log pi)                                  surrogate.SURROGATES
            * importance weight * off-policy mask * top-entropy mask       correction
            + beta * KL_t [* ratio]                                        kl.ESTIMATORS
    loss    = sum over tokens of share_t * loss_t  -  entropy_coef * H     aggregation
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from openbook.rl.aggregation import (
    StepSize,
    batch_mean,
    completion_mean,
    limit_mean,
    measured_mean,
    token_mean,
)
from openbook.rl.correction import off_policy_mask, top_entropy_mask
from openbook.rl.kl import ESTIMATORS
from openbook.rl.objective import LossType, ObjectiveConfig
from openbook.rl.surrogate import SURROGATES, Taken, importance_ratio

AGGREGATIONS: Mapping[LossType, Callable[[Tensor, StepSize], Tensor]] = {
    "grpo": completion_mean,
    "gspo": completion_mean,
    "sapo": completion_mean,
    "dapo": token_mean,
    "cispo": token_mean,
    "reinforce": token_mean,
    "bnpo": batch_mean,
    "dr_grpo": limit_mean,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LossInputs:
    """Log-probabilities of the tokens of a batch, and what is known of them. Zeros where `mask_BT` is 0."""

    logprobs_BT: Tensor
    entropy_BT: Tensor
    """It carries a gradient where there is an entropy bonus."""
    old_logprobs_BT: Tensor
    sampler_logprobs_BT: Tensor
    ref_logprobs_BT: Tensor | None
    """None where the loss has no KL."""
    weights: Tensor | None
    """Importance weights, [B, T] or [B, 1]; None where nothing is corrected."""
    advantages_B: Tensor
    mask_BT: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class LossTerms:
    """This batch's shares of the step's loss and metrics; `total` has the gradient."""

    total: Tensor
    kl: Tensor
    clipped: Tensor
    """Share of tokens whose ratio was cut."""
    weight: Tensor
    """Mean of what the corrections multiply a token's policy loss with."""
    dropped: Tensor
    """Share of completions that the corrections mask as a whole."""


def policy_loss(inputs: LossInputs, config: ObjectiveConfig, size: StepSize) -> LossTerms:
    """This batch's share of the loss of a step of `size`; TRL's `_compute_loss` in value and gradient.

    `kl`, `clipped` and `weight` are means over completions of means over tokens, whatever the loss.
    """
    mask_BT, advantages_B1 = inputs.mask_BT, inputs.advantages_B[:, None]
    ratio = importance_ratio(inputs.logprobs_BT, inputs.old_logprobs_BT, mask_BT, config.ratio_level)
    taken = Taken(ratio=ratio, logprobs_BT=inputs.logprobs_BT, advantages_B1=advantages_B1)
    surrogate = SURROGATES[config.loss_type](taken, config)

    kept_B1 = off_policy_mask(
        inputs.logprobs_BT,
        inputs.sampler_logprobs_BT,
        advantages_B1,
        mask_BT,
        config.off_policy_mask_threshold,
    )
    weights = kept_B1 if inputs.weights is None else kept_B1 * inputs.weights
    top_BT = top_entropy_mask(inputs.entropy_BT, mask_BT, config.top_entropy_quantile)
    loss_BT = surrogate.loss * weights * top_BT
    kl_BT = torch.zeros_like(mask_BT)
    if inputs.ref_logprobs_BT is not None:
        kl_BT = ESTIMATORS[config.kl_estimator](inputs.logprobs_BT, inputs.ref_logprobs_BT)
        loss_BT = loss_BT + config.beta * (kl_BT * ratio if config.use_bias_correction_kl else kl_BT)

    total = (loss_BT * AGGREGATIONS[config.loss_type](mask_BT, size)).sum()
    if config.entropy_coef:
        total = total - config.entropy_coef * _entropy_share(inputs.entropy_BT, top_BT, mask_BT, size)
    measure_BT = measured_mean(mask_BT, size)
    weighted = (weights * mask_BT).any(1)
    return LossTerms(
        total=total,
        kl=(kl_BT.detach() * measure_BT).sum(),
        clipped=(surrogate.was_cut.to(mask_BT.dtype) * measure_BT).sum(),
        weight=(weights * measure_BT).sum(),
        dropped=(mask_BT.any(1) & ~weighted).sum() / size.num_completions,
    )


def _entropy_share(entropy_BT: Tensor, top_BT: Tensor, mask_BT: Tensor, size: StepSize) -> Tensor:
    """The mean entropy of this batch's (top) tokens, times the batch's share of the step's tokens."""
    mean = (entropy_BT * top_BT).sum() / top_BT.sum().clamp(min=1)
    return mean * mask_BT.sum() / max(1, size.num_tokens)
