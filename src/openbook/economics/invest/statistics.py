"""What many paths say, each figure with its Monte Carlo standard error.

Paths come in independent scrambles of equal size, one after the other. Points within a scramble are not
independent, so sd / sqrt(n) does not hold for them; the spread between scrambles does.

Percentiles are named by their quantile, q05 to q95. "P90" is refused: it is the 90th percentile in finance
and the value exceeded with 90 % certainty in other trades.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openbook.errors import UserError

Floats = npt.NDArray[np.float64]

QUANTILES = ("q05", "q25", "q50", "q75", "q95")
TAIL_SHARE = 0.05
"""The share of the worst paths whose mean is the expected shortfall."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A figure and the standard error that the number of paths leaves it with."""

    value: float
    standard_error: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """One outcome over all paths, in the outcome's unit; `probability_of_loss` is the share below zero.

    `expected_shortfall` is the mean of the worst twentieth of the paths, a loss where it is negative.
    """

    mean: Estimate
    sd: Estimate
    quantiles: Mapping[str, Estimate]
    probability_of_loss: Estimate
    expected_shortfall: Estimate
    num_paths: int
    num_scrambles: int


def summarise(values: Floats, num_scrambles: int, quantiles: Sequence[str] = QUANTILES) -> Summary:
    """The summary of one value a path. Raises UserError for paths without a number."""
    if not np.isfinite(values).all():
        num_bad = int(np.count_nonzero(~np.isfinite(values)))
        raise UserError(
            f"{num_bad} of {values.size} paths end in no finite number",
            "an input must be able to take a value that the model has no answer for: narrow its distribution",
        )
    blocks = np.sort(scrambles_of(values, num_scrambles), axis=-1)
    pooled = np.sort(blocks, axis=None)

    def estimated(statistic: Callable[[Floats], Floats]) -> Estimate:
        """A statistic of sorted values, with the spread of what each scramble alone would say."""
        return _estimate(float(statistic(pooled)), statistic(blocks))

    return Summary(
        mean=estimated(lambda x: np.asarray(x.mean(axis=-1))),
        sd=estimated(lambda x: np.asarray(x.std(axis=-1, ddof=1))),
        quantiles={name: estimated(_quantile_of(quantile_level(name))) for name in quantiles},
        probability_of_loss=estimated(lambda x: np.asarray((x < 0).mean(axis=-1))),
        expected_shortfall=estimated(lambda x: lower_tail_mean(x, TAIL_SHARE)),
        num_paths=values.size,
        num_scrambles=num_scrambles,
    )


def fan(values: Floats, quantiles: Sequence[str] = QUANTILES) -> dict[str, Floats]:
    """Quantiles over the last axis (paths), by name, of the shape of the others: for bands over years."""
    levels = [quantile_level(name) for name in quantiles]
    found = np.quantile(values, levels, axis=-1)
    return dict(zip(quantiles, found, strict=True))


def probability_above(values: Floats, threshold: float, num_scrambles: int) -> Estimate:
    """The share of paths above `threshold`."""
    shares = (scrambles_of(values, num_scrambles) > threshold).mean(axis=-1)
    return _estimate(float(shares.mean()), shares)


def mean_if_positive(values: Floats, num_scrambles: int) -> Estimate:
    """The mean of the paths above zero, such as a write-down where there is one; NaN where there is none."""
    blocks = scrambles_of(values, num_scrambles)
    positive = blocks > 0
    parts = np.stack([np.where(positive, blocks, 0).mean(axis=-1), positive.mean(axis=-1)], axis=-1)
    if not positive.any():
        return Estimate(value=math.nan, standard_error=math.nan)
    with np.errstate(invalid="ignore"):  # all of them may lie in one scramble: then there is no error to tell
        value, error = jackknife(parts, lambda mean: mean[..., 0] / mean[..., 1])
    return Estimate(value=float(value), standard_error=float(error))


def lower_tail_mean(ordered: Floats, share: float) -> Floats:
    """The mean of the lowest `share` of rising values over the last axis; the last one counts in part."""
    count = share * ordered.shape[-1]
    whole = int(count)
    total = ordered[..., :whole].sum(axis=-1) + (count - whole) * ordered[..., whole]
    return np.asarray(total / count)


def jackknife(parts: Floats, statistic: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
    """A smooth function of means and its standard error.

    `parts` holds the means of each scramble, [scramble, ..., mean]; `statistic` maps [..., mean] to [...].
    The error is the spread of what is found when one scramble after the other is left out.
    """
    num = parts.shape[0]
    whole = parts.mean(axis=0)
    left_out = statistic((whole * num - parts) / (num - 1))
    spread = ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
    return statistic(whole), np.sqrt(spread * (num - 1) / num)


def scrambles_of(values: Floats, num_scrambles: int) -> Floats:
    """Values by path as [scramble, path]."""
    assert values.ndim == 1 and values.size % num_scrambles == 0, (values.shape, num_scrambles)
    return values.reshape(num_scrambles, -1)


def quantile_level(name: str) -> float:
    """0.05 for `q05`, 0.5 for `q50`, 0.995 for `q995`. Raises UserError for other names."""
    if not re.fullmatch(r"q\d{2,4}", name) or int(name[1:]) == 0:
        raise UserError(
            f"{name!r} is no quantile", "write q and the digits after the point, such as q05 or q95"
        )
    return float(f"0.{name[1:]}")


def quantile_name(level: float) -> str:
    """`q05` for 0.05; the inverse of `quantile_level`."""
    assert 0 < level < 1, level
    return "q" + f"{level:.4f}"[2:].rstrip("0").ljust(2, "0")


def _quantile_of(level: float) -> Callable[[Floats], Floats]:
    """Of sorted values: np.quantile's linear rule without sorting again."""

    def of(ordered: Floats) -> Floats:
        place = level * (ordered.shape[-1] - 1)
        below = int(place)
        above = min(below + 1, ordered.shape[-1] - 1)
        return np.asarray(ordered[..., below] + (place - below) * (ordered[..., above] - ordered[..., below]))

    return of


def _estimate(value: float, by_scramble: Floats) -> Estimate:
    error = float(by_scramble.std(ddof=1)) / math.sqrt(by_scramble.size)
    return Estimate(value=value, standard_error=error)
