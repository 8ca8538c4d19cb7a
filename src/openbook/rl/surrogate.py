"""What each loss makes of a token's ratio and advantage.

Shape legend: B completions, T positions. `ratio` is [B, T], or [B, 1] where one holds for the sequence, and
then so is what comes of it.

Every function gives the loss before weights and aggregation, and where the ratio was cut, so that the token
has no gradient (for cispo: less of one).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from openbook.rl.objective import Level, LossType, ObjectiveConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """The sampled tokens under the policy: how likely, against before, and how good."""

    ratio: Tensor
    logprobs_BT: Tensor
    advantages_B1: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Surrogate:
    loss: Tensor
    was_cut: Tensor


def importance_ratio(logprobs_BT: Tensor, old_logprobs_BT: Tensor, mask_BT: Tensor, level: Level) -> Tensor:
    """exp(logp_t - old_t) [B, T]; of a sequence exp(mean_t(logp_t - old_t)) [B, 1] (GSPO, 2507.18071)."""
    log_ratio_BT = logprobs_BT - old_logprobs_BT
    if level == "token":
        return log_ratio_BT.exp()
    lengths_B1 = mask_BT.sum(1, keepdim=True).clamp(min=1)
    return ((log_ratio_BT * mask_BT).sum(1, keepdim=True) / lengths_B1).exp()


def clipped(taken: Taken, config: ObjectiveConfig) -> Surrogate:
    """-min(ratio A, clip(ratio, 1 - epsilon, 1 + epsilon_high) A)           (PPO, 1707.06347 eq. 7)

    With `delta` the first ratio is min(ratio, delta) (INTELLECT-2, 2505.07291 eq. 1); with `clip_ratio_c`
    the loss is at most -c A where A < 0 (dual clip, 1912.09729 eq. 5).
    """
    advantages_B1 = taken.advantages_B1
    free = taken.ratio if config.delta is None else taken.ratio.clamp(max=config.delta)
    bounded = taken.ratio.clamp(1 - config.epsilon, config.clip_high)
    loss = -torch.minimum(free * advantages_B1, bounded * advantages_B1)
    was_cut = bounded * advantages_B1 < free * advantages_B1
    if config.delta is not None:
        was_cut |= (taken.ratio > config.delta) & (advantages_B1 < 0)
    if config.clip_ratio_c is not None:
        most = -config.clip_ratio_c * advantages_B1
        was_cut |= (loss > most) & (advantages_B1 < 0)
        loss = torch.where(advantages_B1 < 0, torch.minimum(loss, most), loss)
    return Surrogate(loss=loss, was_cut=was_cut)


def cispo(taken: Taken, config: ObjectiveConfig) -> Surrogate:
    """-sg(clip(ratio, cispo_ratio_min, epsilon_high)) A log pi              (MiniMax-M1, 2506.13585 eq. 4)

    `epsilon_high` is the cap itself, as in TRL. verl clips to [1 - clip_ratio_low, 1 + clip_ratio_high].
    """
    bounded = taken.ratio.detach().clamp(config.cispo_ratio_min, config.clip_high)
    loss = -bounded * taken.advantages_B1 * taken.logprobs_BT
    return Surrogate(loss=loss, was_cut=bounded != taken.ratio.detach())


def sapo(taken: Taken, config: ObjectiveConfig) -> Surrogate:
    """-(4 / tau) sigmoid(tau (ratio - 1)) A, tau by the sign of A: a gate and no clip (SAPO, 2511.20347)."""
    positive_B1 = taken.advantages_B1 > 0
    tau_B1 = torch.where(positive_B1, config.sapo_temperature_pos, config.sapo_temperature_neg)
    gate = torch.sigmoid(tau_B1 * (taken.ratio - 1)) * 4 / tau_B1
    return Surrogate(loss=-gate * taken.advantages_B1, was_cut=torch.zeros_like(gate, dtype=torch.bool))


def reinforce(taken: Taken, config: ObjectiveConfig) -> Surrogate:
    """-A log pi: no ratio, so meant for one update a rollout (Williams 1992)."""
    loss = -taken.advantages_B1 * taken.logprobs_BT
    return Surrogate(loss=loss, was_cut=torch.zeros_like(loss, dtype=torch.bool))


SURROGATES: Mapping[LossType, Callable[[Taken, ObjectiveConfig], Surrogate]] = {
    "grpo": clipped,
    "dr_grpo": clipped,
    "dapo": clipped,
    "bnpo": clipped,
    "gspo": clipped,
    "cispo": cispo,
    "sapo": sapo,
    "reinforce": reinforce,
}
