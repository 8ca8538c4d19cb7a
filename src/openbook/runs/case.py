"""What a diagnosis is made from and what it says: Case, Trend, Diagnosis.

    metrics.jsonl -> Case -> Trend (begin, best, now, noise) of one metric -> Diagnosis

A comparison of two stretches of a run counts only beyond what steps differ by anyway.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import fmean, median
from typing import Any

WINDOW_STEPS = 5
"""A stretch that is averaged: short, for steps of reinforcement are few and dear."""
MIN_STEPS = 8
"""A run of fewer steps has no beginning and end that could be compared."""
SIGMAS = 5.0
"""A change counts beyond so many standard errors: a run is looked at many times, and at many metrics."""


class Severity(StrEnum):
    """How much it matters."""

    FAULT = "fault"  # the run is lost or learns nothing: stop it
    WARNING = "warning"  # likely to go wrong, or half of the work is in vain
    NOTE = "note"  # surprising to see, and as it should be


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """One finding: `what` is wrong, the numbers that say so, and what to change."""

    name: str
    severity: Severity
    what: str
    evidence: str
    mend: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """One metric over a run: its finite values in order, and the steps they belong to."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    window: int = WINDOW_STEPS

    @property
    def width(self) -> int:
        """Steps of a stretch: `window`, in a short run a quarter of it."""
        return max(1, min(self.window, len(self.values) // 4))

    @property
    def is_long(self) -> bool:
        return len(self.values) >= MIN_STEPS

    @property
    def begin(self) -> float:
        return fmean(self.values[: self.width])

    @property
    def now(self) -> float:
        return fmean(self.values[-self.width :])

    @property
    def means(self) -> tuple[float, ...]:
        """The mean of every stretch, the first one first."""
        width = self.width
        return tuple(fmean(self.values[i : i + width]) for i in range(len(self.values) - width + 1))

    @property
    def best(self) -> float:
        return max(self.means)

    @property
    def lowest(self) -> float:
        return min(self.means)

    @property
    def peak(self) -> int:
        """How many values there are up to the end of the best stretch, the last of equals."""
        means = self.means
        return max(range(len(means)), key=lambda i: (means[i], i)) + self.width

    @property
    def margin(self) -> float:
        """What two stretches must differ by, from how neighbouring steps differ (a robust estimate)."""
        if len(self.values) < 2:
            return 0.0
        jumps = [abs(b - a) for a, b in zip(self.values, self.values[1:], strict=False)]
        # Of normal noise the median jump is 0.6745 * sqrt(2) standard deviations; a crash hardly moves it.
        deviation = median(jumps) / (0.6745 * math.sqrt(2))
        return SIGMAS * deviation * math.sqrt(2 / self.width)

    @property
    def has_risen(self) -> bool:
        return self.now > self.begin + self.margin

    def show(self) -> str:
        """`reward 1.72 -> 0.41`: its beginning and its end."""
        return f"{self.name} {show(self.begin)} -> {show(self.now)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A run as the doctor sees it; what is missing is not diagnosed."""

    rows: Sequence[Mapping[str, float]]
    """Metrics with their `step`, oldest first."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The resolved settings of the stage."""
    reason: str = ""
    """Why the run ended, where it did not end well."""
    expert_loads: Sequence[Sequence[int]] = ()
    """Tokens of each expert, one row a layer, of the last part of the run."""

    @property
    def learns_by_reward(self) -> bool:
        return any("reward" in row for row in self.rows)

    def trend(self, name: str) -> Trend | None:
        """The finite values of a metric; None where there are none."""
        found = [
            (int(row["step"]), row[name]) for row in self.rows if name in row and math.isfinite(row[name])
        ]
        if not found:
            return None
        return Trend(name=name, steps=tuple(step for step, _ in found), values=tuple(v for _, v in found))

    def long_trend(self, name: str) -> Trend | None:
        """The same, and None too where it is too short to compare its beginning with its end."""
        trend = self.trend(name)
        return trend if trend is not None and trend.is_long else None

    def now(self, name: str) -> float | None:
        """The mean of a metric's last stretch."""
        trend = self.trend(name)
        return None if trend is None else trend.now

    def goal(self) -> Trend | None:
        """What the run is for: accuracy where answers are judged, else reward."""
        accuracy = self.long_trend("accuracy")
        return accuracy if accuracy is not None and any(accuracy.values) else self.long_trend("reward")

    def setting(self, name: str) -> float | None:
        """A number among the settings of learning, wherever it stands there."""
        settings = self.settings.get("settings", self.settings)
        learning = settings.get("rl") or settings.get("train") or settings
        return _find(learning, name)


def _find(settings: Mapping[str, Any], name: str) -> float | None:
    value = settings.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    inner = (_find(one, name) for one in settings.values() if isinstance(one, Mapping))
    return next((one for one in inner if one is not None), None)


def show(value: float) -> str:
    """Three digits: `1.72`, `0.0413`, `2.4e-07`."""
    return f"{value:.3g}"


def percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 or share == 0 else f"{share:.1%}"
