"""Rank correlations between inputs, and why a set of them may be impossible.

Inputs are tied by a Gaussian copula: normal variates with the correlation r = 2 sin(pi rho / 6) have the
(Spearman) rank correlation rho, whatever distributions they are then given.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openbook.errors import UserError, nearest

Floats = npt.NDArray[np.float64]
ROUNDING = 1e-9
"""An eigenvalue down to minus this is zero as far as doubles can tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankCorrelation:
    """Spearman's rank correlation `rho` of two inputs."""

    first: str
    second: str
    rho: float

    def __str__(self) -> str:
        return f"{self.first} and {self.second} {self.rho:+g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Inputs that hang together, and the lower triangle that makes their normal variates correlate.

    The first input keeps its own latent variate; each later one takes parts of those before it.
    """

    names: tuple[str, ...]
    triangle: Floats


def correlated_groups(names: Sequence[str], correlations: Iterable[RankCorrelation]) -> tuple[Group, ...]:
    """The groups of `names`, each in the order of `names`, that `correlations` tie together.

    Raises UserError for unknown names, contradictions, and correlations that no variables can have.
    """
    ties = _checked(names, correlations)
    return tuple(_group(members, ties) for members in _connected(names, ties))


Ties = dict[frozenset[str], float]


def _checked(names: Sequence[str], correlations: Iterable[RankCorrelation]) -> Ties:
    ties: Ties = {}
    for tie in correlations:
        for name in (tie.first, tie.second):
            if name not in names:
                raise UserError(
                    f"a correlation names {name!r}, which is no uncertain input", nearest(name, list(names))
                )
        if tie.first == tie.second:
            raise UserError(f"{tie.first} is correlated with itself", "name two different inputs")
        if not -1 <= tie.rho <= 1:
            raise UserError(f"the rank correlation of {tie} is no correlation", "give one from -1 to 1")
        pair = frozenset({tie.first, tie.second})
        if ties.setdefault(pair, tie.rho) != tie.rho:
            raise UserError(f"{tie} is also given as {ties[pair]:+g}", "give each pair once")
    return {pair: rho for pair, rho in ties.items() if rho != 0}


def _connected(names: Sequence[str], ties: Ties) -> list[tuple[str, ...]]:
    group_of = {name: {name} for pair in ties for name in pair}
    for pair in ties:
        first, second = pair
        if group_of[first] is not group_of[second]:
            group_of[first] |= group_of[second]
            for name in group_of[second]:
                group_of[name] = group_of[first]
    groups = {id(group): group for group in group_of.values()}
    ordered = [tuple(name for name in names if name in group) for group in groups.values()]
    return sorted(ordered, key=lambda group: names.index(group[0]))


def _group(names: tuple[str, ...], ties: Ties) -> Group:
    matrix = _latent_matrix(names, ties)
    if np.linalg.eigvalsh(matrix)[0] < -ROUNDING:
        raise UserError(*_reason(names, ties, matrix))
    return Group(names=names, triangle=_triangle(matrix))


def _latent_matrix(names: Sequence[str], ties: Ties) -> Floats:
    matrix = np.eye(len(names))
    for (i, first), (j, second) in itertools.combinations(enumerate(names), 2):
        rho = ties.get(frozenset({first, second}), 0.0)
        matrix[i, j] = matrix[j, i] = 2 * math.sin(math.pi * rho / 6)
    return matrix


def _triangle(matrix: Floats) -> Floats:
    """Cholesky's factor; inputs that others decide completely have a zero of their own."""
    size = len(matrix)
    lower = np.zeros((size, size))
    for column in range(size):
        rest = matrix[column:, column] - lower[column:, :column] @ lower[column, :column]
        if rest[0] > ROUNDING:
            lower[column:, column] = rest / math.sqrt(rest[0])
    return lower


def _reason(names: tuple[str, ...], ties: Ties, matrix: Floats) -> tuple[str, str]:
    """The fewest inputs whose correlations contradict each other, named; and what to change."""
    for three in itertools.combinations(names, 3):
        if np.linalg.eigvalsh(_latent_matrix(three, ties))[0] < -ROUNDING:
            pairs = itertools.combinations(three, 2)
            said = [f"{a} and {b} {ties.get(frozenset({a, b}), 0.0):+g}" for a, b in pairs]
            return (
                f"rank correlations of {', '.join(said)} cannot hold together",
                "bring one of the three closer to the product of the other two",
            )
    values, vectors = np.linalg.eigh(matrix)
    heavy = [name for name, weight in zip(names, vectors[:, 0], strict=True) if abs(weight) > 0.1]
    return (
        f"the rank correlations between {', '.join(heavy)} cannot hold together "
        f"(smallest eigenvalue {values[0]:.3g})",
        "bring some of them closer to zero",
    )
