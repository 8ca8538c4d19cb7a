"""Forecast against actual: the difference in dollars, split so that the parts add up to it exactly.

    actual - forecast = price + tokens + efficiency + lost time

    lost time    hours that came to nothing (rewound, failed, killed), at the forecast's price
    tokens       the same model of time on the tokens that there really were, less the forecast
    efficiency   the hours that really were, lost ones left out, less what the model says of those tokens
    price        the price that was paid less the one forecast, times all hours

Seconds are whole microseconds and prices decimals, so the sums are exact fractions and not floats.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

MICROSECONDS_PER_HOUR = 3_600_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One stage, before and after. Times are microseconds of the device."""

    forecast_microseconds: int
    remodelled_microseconds: int
    """The forecast's own model of time on the tokens that were really there."""
    kept_microseconds: int
    lost_microseconds: int
    forecast_usd_per_hour: Decimal
    actual_usd_per_hour: Decimal

    def __post_init__(self) -> None:
        times = (
            self.forecast_microseconds,
            self.remodelled_microseconds,
            self.kept_microseconds,
            self.lost_microseconds,
        )
        assert min(times) >= 0, "time does not run backwards"


@dataclass(frozen=True, kw_only=True, slots=True)
class Variance:
    """Dollars, exact: `forecast + price + tokens + efficiency + lost_time == actual`. `+` adds stages."""

    forecast_usd: Fraction
    price: Fraction
    tokens: Fraction
    efficiency: Fraction
    lost_time: Fraction
    actual_usd: Fraction

    @property
    def difference(self) -> Fraction:
        return self.actual_usd - self.forecast_usd

    def parts(self) -> dict[str, Fraction]:
        """By name, in the order in which they are told."""
        return {
            "price": self.price,
            "tokens": self.tokens,
            "efficiency": self.efficiency,
            "lost time": self.lost_time,
        }

    def __add__(self, other: Variance) -> Variance:
        return Variance(
            forecast_usd=self.forecast_usd + other.forecast_usd,
            price=self.price + other.price,
            tokens=self.tokens + other.tokens,
            efficiency=self.efficiency + other.efficiency,
            lost_time=self.lost_time + other.lost_time,
            actual_usd=self.actual_usd + other.actual_usd,
        )


def variance_of(outcome: Outcome) -> Variance:
    """The split of one stage."""
    before, after = (
        Fraction(price) / MICROSECONDS_PER_HOUR
        for price in (outcome.forecast_usd_per_hour, outcome.actual_usd_per_hour)
    )
    spent = outcome.kept_microseconds + outcome.lost_microseconds
    return Variance(
        forecast_usd=before * outcome.forecast_microseconds,
        price=(after - before) * spent,
        tokens=before * (outcome.remodelled_microseconds - outcome.forecast_microseconds),
        efficiency=before * (outcome.kept_microseconds - outcome.remodelled_microseconds),
        lost_time=before * outcome.lost_microseconds,
        actual_usd=after * spent,
    )


def total_variance(parts: Iterable[Variance]) -> Variance:
    """Of several stages together; of none, nothing."""
    nothing = Fraction(0)
    total = Variance(
        forecast_usd=nothing,
        price=nothing,
        tokens=nothing,
        efficiency=nothing,
        lost_time=nothing,
        actual_usd=nothing,
    )
    for one in parts:
        total += one
    return total
