"""What a step's rollouts look like in numbers: rewards by part, accuracy, lengths, signal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from openbook.engine.types import FinishReason
from openbook.evals.thinking import has_steps
from openbook.rl.advantage import has_signal
from openbook.rl.types import Group, Rollout
from openbook.tasks.problem import Outcome

UNSCORED = (Outcome.UNSCORABLE, Outcome.TIMED_OUT, Outcome.CRASHED)


def rollout_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Means over all rollouts; `zero_variance_groups` is the share of groups that teach nothing."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    scored = [one for one in rollouts if one.scored.reward.scored]
    correct = [one for one in rollouts if one.scored.verdict.correct]
    judged = [one for one in rollouts if one.scored.verdict.outcome in (Outcome.CORRECT, Outcome.WRONG)]
    metrics = {
        "reward": mean(one.scored.reward.total for one in scored),
        "accuracy": mean(one.scored.verdict.correct for one in judged),
        "format": mean(one.attempt.parsed.well_formed for one in rollouts),
        "mean_completion_tokens": mean(map(num_tokens, rollouts)),
        "mean_correct_tokens": mean(map(num_tokens, correct)),
        "truncated_share": mean(
            one.attempt.completion.finish_reason is FinishReason.LENGTH for one in rollouts
        ),
        "steps_share": mean(has_steps(one.attempt.parsed.thinking) for one in judged),
        "zero_variance_groups": mean(not has_signal(group) for group in groups),
        "unscored_share": 1 - len(scored) / len(rollouts),
    }
    for outcome in UNSCORED:
        metrics[f"unscored_{outcome}"] = mean(one.scored.verdict.outcome is outcome for one in rollouts)
    for part in sorted({part for one in scored for part in one.scored.reward.parts}):
        metrics[f"reward_{part}"] = mean(
            one.scored.reward.parts[part] for one in scored if part in one.scored.reward.parts
        )
    return metrics


def num_tokens(rollout: Rollout) -> int:
    return len(rollout.attempt.completion.token_ids)


def mean(values: Iterable[float]) -> float:
    """The mean of the values; 0 of none."""
    known = list(values)
    return sum(known) / len(known) if known else 0.0
