from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from openbook.engine.types import Completion
from openbook.rl.config import RLConfig
from openbook.rl.filters import (
    counted_tokens,
    dropped_share,
    may_skip,
    staleness,
    with_something_to_say,
    without_stale,
)
from openbook.rl.types import Group, RewardedGroup, Rollout

MakeRollout = Callable[..., Rollout]
CONFIG = RLConfig(num_steps=1)
BARE: dict[str, Any] = {"num_steps": 1, "beta": 0.0, "balance_weight": 0.0, "bias_update_rate": 0.0}


def aged(rollout: Rollout, *versions: int) -> Rollout:
    """A rollout of which each token was sampled by another policy."""
    spans = tuple(enumerate(versions))
    completion = replace(rollout.attempt.completion, versions=spans, policy_version=versions[-1])
    return replace(rollout, attempt=replace(rollout.attempt, completion=completion))


def test_a_completion_is_as_stale_as_its_oldest_token(make_rollout: MakeRollout) -> None:
    assert staleness(aged(make_rollout(), 3, 5).attempt.completion, 6) == 3
    assert staleness(make_rollout().attempt.completion, 6) == 6  # it knows of its last token alone: policy 0


def test_what_is_too_old_gets_no_advantage_and_is_counted(make_rollout: MakeRollout) -> None:
    rollouts = (aged(make_rollout(), 4, 6), aged(make_rollout(), 5, 6), aged(make_rollout(), 6))
    groups = [RewardedGroup(group=Group(rollouts=rollouts), advantages=(1.0, -0.5, 2.0))]
    assert without_stale(groups, 6, 1)[0].advantages == (0.0, -0.5, 2.0)
    assert without_stale(groups, 6, 0)[0].advantages == (0.0, 0.0, 2.0)
    assert without_stale(groups, 6, None)[0].advantages == (1.0, -0.5, 2.0)
    assert dropped_share(groups, 6, replace(CONFIG, max_staleness=1)) == pytest.approx(1 / 3)
    assert dropped_share(groups, 6, CONFIG) == 0.0


def test_a_completion_cut_off_by_the_limit_can_be_left_without_a_loss(make_rollout: MakeRollout) -> None:
    cut = make_rollout(token_ids=(2, 3), finished=False).attempt.completion
    whole = make_rollout(token_ids=(2, 3)).attempt.completion
    overlong = replace(CONFIG, mask_truncated_completions=True)
    assert counted_tokens(cut, CONFIG).tolist() == [True, True]
    assert counted_tokens(cut, overlong).tolist() == [False, False]
    assert counted_tokens(whole, overlong).tolist() == [True, True]


def test_rows_are_skipped_only_where_they_have_no_part_in_the_update() -> None:
    assert may_skip(RLConfig(**BARE), routes=True)
    for reason in (
        {"beta": 0.1},
        {"entropy_coef": 0.1},
        {"top_entropy_quantile": 0.5},
        {"loss_type": "bnpo"},
        {"skip_zero_advantages": False},
    ):
        assert not may_skip(RLConfig(**{**BARE, **reason}), routes=False), reason
    for reason in ({"balance_weight": 0.1}, {"bias_update_rate": 0.1}):
        assert not may_skip(RLConfig(**{**BARE, **reason}), routes=True), reason
        assert may_skip(RLConfig(**{**BARE, **reason}), routes=False), reason
    assert may_skip(RLConfig(**{**BARE, "beta": 0.1, "kl_in": "reward"}), routes=True)


def test_what_says_nothing_is_left_out_and_the_shortest_stays_if_all_do(make_rollout: MakeRollout) -> None:
    def completion(length: int, *, finished: bool = True) -> Completion:
        return make_rollout(token_ids=(2,) * length, finished=finished).attempt.completion

    rows = [(completion(3), 0.0), (completion(2), -1.0), (completion(1, finished=False), 1.0)]
    overlong = replace(CONFIG, mask_truncated_completions=True)
    assert with_something_to_say(rows, CONFIG) == rows[1:]
    assert with_something_to_say(rows, overlong) == [rows[1]]
    silent = [(one, 0.0) for one, _ in rows]
    assert with_something_to_say(silent, CONFIG) == [silent[2]]
