"""Rewards of a group to advantages: how much better than its siblings each completion was."""

from __future__ import annotations

import math
from collections.abc import Sequence

from openbook.rl.types import Group, RewardedGroup

STD_GUARD = 1e-4
"""Added to the standard deviation (TRL's value; the papers print none)."""


def with_advantages(group: Group) -> RewardedGroup:
    """GRPO's outcome advantage (DeepSeekMath 4.1.2). A rollout without a score gets 0 and sways no one."""
    rewards = [one.scored.reward for one in group.rollouts]
    known = group_advantages([reward.total for reward in rewards if reward.scored])
    remaining = iter(known)
    return RewardedGroup(
        group=group, advantages=tuple(next(remaining) if reward.scored else 0.0 for reward in rewards)
    )


def group_advantages(rewards: Sequence[float]) -> list[float]:
    """(r - mean) / (sample standard deviation + 1e-4); zeros for fewer than two rewards or equal ones.

    >>> [round(a, 3) for a in group_advantages([1.0, 0.0, 0.0, 0.0])]
    [1.5, -0.5, -0.5, -0.5]
    """
    if len(set(rewards)) < 2:  # equal ones too: rounding of their mean would look like a signal
        return [0.0] * len(rewards)
    mean = math.fsum(rewards) / len(rewards)
    variance = math.fsum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1)
    return [(reward - mean) / (math.sqrt(variance) + STD_GUARD) for reward in rewards]


def has_signal(group: RewardedGroup) -> bool:
    """Whether the group's rewards differ, so that it says something about better and worse."""
    return any(advantage != 0.0 for advantage in group.advantages)
