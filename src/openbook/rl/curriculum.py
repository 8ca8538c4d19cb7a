"""Curriculum: problems that are neither solved always nor never, by the measured pass rate of their level.

    pass rate p = (correct + 1) / (judged + 2)     counted with weights that fade, 0.5 where nothing is known
    share       = floor + (1 - num_levels * floor) * p (1 - p) / sum of p (1 - p)

p (1 - p) is the variance of a reward for right or wrong, and with it what a group of completions can teach; a
level that is always or never solved keeps its floor, so that it is noticed when that changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from openbook.engine.randomness import uniforms
from openbook.rl.curriculum_config import CurriculumConfig
from openbook.rl.types import Group
from openbook.tasks.problem import Outcome, Problem

NOTE = "curriculum"
"""Under this name a training state keeps what a curriculum knows."""

_PLACES = np.uint64(0x6375727269)
"""So that its draws are not those of anything else with the same seed."""


class Curriculum:
    """Draws problems level by level. What it draws depends on its settings, seed and `state` alone."""

    def __init__(
        self,
        settings: CurriculumConfig,
        levels: Sequence[str],
        problem_of: Callable[[str, int], Problem],
        *,
        seed: int,
    ) -> None:
        """`problem_of(level, index)` is a problem of that level, with its name for a family."""
        settings.check(len(levels))
        self._settings, self._levels, self._problem_of, self._seed = settings, list(levels), problem_of, seed
        self._counts = dict.fromkeys(levels, (0.0, 0.0))

    def draw(self, position: int, count: int) -> list[Problem]:
        """The problems of a stream from `position` on, as things stand."""
        seeds = np.full(count, self._seed & (2**64 - 1), dtype=np.uint64) ^ _PLACES
        numbers = uniforms(seeds, np.arange(position, position + count, dtype=np.uint64))
        bounds = np.cumsum(list(self.shares().values()))
        chosen = np.searchsorted(bounds[:-1], numbers, side="right")
        return [self._problem_of(self._levels[level], position + index) for index, level in enumerate(chosen)]

    def observe(self, groups: Sequence[Group]) -> None:
        """Take over what was found of a step's completions; what could not be judged says nothing."""
        seen: dict[str, tuple[float, float]] = {}
        for group in groups:
            for rollout in group.rollouts:
                outcome = rollout.scored.verdict.outcome
                if outcome in (Outcome.CORRECT, Outcome.WRONG):
                    correct, judged = seen.get(rollout.attempt.problem.family, (0.0, 0.0))
                    now = (correct + (outcome is Outcome.CORRECT), judged + 1)
                    seen[rollout.attempt.problem.family] = now
        decay = self._settings.decay
        for level, (correct, judged) in seen.items():
            earlier = self._counts[level]
            self._counts[level] = (decay * earlier[0] + correct, decay * earlier[1] + judged)

    def pass_rates(self) -> dict[str, float]:
        """By level; drawn towards 0.5, the more the less is known."""
        return {level: (correct + 1) / (judged + 2) for level, (correct, judged) in self._counts.items()}

    def shares(self) -> dict[str, float]:
        """With what probability each level is drawn; they add up to 1."""
        variances = {level: rate * (1 - rate) for level, rate in self.pass_rates().items()}
        total, floor = sum(variances.values()), self._settings.floor
        free = 1 - len(self._levels) * floor
        return {level: floor + free * variance / total for level, variance in variances.items()}

    def state(self) -> dict[str, Any]:
        """What it knows, as JSON values: by level how many were correct and judged, with their weights."""
        return {level: list(counts) for level, counts in self._counts.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Know what `state` says and nothing else; a level that is not in it is unknown."""
        known = {level: state.get(level, (0.0, 0.0)) for level in self._levels}
        self._counts = {level: (float(correct), float(judged)) for level, (correct, judged) in known.items()}
