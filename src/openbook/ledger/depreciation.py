"""Depreciation: how what was paid for hardware turns into the cost of the days on which it is owned.

Straight line takes off the same every day; declining balance the same share of what is left, such that
the salvage is left at the end of the life. The value on a day is a whole number of nano-dollars, and
the depreciation of a period the difference of two values: whatever the periods, they add up to the
price less the salvage exactly (facts of 7.2: 40,000 over 3 years are 13,333 a year).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from enum import StrEnum
from fractions import Fraction

from openbook.errors import UserError
from openbook.units import NANO_USD_PER_USD

DAYS_PER_YEAR = 365
SECONDS_PER_DAY = 86_400
DIGITS = 50


class Method(StrEnum):
    """How the value falls."""

    STRAIGHT_LINE = "straight-line"
    DECLINING = "declining"


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """Devices that are owned: `count` of them at `price_usd` each, in use from `bought_on`.

    `device` is what runs call it (`cpu`, `NVIDIA H200`). After `life_days` each is worth
    `salvage_usd`, and their hours are no more counted. `source` says where the price is from.
    """

    name: str
    device: str
    count: int
    price_usd: Decimal
    salvage_usd: Decimal
    bought_on: date
    life_days: int
    method: Method
    source: str

    @property
    def end(self) -> date:
        """The day after the last of its life."""
        return self.bought_on + timedelta(days=self.life_days)

    @property
    def cost_nano_usd(self) -> int:
        """What all of them cost."""
        return int(self.price_usd * NANO_USD_PER_USD) * self.count

    def owned_seconds(self, start: date, end: date) -> int:
        """Device-seconds owned in a period [start, end)."""
        days = (min(end, self.end) - max(start, self.bought_on)).days
        return max(0, days) * SECONDS_PER_DAY * self.count


def refuse_wrong_hardware(hardware: Hardware) -> None:
    """Raises UserError for what cannot be depreciated."""
    what = f"hardware {hardware.name!r}"
    if not re.fullmatch(r"[\w.-]{1,64}", hardware.name):
        raise UserError(f"{what} is no name", "use up to 64 letters, digits, dots and dashes")
    if not hardware.source:
        raise UserError(f"{what} needs the source of its price", "say who charged it")
    if hardware.count < 1:
        raise UserError(f"{what} is {hardware.count} devices", "at least one")
    for price in (hardware.price_usd, hardware.salvage_usd):
        if not price.is_finite() or price < 0 or price * NANO_USD_PER_USD % 1:
            raise UserError(f"{what} has a price of {price}", "not negative, with at most 9 decimals")
    if hardware.salvage_usd > hardware.price_usd:
        raise UserError(f"{what} is worth more at the end than it cost", "lower --salvage")
    if hardware.life_days < 1:
        raise UserError(f"{what} has a life of {hardware.life_days} days", "at least one day")
    if hardware.method is Method.DECLINING and not hardware.salvage_usd:
        raise UserError(
            f"{what} declines to a salvage of nothing, which a share of what is left never reaches",
            "give --salvage above zero, or use --method straight-line",
        )


def value_nano_usd(hardware: Hardware, day: date) -> int:
    """What all the devices are worth at the beginning of a day; all of the cost before they were bought."""
    cost = hardware.cost_nano_usd
    salvage = int(hardware.salvage_usd * NANO_USD_PER_USD) * hardware.count
    age = min(max((day - hardware.bought_on).days, 0), hardware.life_days)
    if hardware.method is Method.STRAIGHT_LINE:
        return cost - round(Fraction(cost - salvage) * age / hardware.life_days)
    with localcontext(prec=DIGITS):
        value = cost * (Decimal(salvage) / cost) ** (Decimal(age) / hardware.life_days)
        return int(value.to_integral_value(rounding=ROUND_HALF_EVEN))


def depreciation_nano_usd(hardware: Hardware, start: date, end: date) -> int:
    """What the days [start, end) cost."""
    return value_nano_usd(hardware, start) - value_nano_usd(hardware, end)


def full_month(day: date) -> tuple[date, date]:
    """The month of a day, as [first day, first day of the next)."""
    first = day.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)


def months(start: date, end: date) -> Iterator[tuple[date, date]]:
    """[start, end) cut at the first of each month."""
    while start < end:
        _, following = full_month(start)
        yield start, min(following, end)
        start = following
