"""Draws of all uncertain inputs: scrambled Sobol' points, rank correlations, common random numbers.

A column belongs to a name, not to a place in a list: two scenarios drawn with one plan and one `columns` have
the same latent number on the same path for every input that both have, so their difference is paired.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from openbook.economics.invest.correlation import Group, RankCorrelation, correlated_groups
from openbook.economics.invest.distributions import Distribution
from openbook.economics.invest.sobol import num_columns, scrambled_points
from openbook.errors import UserError

T = TypeVar("T")
Floats = npt.NDArray[np.float64]
Draws = dict[str, Floats]
"""One value a path for each input, by name. Constants are views that hold one number."""

GENERATOR = "Sobol' points (Joe and Kuo), linear matrix scramble and digital shift from PCG64"
MIN_SCRAMBLES = 16
MAX_PATHS = 2**26


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How many paths, from which seed, in how many independent scrambles. Raises UserError.

    `num_paths` is `num_scrambles` times a power of two, for only then are the points even.
    """

    num_paths: int = 65_536
    seed: int = 0
    num_scrambles: int = MIN_SCRAMBLES

    def __post_init__(self) -> None:
        if self.num_scrambles < MIN_SCRAMBLES:
            raise UserError(
                f"{self.num_scrambles} scrambles give no standard error worth the name",
                f"use at least {MIN_SCRAMBLES}",
            )
        if self.seed < 0:
            raise UserError(f"a seed of {self.seed}", "give a whole number from 0")
        points, rest = divmod(self.num_paths, self.num_scrambles)
        if rest or points < 2 or points & (points - 1):
            below = self.num_scrambles << max((points or 1).bit_length() - 1, 1)
            raise UserError(
                f"{self.num_paths} paths are not {self.num_scrambles} times a power of two",
                f"{below} or {2 * below} are",
            )
        if self.num_paths > MAX_PATHS:
            raise UserError(f"{self.num_paths} paths are more than {MAX_PATHS}", "use fewer")

    @property
    def paths_per_scramble(self) -> int:
        return self.num_paths // self.num_scrambles


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """Draws for any set of inputs whose names stand in `columns`.

    `columns` lists every uncertain input of every scenario that is to be compared; see `columns_of`.
    """

    plan: Plan
    columns: tuple[str, ...]

    def latent(self, name: str, scramble: int) -> Floats:
        """The uniform numbers of one input in one scramble, before any correlation."""
        return scrambled_points(
            self.columns.index(name),
            self.plan.paths_per_scramble,
            name=name,
            seed=self.plan.seed,
            scramble=scramble,
        )

    def draw(
        self,
        inputs: Mapping[str, Distribution],
        correlations: Iterable[RankCorrelation] = (),
        scramble: int | None = None,
    ) -> Draws:
        """The inputs on every path, or on those of one scramble (chunks of a large sample).

        Path p of the whole lies in scramble p // plan.paths_per_scramble. Raises UserError for correlations
        that cannot be.
        """
        groups = correlated_groups(self._uncertain(inputs), correlations)
        scrambles = range(self.plan.num_scrambles) if scramble is None else (scramble,)
        num_paths = len(scrambles) * self.plan.paths_per_scramble
        levels = {name: np.empty(num_paths) for name in self._uncertain(inputs)}
        for place, one in enumerate(scrambles):
            block = slice(place * self.plan.paths_per_scramble, (place + 1) * self.plan.paths_per_scramble)
            for name, level in levels.items():
                level[block] = self.latent(name, one)
        return values_at(inputs, levels, groups, num_paths)

    def _uncertain(self, inputs: Mapping[str, Distribution]) -> tuple[str, ...]:
        missing = [name for name, one in inputs.items() if not one.is_constant and name not in self.columns]
        assert not missing, f"no columns for {missing}"
        return tuple(name for name in self.columns if name in inputs and not inputs[name].is_constant)


def over_scrambles(work: Callable[[int], T], num_scrambles: int) -> list[T]:
    """work(0), work(1), ... in order, on a thread for each core: numpy lets the others go on.

    What is found is the same whatever the number of threads.
    """
    from concurrent.futures import ThreadPoolExecutor

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(max_workers=min(cores, num_scrambles)) as pool:
        return list(pool.map(work, range(num_scrambles)))


def columns_of(*input_sets: Mapping[str, Distribution], first: Sequence[str] = ()) -> tuple[str, ...]:
    """Every uncertain input of the sets: those in `first` in its order, then the others by name.

    `first` is the list of the inputs that come with the package: they keep their columns whatever a user
    adds, so figures of a user's file are paired with those of the built-in scenarios.
    """
    uncertain = {name for inputs in input_sets for name, one in inputs.items() if not one.is_constant}
    known = tuple(dict.fromkeys(first))
    columns = known + tuple(sorted(uncertain - set(known)))
    if len(columns) > num_columns():
        raise UserError(
            f"{len(columns)} uncertain inputs", f"at most {num_columns()} are possible; make some constant"
        )
    return columns


def values_at(
    inputs: Mapping[str, Distribution], levels: Mapping[str, Floats], groups: Sequence[Group], num_paths: int
) -> Draws:
    """The inputs at independent uniform `levels`, correlated within `groups`; constants need no level."""
    tied = dict(levels)
    for group in groups:
        tied.update(_correlated(group, levels))
    return {
        name: one.ppf(tied[name]) if name in tied else one.ppf(np.empty(num_paths))
        for name, one in inputs.items()
    }


def _correlated(group: Group, levels: Mapping[str, Floats]) -> dict[str, Floats]:
    from scipy.special import ndtr, ndtri

    normal = np.stack([ndtri(levels[name]) for name in group.names])
    tied = ndtr(group.triangle @ normal)
    return dict(zip(group.names, tied, strict=True))
