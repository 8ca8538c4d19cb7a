"""Which inputs matter: one at a time (tornado), and all together (Sobol' indices).

A tornado is quick to read and hides what inputs do together. A first-order index is the share of the variance
that an input explains alone, the total index the share it has any part in. The estimators are those of
Saltelli et al. (2010) and Jansen (1999), N (D + 2) evaluations for D inputs, as in SALib.

Indices presuppose independent inputs. Where inputs are correlated, they are those of the independent latent
variates: the first of a group (in the order of the columns) carries what the group has in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openbook.economics.invest.correlation import RankCorrelation, correlated_groups
from openbook.economics.invest.distributions import Distribution
from openbook.economics.invest.sampling import Draws, Plan, values_at
from openbook.economics.invest.sobol import num_columns, scrambled_points
from openbook.economics.invest.statistics import Estimate, jackknife
from openbook.errors import UserError

Floats = npt.NDArray[np.float64]
Evaluate = Callable[[Draws], Floats]
"""The figure asked about, one a path, from one value a path of each input."""

LOW, HIGH = 0.10, 0.90
"""A tornado moves each input from its q10 to its q90."""
MAX_PATHS_AT_ONCE = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class TornadoBar:
    """The figure with one input at its q10 and q90 and the others at their medians."""

    name: str
    low_input: float
    high_input: float
    at_low: float
    at_high: float
    base: float

    @property
    def swing(self) -> float:
        """How far the figure moves over the two ends and the middle."""
        return max(self.at_low, self.at_high, self.base) - min(self.at_low, self.at_high, self.base)


@dataclass(frozen=True, kw_only=True, slots=True)
class SobolIndex:
    """The shares of the figure's variance that one input explains alone, and has a part in."""

    name: str
    first: Estimate
    total: Estimate


def tornado(inputs: Mapping[str, Distribution], evaluate: Evaluate) -> tuple[TornadoBar, ...]:
    """One bar for each uncertain input, the widest first. Correlations play no part."""
    names = [name for name, one in inputs.items() if not one.is_constant]
    draws = {name: np.full(2 * len(names) + 1, one.median) for name, one in inputs.items()}
    for place, name in enumerate(names):
        draws[name][2 * place + 1 : 2 * place + 3] = inputs[name].ppf(np.array([LOW, HIGH]))
    figures = evaluate(draws)
    bars = [
        TornadoBar(
            name=name,
            low_input=float(draws[name][2 * place + 1]),
            high_input=float(draws[name][2 * place + 2]),
            at_low=float(figures[2 * place + 1]),
            at_high=float(figures[2 * place + 2]),
            base=float(figures[0]),
        )
        for place, name in enumerate(names)
    ]
    return tuple(sorted(bars, key=lambda bar: (-bar.swing, bar.name)))


def sobol_indices(
    inputs: Mapping[str, Distribution],
    evaluate: Evaluate,
    plan: Plan,
    correlations: Iterable[RankCorrelation] = (),
) -> tuple[SobolIndex, ...]:
    """First-order and total index of each uncertain input, the largest total first.

    Costs `plan.num_paths` x (inputs + 2) evaluations. Raises UserError where nothing varies.
    """
    figures = SobolFigures.of(inputs, evaluate, plan, correlations)
    value, error = jackknife(figures.parts(plan.num_scrambles), _indices)
    return tuple(
        sorted(
            (
                SobolIndex(
                    name=name,
                    first=Estimate(value=float(value[place, 0]), standard_error=float(error[place, 0])),
                    total=Estimate(value=float(value[place, 1]), standard_error=float(error[place, 1])),
                )
                for place, name in enumerate(figures.names)
            ),
            key=lambda index: (-index.total.value, index.name),
        )
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SobolFigures:
    """The figure on the points A, on the points B, and on A with the column of each input taken from B."""

    names: tuple[str, ...]
    a: Floats
    b: Floats
    mixed: Floats  # [input, path]

    @classmethod
    def of(
        cls,
        inputs: Mapping[str, Distribution],
        evaluate: Evaluate,
        plan: Plan,
        correlations: Iterable[RankCorrelation] = (),
    ) -> SobolFigures:
        names = tuple(name for name, one in inputs.items() if not one.is_constant)
        if not names:
            raise UserError("no input is uncertain", "give at least one a distribution")
        if 2 * len(names) > num_columns():
            raise UserError(
                f"{len(names)} uncertain inputs", f"at most {num_columns() // 2} can be told apart"
            )
        groups = correlated_groups(names, correlations)
        a, b = _levels(names, 0, plan), _levels(names, len(names), plan)
        points = [a, b, *({**a, name: b[name]} for name in names)]
        figures: list[Floats] = []
        at_once = max(1, MAX_PATHS_AT_ONCE // plan.num_paths)
        for start in range(0, len(points), at_once):
            levels = _joined(points[start : start + at_once], names)
            num_paths = len(levels[names[0]])
            values = evaluate(values_at(inputs, levels, groups, num_paths))
            figures.extend(np.split(values, num_paths // plan.num_paths))
        return cls(names=names, a=figures[0], b=figures[1], mixed=np.stack(figures[2:]))

    def parts(self, num_scrambles: int) -> Floats:
        """The means the indices are made of, [scramble, input, mean]. Raises UserError if all are equal."""
        centre = (self.a.sum() + self.b.sum() + self.mixed.sum()) / (self.a.size * (len(self.names) + 2))
        a, b, mixed = self.a - centre, self.b - centre, self.mixed - centre
        if np.ptp(np.concatenate([a, b])) == 0:
            raise UserError("the figure is the same on every path", "no input moves it: there is no variance")
        products = np.stack([b * (mixed - a), 0.5 * (a - mixed) ** 2], axis=-1)
        shared = np.stack([0.5 * (a + b), 0.5 * (a * a + b * b)], axis=-1)
        everything = np.concatenate([products, np.broadcast_to(shared, products.shape)], axis=-1)
        blocks = everything.reshape(len(self.names), num_scrambles, -1, 4).mean(axis=2)
        return np.asarray(blocks.transpose(1, 0, 2))


def _indices(means: Floats) -> Floats:
    """[..., (first, total)] from the means of `SobolFigures.parts`."""
    variance = means[..., 3] - means[..., 2] ** 2
    return means[..., :2] / variance[..., None]


def _levels(names: Sequence[str], first_column: int, plan: Plan) -> dict[str, Floats]:
    return {
        name: np.concatenate(
            [
                scrambled_points(
                    first_column + place,
                    plan.paths_per_scramble,
                    name=f"{name}/{first_column > 0}",
                    seed=plan.seed,
                    scramble=scramble,
                )
                for scramble in range(plan.num_scrambles)
            ]
        )
        for place, name in enumerate(names)
    }


def _joined(points: Sequence[Mapping[str, Floats]], names: Sequence[str]) -> dict[str, Floats]:
    return {name: np.concatenate([one[name] for one in points]) for name in names}
