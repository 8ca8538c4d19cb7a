from __future__ import annotations

from collections.abc import Callable

import pytest

from openbook.rl.metrics import mean, rollout_metrics
from openbook.rl.types import Group, Rollout
from openbook.tasks.problem import Outcome

MakeRollout = Callable[..., Rollout]
STEPS = "<think> b = three + four = seven </think> <answer> 7 </answer>"
BARE = "<think> </think> <answer> 4 </answer>"


def test_every_number_by_hand(make_rollout: MakeRollout) -> None:
    def rollout(
        text: str, num_tokens: int, outcome: Outcome, accuracy: float | None, *, finished: bool = True
    ) -> Rollout:
        parts = {"format": float(text != "so")} | ({} if accuracy is None else {"accuracy": accuracy})
        return make_rollout(
            text=text, token_ids=(2,) * num_tokens, outcome=outcome, parts=parts, finished=finished
        )

    first = Group(
        rollouts=(
            rollout(STEPS, 10, Outcome.CORRECT, 1.0),
            rollout(BARE, 4, Outcome.WRONG, 0.0),
            rollout("so", 7, Outcome.WRONG, 0.0, finished=False),
        )
    )
    second = Group(
        rollouts=(rollout(BARE, 6, Outcome.CORRECT, 1.0), rollout(BARE, 3, Outcome.TIMED_OUT, None))
    )
    metrics = rollout_metrics([first, second])
    assert metrics == pytest.approx(
        {
            "reward": (2 + 1 + 0 + 2) / 4,
            "accuracy": 2 / 4,
            "format": 4 / 5,
            "mean_completion_tokens": (10 + 4 + 7 + 6 + 3) / 5,
            "mean_correct_tokens": (10 + 6) / 2,
            "truncated_share": 1 / 5,
            "steps_share": 1 / 4,
            "zero_variance_groups": 1 / 2,
            "unscored_share": 1 / 5,
            "unscored_timed_out": 1 / 5,
            "unscored_crashed": 0,
            "unscored_unscorable": 0,
            "reward_accuracy": 2 / 4,
            "reward_format": 3 / 4,
        }
    )


def test_nothing_scored_is_no_error(make_rollout: MakeRollout) -> None:
    group = Group(rollouts=(make_rollout(outcome=Outcome.UNSCORABLE),) * 2)
    metrics = rollout_metrics([group])
    assert (metrics["reward"], metrics["accuracy"], metrics["unscored_share"]) == (0.0, 0.0, 1.0)
    assert metrics["zero_variance_groups"] == 1.0
    assert not [name for name in metrics if name.startswith("reward_")]


def test_why_completions_have_no_score_is_told_apart(make_rollout: MakeRollout) -> None:
    outcomes = [Outcome.UNSCORABLE, Outcome.TIMED_OUT, Outcome.TIMED_OUT, Outcome.CRASHED, Outcome.WRONG]
    group = Group(rollouts=tuple(make_rollout(outcome=outcome) for outcome in outcomes))
    metrics = rollout_metrics([group])
    shares = [metrics[f"unscored_{why}"] for why in ("unscorable", "timed_out", "crashed", "share")]
    assert shares == pytest.approx([1 / 5, 2 / 5, 1 / 5, 4 / 5])


def test_the_mean_of_nothing_is_nothing() -> None:
    assert mean([]) == 0.0
    assert mean(iter([True, False, False])) == pytest.approx(1 / 3)
