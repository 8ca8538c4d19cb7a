"""Scorecard: everything measured of one checkpoint on one suite of problems, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openbook.errors import UserError
from openbook.evals.score import Score, number_to_json, score_from_json, score_to_json

METRICS = (
    "pass_at_1",
    "forgiven_pass_at_1",
    "majority_at_k",
    "pass_at_k",
    "mean_completion_tokens",
    "mean_correct_tokens",
    "mean_thinking_tokens",
    "share_with_steps",
    "well_formed_share",
    "language_consistency",
    "truncated_share",
)
"""The fields of a Scorecard that are Scores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scorecard:
    """What an evaluation found. `num_samples` completions were drawn for each of `num_problems` problems.

    `suite` says which problems (`held_out`, `harder`). `pass_at_1` counts the text of the answer block
    alone; `forgiven_pass_at_1` also accepts the last number of the text, so the gap between them is what
    the format costs. `majority_at_k` and `pass_at_k` are for `k` samples.
    `num_unscored` completions got no judgement and count as not correct.
    """

    stage: str
    checkpoint_digest: str
    suite: str
    seed: int
    temperature: float
    max_tokens: int
    k: int
    num_problems: int
    num_samples: int
    num_unscored: int
    pass_at_1: Score
    forgiven_pass_at_1: Score
    majority_at_k: Score
    pass_at_k: Score
    mean_completion_tokens: Score
    mean_correct_tokens: Score
    mean_thinking_tokens: Score
    share_with_steps: Score
    well_formed_share: Score
    language_consistency: Score
    truncated_share: Score


_PLAIN = {
    "stage": str,
    "checkpoint_digest": str,
    "suite": str,
    "seed": int,
    "temperature": float,
    "max_tokens": int,
    "k": int,
    "num_problems": int,
    "num_samples": int,
    "num_unscored": int,
}


def scorecard_to_json(card: Scorecard) -> dict[str, Any]:
    """A Scorecard as JSON values: a Score becomes a table of its fields."""
    plain = {name: getattr(card, name) for name in _PLAIN}
    return plain | {name: score_to_json(getattr(card, name)) for name in METRICS}


def scorecard_from_json(data: Mapping[str, Any]) -> Scorecard:
    """The reverse of `scorecard_to_json`. Raises UserError when a field is missing or of another kind."""
    try:
        fields: dict[str, Any] = {name: kind(data[name]) for name, kind in _PLAIN.items()}
        fields |= {name: score_from_json(data[name]) for name in METRICS}
        return Scorecard(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"this is not a scorecard: {error!r}", "run the evaluation again") from error


def headline(card: Scorecard) -> dict[str, float | int | str | None]:
    """A scorecard in one flat row, each Score as `name`, `name_low` and `name_high`."""
    row: dict[str, float | int | str | None] = {name: getattr(card, name) for name in _PLAIN}
    for name in METRICS:
        score: Score = getattr(card, name)
        row |= {
            name: number_to_json(score.value),
            f"{name}_low": number_to_json(score.low),
            f"{name}_high": number_to_json(score.high),
        }
    return row
