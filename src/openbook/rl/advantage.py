"""Rewards to advantages: how much better than its siblings each completion was.

    A_i = (r_i - baseline_i) / (std + epsilon)

`baseline`: the group's mean (GRPO, DeepSeekMath 4.1.2), or the mean of its other members (RLOO, arXiv
2402.14740). `std`: of the group's rewards, of all rewards of the batch (arXiv 2508.08221), or no division
(Dr. GRPO, arXiv 2503.20783). A completion without a score gets 0 and sways no one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from openbook.rl.objective import ObjectiveConfig
from openbook.rl.types import Group, RewardedGroup

Rewards = Sequence[float | None]
"""The rewards of one group; None was not scored."""


def with_advantages(
    groups: Sequence[Group], config: ObjectiveConfig, penalties: Sequence[Sequence[float]] | None = None
) -> list[RewardedGroup]:
    """Groups with the advantages of their rewards; `penalties` are taken from the rewards before."""
    rewards = [rewards_of(group) for group in groups]
    if penalties is not None:
        rewards = [_less(own, penalty) for own, penalty in zip(rewards, penalties, strict=True)]
    return [
        RewardedGroup(group=group, advantages=tuple(row))
        for group, row in zip(groups, advantages(rewards, config), strict=True)
    ]


def rewards_of(group: Group) -> list[float | None]:
    scored = [rollout.scored.reward for rollout in group.rollouts]
    return [reward.total if reward.scored else None for reward in scored]


def advantages(groups: Sequence[Rewards], config: ObjectiveConfig) -> list[list[float]]:
    """One advantage for each reward. Equal rewards, and one alone, teach nothing.

    >>> [round(a, 3) for a in advantages([[1.0, 0.0, 0.0, 0.0]], ObjectiveConfig())[0]]
    [1.5, -0.5, -0.5, -0.5]
    """
    batch_std = sample_std([reward for rewards in groups for reward in _known(rewards)])

    def divisor(known: Sequence[float]) -> float:
        match config.scale_rewards:
            case "group":
                return sample_std(known) + config.advantage_epsilon
            case "batch":
                return batch_std + config.advantage_epsilon
            case "none":
                return 1.0

    return [_of_one_group(rewards, config, divisor(_known(rewards))) for rewards in groups]


def _of_one_group(rewards: Rewards, config: ObjectiveConfig, divisor: float) -> list[float]:
    known = _known(rewards)
    if len(set(known)) < 2:  # equal ones too: rounding of their mean would look like a signal
        return [0.0] * len(rewards)
    total, count = math.fsum(known), len(known)

    def baseline(reward: float) -> float:
        return total / count if config.baseline == "mean" else (total - reward) / (count - 1)

    return [0.0 if reward is None else (reward - baseline(reward)) / divisor for reward in rewards]


def sample_std(rewards: Sequence[float]) -> float:
    """With Bessel's correction; 0 of fewer than two."""
    if len(rewards) < 2:
        return 0.0
    mean = math.fsum(rewards) / len(rewards)
    return math.sqrt(math.fsum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1))


def has_signal(group: Group) -> bool:
    """Whether the group's rewards differ, so that it says something about better and worse."""
    return len(set(_known(rewards_of(group)))) > 1


def _known(rewards: Rewards) -> list[float]:
    return [reward for reward in rewards if reward is not None]


def _less(rewards: Rewards, penalties: Sequence[float]) -> list[float | None]:
    return [
        None if reward is None else reward - penalty
        for reward, penalty in zip(rewards, penalties, strict=True)
    ]
