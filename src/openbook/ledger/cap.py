"""Caps: how much may be spent, in dollars, device-hours or tokens, as a person types it.

$0.01   0.01 USD   2h   90 min   3 device-hours   1e6 tokens   1.5M tokens
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from openbook.errors import UserError
from openbook.ledger.entry import refuse_other_currency
from openbook.units import MICROSECONDS_PER_SECOND, NANO_USD_PER_USD, show_count, show_seconds, show_usd

EXAMPLES = "such as '$0.01', 2h or '1e6 tokens'"
CURRENCIES = {
    "\u20ac": "EUR",
    "eur": "EUR",
    "\u00a3": "GBP",
    "gbp": "GBP",
    "\u00a5": "JPY",
    "cny": "CNY",
    "yuan": "CNY",
    "chf": "CHF",
}


class Meter(StrEnum):
    """What a cap counts, each in whole numbers of its smallest unit."""

    USD = "usd"  # nano-dollars
    DEVICE_TIME = "device-time"  # microseconds during which one device was held
    TOKENS = "tokens"  # computed as input, sampled or trained on; not those found in a cache


# A unit as typed -> what it counts, and how many of the smallest unit it is.
_UNITS = {
    "$": (Meter.USD, NANO_USD_PER_USD),
    "usd": (Meter.USD, NANO_USD_PER_USD),
    "dollar": (Meter.USD, NANO_USD_PER_USD),
    "s": (Meter.DEVICE_TIME, MICROSECONDS_PER_SECOND),
    "second": (Meter.DEVICE_TIME, MICROSECONDS_PER_SECOND),
    "min": (Meter.DEVICE_TIME, 60 * MICROSECONDS_PER_SECOND),
    "minute": (Meter.DEVICE_TIME, 60 * MICROSECONDS_PER_SECOND),
    "h": (Meter.DEVICE_TIME, 3600 * MICROSECONDS_PER_SECOND),
    "hour": (Meter.DEVICE_TIME, 3600 * MICROSECONDS_PER_SECOND),
    "device-hour": (Meter.DEVICE_TIME, 3600 * MICROSECONDS_PER_SECOND),
    "token": (Meter.TOKENS, 1),
    "k token": (Meter.TOKENS, 10**3),
    "m token": (Meter.TOKENS, 10**6),
    "b token": (Meter.TOKENS, 10**9),
    "t token": (Meter.TOKENS, 10**12),
}
_TEXT = re.compile(
    r"(?P<before>[^\d\s.+-]*)\s*(?P<number>[+-]?(?:\d[\d,_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<after>.*)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cap:
    """At most `most` of what `meter` counts, in its smallest unit."""

    meter: Meter
    most: int

    def show(self, amount: int | None = None) -> str:
        """The cap, or `amount` of what it counts, for a person: `$0.01`, `2 h 00 min`, `1.0M tokens`."""
        return show_amount(self.meter, self.most if amount is None else amount)


def show_amount(meter: Meter, amount: int) -> str:
    """So much of what a meter counts, for a person."""
    match meter:
        case Meter.USD:
            return show_usd(amount)
        case Meter.DEVICE_TIME:
            return f"{show_seconds(amount / MICROSECONDS_PER_SECOND)} of device time"
        case Meter.TOKENS:
            return f"{show_count(amount)} tokens"


def parse_cap(text: str) -> Cap:
    """A cap as typed. Raises UserError for what is no amount, not above zero, or in another currency."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise UserError(f"a budget of {text!r} is no amount", EXAMPLES)
    unit = " ".join(part for part in (found["before"], found["after"]) if part).lower()
    refuse_other_currency(CURRENCIES.get(unit, "USD"), f"a budget of {text!r}")
    meter, size = _find_unit(unit, text)
    most = Decimal(found["number"].replace(",", "").replace("_", "")) * size
    if most <= 0:
        raise UserError(f"a budget of {text!r} is not above zero", EXAMPLES)
    if most >= 2**63 or int(most) == 0:
        raise UserError(f"a budget of {text!r} is out of reach of the books", EXAMPLES)
    return Cap(meter=meter, most=int(most))


def _find_unit(unit: str, text: str) -> tuple[Meter, int]:
    if not unit:
        raise UserError(f"a budget of {text!r} has no unit", f"say what it counts, {EXAMPLES}")
    singular = unit.removesuffix("s") if unit not in ("s",) else unit
    for name in (unit, singular, singular.replace("device hour", "device-hour")):
        if name in _UNITS:
            return _UNITS[name]
    raise UserError(f"a budget cannot be counted in {unit!r}", f"use dollars, hours or tokens, {EXAMPLES}")
