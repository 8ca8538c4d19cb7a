"""Score: one number with the interval that chance leaves it, by a bootstrap over problems.

Samples of one problem resemble each other, so problems are drawn again and not samples. Every
metric here is a ratio of two sums over problems (correct samples / samples; tokens of correct
samples / correct samples), and a resample is a vector of how often each problem was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openbook.errors import UserError

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A metric's value with its 95 % interval.

    It rests on `num_problems` problems and `num_samples` completions of them in all. A mean over no
    completion at all (the length of correct ones when none is correct) is NaN, `null` in JSON.
    Where all problems came out alike the interval has no width: the bootstrap knows no luck that
    it has not seen.
    """

    metric: str
    value: float
    low: float
    high: float
    num_problems: int
    num_samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """A metric before division: for each problem its sum and what it is divided by.

    Example: accuracy of two problems with four samples each, of which 1 and 4 are correct:
    `Tally(metric="pass_at_1", sums=(1, 4), counts=(4, 4), num_samples=8)`.
    """

    metric: str
    sums: tuple[float, ...]
    counts: tuple[float, ...]
    num_samples: int


def scores(
    tallies: Sequence[Tally], rng: np.random.Generator, *, num_resamples: int = NUM_RESAMPLES
) -> dict[str, Score]:
    """A Score for each tally, by metric. All tallies are over the same problems and share the resamples."""
    num_problems = len(tallies[0].sums)
    assert num_problems > 0, "a score needs at least one problem"
    drawn = rng.multinomial(num_problems, np.full(num_problems, 1 / num_problems), size=num_resamples)
    sums = np.asarray([tally.sums for tally in tallies], dtype=float)
    counts = np.asarray([tally.counts for tally in tallies], dtype=float)
    with np.errstate(invalid="ignore"):  # 0 / 0: a resample in which nothing was counted has no value
        values = sums.sum(axis=1) / counts.sum(axis=1)
        resampled = (drawn @ sums.T) / (drawn @ counts.T)
    return {
        tally.metric: Score(
            metric=tally.metric,
            value=float(values[index]),
            low=_quantile(resampled[:, index], (1 - CONFIDENCE) / 2),
            high=_quantile(resampled[:, index], (1 + CONFIDENCE) / 2),
            num_problems=num_problems,
            num_samples=tally.num_samples,
        )
        for index, tally in enumerate(tallies)
    }


def score_to_json(score: Score) -> dict[str, Any]:
    """A Score as JSON values."""
    return {
        "metric": score.metric,
        "value": number_to_json(score.value),
        "low": number_to_json(score.low),
        "high": number_to_json(score.high),
        "num_problems": score.num_problems,
        "num_samples": score.num_samples,
    }


def score_from_json(data: Mapping[str, Any]) -> Score:
    """The reverse of `score_to_json`. Raises UserError when a field is missing or of another kind."""
    try:
        value, low, high = (number_from_json(data[name]) for name in ("value", "low", "high"))
        return Score(
            metric=str(data["metric"]),
            value=value,
            low=low,
            high=high,
            num_problems=int(data["num_problems"]),
            num_samples=int(data["num_samples"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"this is not a score: {error!r}", "run the evaluation again") from error


def number_to_json(value: float) -> float | None:
    """A number, or null for one that JSON has no word for."""
    return value if math.isfinite(value) else None


def number_from_json(value: Any) -> float:
    """The reverse of `number_to_json`: null is NaN."""
    return math.nan if value is None else float(value)


def _quantile(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], share: float) -> float:
    finite = values[np.isfinite(values)]
    return float(np.quantile(finite, share)) if finite.size else math.nan
