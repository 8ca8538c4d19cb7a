"""A ledger entry: so much of something, at a price with a source and a date, came to so much.

Entries are only ever added. A mistake is corrected by the reverse of the entry and a new one, and
work that turns out to be lost is moved by a pair of entries that add up to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from openbook.units import NANO_USD_PER_USD

# What a price is for -> the unit in which the quantity is counted, and how many of it one price buys.
# Device time is counted in seconds because microseconds are not a finite decimal of an hour.
PRICE_UNITS = {
    "device-hour": ("device-second", 3600),
    "token": ("token", 1),
    "million-tokens": ("token", 1_000_000),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """One signed line of the ledger.

    `quantity` is counted in `unit`, `unit_price_usd` buys one `price_unit`; `price_date` is the day
    from which that price holds. `account` says what was consumed (`device`, `trained_tokens`, ...)
    and `lost` that the work was thrown away within a run that went on. `time` is when the work was
    recorded (UTC).
    """

    time: datetime
    run_id: str
    attempt: int
    account: str
    lost: bool
    quantity: Decimal
    unit: str
    unit_price_usd: Decimal
    price_unit: str
    price_source: str
    price_date: date
    amount_nano_usd: int
    note: str


class PriceKey(NamedTuple):
    """What entries must share for their amounts to be checked as one sum."""

    run_id: str
    account: str
    unit_price_usd: Decimal
    price_unit: str
    price_source: str
    price_date: date


class Sum(NamedTuple):
    """A quantity and the amount it came to."""

    quantity: Decimal
    amount_nano_usd: int


NOTHING = Sum(Decimal(0), 0)


def amount_nano_usd(quantity: Decimal, unit_price_usd: Decimal, price_unit: str) -> int:
    """The amount in nano-dollars, rounded once, half to even, from the exact product.

    Example: 1800 device-seconds at 2.00 USD per device-hour are 1,000,000,000.
    """
    _, quantity_per_price = PRICE_UNITS[price_unit]
    return round(Fraction(quantity) * Fraction(unit_price_usd) * NANO_USD_PER_USD / quantity_per_price)


def reversal(entry: LedgerEntry, *, time: datetime, note: str) -> LedgerEntry:
    """The entry that takes `entry` back."""
    return replace(
        entry, time=time, note=note, quantity=-entry.quantity, amount_nano_usd=-entry.amount_nano_usd
    )


def price_key(entry: LedgerEntry) -> PriceKey:
    """The sum that an entry belongs to."""
    return PriceKey(
        entry.run_id,
        entry.account,
        entry.unit_price_usd,
        entry.price_unit,
        entry.price_source,
        entry.price_date,
    )


def add_up(entries: Iterable[LedgerEntry]) -> dict[PriceKey, Sum]:
    """The entries added up by what they share."""
    sums: dict[PriceKey, Sum] = {}
    for entry in entries:
        quantity, amount = sums.get(price_key(entry), NOTHING)
        sums[price_key(entry)] = Sum(quantity + entry.quantity, amount + entry.amount_nano_usd)
    return sums
