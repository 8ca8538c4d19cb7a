"""What is left out of a rollout: completions too old, cut off, or without anything to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from openbook.engine.types import Completion, FinishReason
from openbook.rl.batch import Row, sampled_tokens
from openbook.rl.config import RLConfig
from openbook.rl.types import RewardedGroup


def without_stale(
    groups: Sequence[RewardedGroup], version: int, max_staleness: int | None
) -> list[RewardedGroup]:
    """The groups with advantage 0 for each completion of which a token is too old."""
    if max_staleness is None:
        return list(groups)
    return [
        replace(
            group,
            advantages=tuple(
                0.0 if staleness(rollout.attempt.completion, version) > max_staleness else advantage
                for rollout, advantage in zip(group.group.rollouts, group.advantages, strict=True)
            ),
        )
        for group in groups
    ]


def staleness(completion: Completion, version: int) -> int:
    """How many policies ago the oldest token of a completion was sampled."""
    oldest = min((sampled_by for _, sampled_by in completion.versions), default=completion.policy_version)
    return version - oldest


def counted_tokens(completion: Completion, config: RLConfig) -> NDArray[np.bool_]:
    """Which tokens of a completion have a loss: those sampled, or none where the limit cut it off."""
    counted = sampled_tokens(completion)
    if config.mask_truncated_completions and completion.finish_reason is FinishReason.LENGTH:
        counted[:] = False
    return counted


def dropped_share(groups: Sequence[RewardedGroup], version: int, config: RLConfig) -> float:
    """Share of completions that are masked for their age or because the limit cut them off."""
    completions = [rollout.attempt.completion for group in groups for rollout in group.group.rollouts]
    bound = config.max_staleness
    dropped = [
        not counted_tokens(one, config).any() or (bound is not None and staleness(one, version) > bound)
        for one in completions
    ]
    return sum(dropped) / len(dropped)


def may_skip(config: RLConfig, *, routes: bool) -> bool:
    """Whether rows of advantage 0 have no part in the update, so that it is the same without them.

    They have one in a KL or an entropy bonus of the loss, in the quantile of the entropy, in bnpo's batches,
    and in a model with experts (`routes`) in its balance loss and the loads that move its biases.
    """
    has_part = (
        config.kl_in_loss
        or config.entropy_coef > 0
        or config.top_entropy_quantile < 1
        or config.loss_type == "bnpo"
        or (routes and (config.balance_weight > 0 or config.bias_update_rate > 0))
    )
    return config.skip_zero_advantages and not has_part


def with_something_to_say(rows: Sequence[Row], config: RLConfig) -> list[Row]:
    """The rows that have an advantage and a token that counts; if none, the shortest, whose gradient is zero.

    So that an optimizer with momentum takes the step that it would have taken.
    """
    kept = [row for row in rows if row[1] != 0 and counted_tokens(row[0], config).any()]
    return kept or [min(rows, key=lambda row: len(row[0].prompt_ids) + len(row[0].token_ids))]
