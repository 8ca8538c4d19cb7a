"""What an uncertain input may be: a distribution with unit, source, date and mark.

Every draw goes through `ppf`, the inverse of the distribution function: one uniform number in, one value out,
rising. That keeps inputs of one name paired between scenarios even where their distributions differ.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date as Date
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from openbook.economics.sourced import Mark
from openbook.errors import UserError, nearest

Floats = npt.NDArray[np.float64]
Parameter = float | tuple[float, ...]


class Kind(StrEnum):
    """The shapes an input may have."""

    CONSTANT = "constant"
    UNIFORM = "uniform"
    TRIANGULAR = "triangular"
    NORMAL = "normal"
    LOGNORMAL = "lognormal"
    BETA = "beta"
    DISCRETE = "discrete"


REQUIRED: Mapping[Kind, tuple[str, ...]] = {
    Kind.CONSTANT: ("value",),
    Kind.UNIFORM: ("low", "high"),
    Kind.TRIANGULAR: ("low", "mode", "high"),
    Kind.NORMAL: ("mean", "sd"),
    Kind.LOGNORMAL: ("median", "log_sd"),
    Kind.BETA: ("alpha", "beta"),
    Kind.DISCRETE: ("values", "weights"),
}
OPTIONAL: Mapping[Kind, tuple[str, ...]] = {
    Kind.NORMAL: ("low", "high"),  # cut off there
    Kind.LOGNORMAL: ("low", "high"),
    Kind.BETA: ("low", "high"),  # stretched from 0..1 to there
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """One input: its shape, the shape's parameters under the names of REQUIRED and OPTIONAL, and who says so.

    Raises UserError for parameters that are missing, unknown, or describe no distribution.
    """

    kind: Kind
    parameters: Mapping[str, Parameter]
    unit: str
    source: str
    date: Date
    mark: Mark
    note: str = ""

    def __post_init__(self) -> None:
        _check_names(self)
        _check_values(self)

    @property
    def is_constant(self) -> bool:
        return self.kind is Kind.CONSTANT

    @property
    def median(self) -> float:
        return self.quantile(0.5)

    def quantile(self, q: float) -> float:
        """The value that a share `q` lies below, 0 < q < 1."""
        return float(self.ppf(np.array([q]))[0])

    def ppf(self, u: Floats) -> Floats:
        """The values at the levels `u` (0 < u < 1), of the same shape."""
        match self.kind:
            case Kind.CONSTANT:
                return np.broadcast_to(np.float64(self._number("value")), u.shape)
            case Kind.UNIFORM:
                low, high = self._number("low"), self._number("high")
                return low + (high - low) * u
            case Kind.TRIANGULAR:
                return _triangular(self._number("low"), self._number("mode"), self._number("high"), u)
            case Kind.NORMAL:
                return self._number("mean") + self._number("sd") * self._deviate(u)
            case Kind.LOGNORMAL:
                return self._number("median") * np.exp(self._number("log_sd") * self._deviate(u))
            case Kind.BETA:
                return self._beta(u)
            case Kind.DISCRETE:
                ends = np.cumsum(self.parameters["weights"])
                chosen = np.minimum(np.searchsorted(ends, u, side="right"), len(ends) - 1)
                return np.asarray(self.parameters["values"], dtype=np.float64)[chosen]

    def _number(self, name: str, default: float = math.nan) -> float:
        value = self.parameters.get(name, default)
        assert not isinstance(value, tuple)
        return float(value)

    def _deviate(self, u: Floats) -> Floats:
        """Standard normal values, from the part of the bell between `low` and `high` if they are given."""
        from scipy.special import ndtr, ndtri

        if "low" in self.parameters or "high" in self.parameters:
            below = ndtr(self._standard(self._number("low", -math.inf)))
            above = ndtr(self._standard(self._number("high", math.inf)))
            u = below + (above - below) * u
        deviates: Floats = ndtri(u)
        return deviates

    def _standard(self, bound: float) -> float:
        if self.kind is Kind.NORMAL:
            return (bound - self._number("mean")) / self._number("sd")
        if bound <= 0:
            return -math.inf
        return (math.log(bound) - math.log(self._number("median"))) / self._number("log_sd")

    def _beta(self, u: Floats) -> Floats:
        low, high = self._number("low", 0.0), self._number("high", 1.0)
        return low + (high - low) * _beta_share(self._number("alpha"), self._number("beta"), u)


def constant(value: float, *, unit: str, source: str, date: Date, mark: Mark) -> Distribution:
    """An input that is known."""
    return Distribution(
        kind=Kind.CONSTANT, parameters={"value": value}, unit=unit, source=source, date=date, mark=mark
    )


def _triangular(low: float, mode: float, high: float, u: Floats) -> Floats:
    if high == low:
        return np.full(u.shape, low)
    at_mode = (mode - low) / (high - low)
    rising = low + np.sqrt(u * (high - low) * (mode - low))
    falling = high - np.sqrt((1 - u) * (high - low) * (high - mode))
    return np.where(u < at_mode, rising, falling)


NUM_NODES = 4096
LAST_NODE = 7.0
"""In standard deviations: levels lie within 2^-33 of 0 and 1, which is 6.3 of them."""
MIN_INTERPOLATED = 0.4
"""With a smaller parameter nearly all values lie at an end, and between them the curve is too steep."""


@functools.lru_cache(maxsize=64)
def _beta_nodes(alpha: float, beta: float) -> Floats:
    """The beta's values at evenly spaced normal variates to LAST_NODE either way, and one beyond each."""
    from scipy.special import betainccinv, betaincinv, ndtr

    step = 2 * LAST_NODE / (NUM_NODES - 1)
    z = -LAST_NODE + step * np.arange(-1, NUM_NODES + 1)
    lower, upper = betaincinv(alpha, beta, ndtr(z)), betainccinv(alpha, beta, ndtr(-z))
    return np.asarray(np.where(z < 0, lower, upper))


def _beta_share(alpha: float, beta: float, u: Floats) -> Floats:
    """The beta's values at the levels `u`, by cubic interpolation to 1e-10: inverting each takes 3 us."""
    from scipy.special import betaincinv, ndtri

    if min(alpha, beta) < MIN_INTERPOLATED:
        return np.asarray(betaincinv(alpha, beta, u))
    nodes = _beta_nodes(alpha, beta)
    place = (ndtri(u) + LAST_NODE) * ((NUM_NODES - 1) / (2 * LAST_NODE))
    cell = np.clip(place.astype(np.int64), 0, NUM_NODES - 2)
    t = place - cell
    before, left, right, after = (nodes[cell + shift] for shift in range(4))
    slope = (6 * right - 2 * before - 3 * left - after) / 6
    bend = (before - 2 * left + right) / 2
    twist = (3 * (left - right) + after - before) / 6
    value = left + t * (slope + t * (bend + t * twist))
    return np.asarray(np.clip(value, 0.0, 1.0))


def _check_names(given: Distribution) -> None:
    allowed = REQUIRED[given.kind] + OPTIONAL.get(given.kind, ())
    missing = [name for name in REQUIRED[given.kind] if name not in given.parameters]
    if missing:
        raise UserError(f"a {given.kind} needs {' and '.join(missing)}", f"it takes {', '.join(allowed)}")
    for name, value in given.parameters.items():
        if name not in allowed:
            raise UserError(f"a {given.kind} has no {name!r}", nearest(name, list(allowed)))
        if isinstance(value, tuple) is not (given.kind is Kind.DISCRETE):
            wanted = "a list of numbers" if given.kind is Kind.DISCRETE else "one number"
            raise UserError(f"{name} of a {given.kind} is {value!r}", f"give {wanted}")
        if not all(math.isfinite(one) for one in (value if isinstance(value, tuple) else (value,))):
            raise UserError(f"{name} of a {given.kind} is {value!r}", "give finite numbers")


def _check_values(given: Distribution) -> None:
    numbers = {name: value for name, value in given.parameters.items() if not isinstance(value, tuple)}
    for name in ("sd", "log_sd", "alpha", "beta", "median"):
        if name in numbers and numbers[name] <= 0:
            raise UserError(f"{name} of a {given.kind} is {numbers[name]:g}", "it must be above 0")
    low, high = numbers.get("low", -math.inf), numbers.get("high", math.inf)
    if low >= high:
        raise UserError(f"a {given.kind} from {low:g} to {high:g} is empty", "low must be below high")
    if given.kind is Kind.TRIANGULAR and not low <= numbers["mode"] <= high:
        raise UserError(f"the mode {numbers['mode']:g} lies outside {low:g} to {high:g}")
    if given.kind is Kind.LOGNORMAL and high <= 0:
        raise UserError(f"a lognormal is positive, and high is {high:g}", "give one above 0")
    if given.kind is Kind.DISCRETE:
        _check_weights(given)


def _check_weights(given: Distribution) -> None:
    values, weights = given.parameters["values"], given.parameters["weights"]
    assert isinstance(values, tuple) and isinstance(weights, tuple)
    if not values or len(values) != len(weights):
        raise UserError(f"{len(values)} values and {len(weights)} weights", "give one weight for each value")
    if any(weight < 0 for weight in weights) or abs(math.fsum(weights) - 1) > 1e-9:
        total = math.fsum(weights)
        raise UserError(
            f"weights {', '.join(map(str, weights))} add up to {total:g}", "they must add up to 1"
        )
    if any(later < earlier for earlier, later in itertools.pairwise(values)):
        raise UserError("values of a discrete input must rise", "put them and their weights in order")
