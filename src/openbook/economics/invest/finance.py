"""Present values, rates of return, paybacks and schedules, for one series of flows or for many at once.

Flows lie on the last axis, one a year, the first at year 0; leading axes are paths. Where an answer may not
exist it is NaN, never a number that merely looks like one.

irr_roots([-100, 230, -132])    (0.10, 0.20)
irr_roots([-100, 5, 5, 5, -20]) ()
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from openbook.errors import UserError

Floats = npt.NDArray[np.float64]
Flows = Sequence[float] | Floats
Rate = float | Floats

MIN_LOG_RATE, MAX_LOG_RATE = math.log(1e-9), math.log(1e9)
"""Rates are looked for between -99.9999999 % and 1e9 times a year."""
ROUNDING = 1e-12
"""A value below this share of the sum of its terms' sizes is zero as far as doubles can tell."""


def npv(rate: Rate, flows: Flows) -> Floats:
    """Sum of CF_t / (1 + rate)^t over the last axis; `rate` is one number or one for each path."""
    flows = np.asarray(flows, dtype=np.float64)
    growth = np.asarray(1 + _checked(rate), dtype=np.float64)
    value = np.zeros(np.broadcast_shapes(flows.shape[:-1], growth.shape))
    for year in range(flows.shape[-1] - 1, -1, -1):  # Horner: no array of powers for a million paths
        value = value / growth + flows[..., year]
    return value


def irr_roots(flows: Sequence[float] | Floats) -> tuple[float, ...]:
    """Every rate above -100 % at which the NPV of one series is zero, rising; empty where there is none.

    In s = ln(1 + r) the NPV is a sum of c_t exp(-s t). Between two zeros of a smooth function lies one of its
    derivative, and the derivative has a term less: so the zeros of the simplest bracket those of the next.
    Flows that are all zero have no rate of return either.
    """
    terms = tuple((float(year), float(flow)) for year, flow in enumerate(flows) if flow != 0)
    if not all(math.isfinite(flow) for _, flow in terms):
        raise UserError("cash flows must be numbers", "one of them is NaN or infinite")
    return tuple(math.expm1(s) for s in _zeros(terms))


def num_sign_changes(flows: Flows) -> npt.NDArray[np.int64]:
    """Changes of sign along the last axis, zeros left out: no more rates of return exist than that."""
    signs = np.sign(np.asarray(flows, dtype=np.float64))
    last = signs[..., 0].copy()
    changes = np.zeros(last.shape, dtype=np.int64)
    for year in range(1, signs.shape[-1]):
        now = signs[..., year]
        changes += now * last < 0
        last = np.where(now != 0, now, last)
    return changes


def irr_paths(flows: Floats, num_steps: int = 80) -> Floats:
    """The rate of return of each path where flows change their sign exactly once, NaN elsewhere."""
    flows = np.asarray(flows, dtype=np.float64)
    unique = num_sign_changes(flows) == 1
    rising = np.sign(_first_nonzero(flows))
    low = np.full(flows.shape[:-1], MIN_LOG_RATE)
    high = np.full(flows.shape[:-1], MAX_LOG_RATE)
    with np.errstate(over="ignore"):
        for _ in range(num_steps):
            middle = 0.5 * (low + high)
            above = (
                npv(np.expm1(middle), flows) * rising < 0
            )  # the early flows outweigh the late at high rates
            low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(unique, np.expm1(0.5 * (low + high)), np.nan)


def mirr(flows: Flows, finance_rate: Rate, reinvest_rate: Rate) -> Floats:
    """(future value of what comes in / present value of what is paid)^(1/n) - 1; NaN without either."""
    flows = np.asarray(flows, dtype=np.float64)
    num_years = flows.shape[-1] - 1
    paid = -npv(finance_rate, np.minimum(flows, 0))
    received = npv(reinvest_rate, np.maximum(flows, 0)) * (1 + _checked(reinvest_rate)) ** num_years
    exists = (paid > 0) & (received > 0) & (num_years > 0)
    ratio = np.where(exists, received, 1) / np.where(exists, paid, 1)
    return np.where(exists, ratio ** (1 / max(num_years, 1)) - 1, np.nan)


def payback(flows: Flows) -> Floats:
    """Years until the flows first add up to zero, straight within a year; NaN if never."""
    flows = np.asarray(flows, dtype=np.float64)
    total = flows[..., 0].copy()
    years = np.where(total >= 0, 0.0, np.nan)
    for year in range(1, flows.shape[-1]):
        flow = flows[..., year]
        reached = np.isnan(years) & (total + flow >= 0)
        share = np.where(reached, -total / np.where(flow == 0, 1, flow), 0)
        years = np.where(reached, year - 1 + share, years)
        total = total + flow
    return years


def discounted_payback(rate: float, flows: Flows) -> Floats:
    """As `payback`, of flows each worth CF_t / (1 + rate)^t."""
    flows = np.asarray(flows, dtype=np.float64)
    return payback(flows / (1 + _checked(rate)) ** np.arange(flows.shape[-1]))


def straight_line(cost: Rate, life_years: float, num_years: int, salvage: Rate = 0.0) -> Floats:
    """Depreciation of (cost - salvage) in equal parts over `life_years`, which may end within a year.

    Shape: that of `cost`, then `num_years`; the first year is the one after the purchase.
    """
    if life_years <= 0:
        raise UserError(f"a useful life of {life_years:g} years", "give one above 0")
    shares = np.clip(life_years - np.arange(num_years), 0, 1) / life_years
    return np.asarray(np.multiply.outer(np.asarray(cost, dtype=np.float64) - np.asarray(salvage), shares))


def declining_balance(cost: Rate, rate: float, num_years: int, salvage: Rate = 0.0) -> Floats:
    """Depreciation at `rate` of what is left each year, never below `salvage`. Shape as `straight_line`."""
    if not 0 < rate <= 1:
        raise UserError(f"a rate of decline of {rate:g}", "give a share above 0 and up to 1, such as 0.276")
    left = np.multiply.outer(np.asarray(cost, dtype=np.float64), (1 - rate) ** np.arange(num_years + 1))
    floor = np.expand_dims(np.asarray(salvage, dtype=np.float64), -1)
    return np.asarray(-np.diff(np.maximum(left, floor), axis=-1))


def write_down(carrying: Floats, value_in_use: Floats, sale_value: Rate = 0.0) -> Floats:
    """What the carrying value exceeds the recoverable amount by: the higher of use and net sale."""
    return np.maximum(carrying - np.maximum(value_in_use, sale_value), 0.0)


def _checked(rate: Rate) -> Rate:
    if np.any(np.asarray(rate) <= -1):
        raise UserError("a rate of -100 % or less", "give it as a share, such as 0.10")
    return rate


def _first_nonzero(flows: Floats) -> Floats:
    first = np.argmax(flows != 0, axis=-1)
    return np.take_along_axis(flows, np.expand_dims(first, -1), -1)[..., 0]


Term = tuple[float, float]
"""An exponent t and a coefficient c of c exp(-s t)."""


def _zeros(terms: tuple[Term, ...]) -> list[float]:
    """Zeros of the sum of c exp(-s t) within the range of rates, rising, touching ones once."""
    if all(c > 0 for _, c in terms) or all(c < 0 for _, c in terms):
        return []
    first = terms[0][0]
    shifted = tuple((t - first, c) for t, c in terms)  # the same zeros, and the first term is constant
    slope = tuple((t, -t * c) for t, c in shifted[1:])
    marks = [MIN_LOG_RATE, *_zeros(slope), MAX_LOG_RATE]
    found: list[float] = []
    for low, high in itertools.pairwise(marks):
        start, end = _settled(shifted, low), _settled(shifted, high)
        if start == 0:
            found.append(low)
        elif start * end < 0:
            found.append(_bisect(shifted, low, high))
    return found


def _settled(terms: tuple[Term, ...], s: float) -> float:
    """The sum at `s`, up to a positive factor; exactly zero where rounding is all that is left."""
    value, size = _value(terms, s)
    return 0.0 if abs(value) <= ROUNDING * size else value


def _value(terms: tuple[Term, ...], s: float) -> tuple[float, float]:
    """The sum at `s` and the sum of its terms' sizes, both up to one positive factor."""
    largest = max(-s * t for t, _ in terms)
    parts = [c * math.exp(-s * t - largest) for t, c in terms]
    return math.fsum(parts), math.fsum(map(abs, parts))


def _bisect(terms: tuple[Term, ...], low: float, high: float) -> float:
    rises = _value(terms, low)[0] < 0
    while True:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            return middle
        if (_value(terms, middle)[0] < 0) is rises:
            low = middle
        else:
            high = middle
