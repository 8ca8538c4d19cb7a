"""A ledger entry: so much of something, at a price with a source and a date, came to so much.

Entries are only ever added. A mistake is corrected by the reverse of the entry and a new one, and
work that turns out to be lost is moved by a pair of entries that add up to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from openbook.errors import UserError, nearest
from openbook.ledger.accounts import PRICE_UNITS, find_account
from openbook.units import NANO_USD_PER_USD

CURRENCY = "USD"
QUANTITY_DECIMALS = 9
"""Of a quantity, so that its sums are sums of whole numbers in the database."""
_EXACT = Context(prec=60)  # far beyond any quantity that is taken
MOST = 2**63 - 1
"""Of an amount in nano-dollars (9.2 billion dollars) and of a sum of them: a 64-bit column."""


class Origin(StrEnum):
    """Who entered it."""

    OPENBOOK = "openbook"  # from the usage of a run
    HAND = "hand"
    IMPORT = "import"  # from a file, which `source_file` names


class Basis(StrEnum):
    """What the quantity rests on."""

    MEASURED = "measured"
    ESTIMATED = "estimated"
    STATED = "stated"  # by whoever entered it, or by the bill it was imported from


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """One signed line of the ledger.

    `quantity` is counted in `unit`, `unit_price_usd` buys one `price_unit`; `price_date` is the day
    from which that price holds. `account` says what was consumed (`device`, `staff`, ...) and `lost`
    that the work was thrown away within a run that went on. `time` is when it was recorded,
    `period_start` (included) and `period_end` (excluded) when it was consumed; all in UTC. A
    statement by day or month goes by `period_start`.

    `run_id` is None for what belongs to no run, such as staff and storage. `reverses` is the number
    of the entry that this one takes back; None for all others. `external_id` is what a source calls
    it: no two entries share one, "" is none. `programme` may name what it was all for.
    """

    time: datetime
    run_id: str | None
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
    period_start: datetime
    period_end: datetime
    origin: Origin = Origin.OPENBOOK
    basis: Basis = Basis.MEASURED
    source_file: str = ""
    external_id: str = ""
    programme: str = ""
    reverses: int | None = None

    @property
    def day(self) -> date:
        """The day (UTC) on which it counts."""
        return self.period_start.astimezone(UTC).date()


class PriceKey(NamedTuple):
    """What entries must share for their amounts to be checked as one sum."""

    run_id: str | None
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
    """The entry that has the opposite effect of `entry`; `Change.reverse` takes back a numbered one."""
    return replace(
        entry,
        time=time,
        note=note,
        quantity=-entry.quantity,
        amount_nano_usd=-entry.amount_nano_usd,
        external_id="",
    )


def refuse_other_currency(currency: str, where: str) -> None:
    """Raises UserError for money that is not in dollars; `where` begins the sentence."""
    if currency != CURRENCY:
        raise UserError(
            f"{where} is in {currency!r}, and the ledger counts {CURRENCY} only, for sums over currencies "
            "would depend on the day they are converted",
            f"convert it to {CURRENCY} and name the rate and its day in the price source",
        )


def refuse_wrong(entry: LedgerEntry) -> None:
    """Raises UserError when an entry contradicts itself, in one line that says how."""
    account, what = find_account(entry.account), f"entry of {entry.account}"
    if entry.price_unit not in PRICE_UNITS:
        raise UserError(
            f"{what} is priced by the {entry.price_unit!r}", nearest(entry.price_unit, list(PRICE_UNITS))
        )
    if entry.unit not in account.units:
        raise UserError(f"{what} is counted in {entry.unit}", f"count it in {' or '.join(account.units)}")
    if PRICE_UNITS[entry.price_unit][0] != entry.unit:
        raise UserError(
            f"{what} is counted in {entry.unit} and priced by the {entry.price_unit}",
            f"a {entry.price_unit} buys {PRICE_UNITS[entry.price_unit][0]}s",
        )
    if not entry.unit_price_usd.is_finite() or entry.unit_price_usd < 0:
        raise UserError(f"{what} has the price {entry.unit_price_usd}", "a price is not negative")
    if not entry.quantity.is_finite() or abs(entry.quantity) > MOST:
        raise UserError(f"{what} has the quantity {entry.quantity}", f"at most {MOST}")
    if split_quantity(entry.quantity) is None:
        raise UserError(
            f"{what} has the quantity {entry.quantity}", f"round it to {QUANTITY_DECIMALS} decimals"
        )
    if abs(entry.amount_nano_usd) > MOST:
        raise UserError(f"{what} comes to more than 9.2 billion dollars", "enter it in parts by run or day")
    if not entry.price_source:
        raise UserError(f"{what} has a price without a source", "say where the price is from")
    if any(time.tzinfo is None for time in (entry.time, entry.period_start, entry.period_end)):
        raise UserError(f"{what} has a time without a time zone", "add one, such as +00:00")
    if entry.period_end < entry.period_start:
        raise UserError(f"{what} ends at {entry.period_end.isoformat()}, before it begins", "mend its period")


def split_quantity(quantity: Decimal) -> tuple[int, int] | None:
    """A quantity as whole units and billionths, of equal sign; None when it has more decimals."""
    exponent = quantity.as_tuple().exponent
    if isinstance(exponent, int) and exponent >= -QUANTITY_DECIMALS:
        whole = int(quantity)
        return whole, int(_EXACT.scaleb(_EXACT.subtract(quantity, whole), QUANTITY_DECIMALS))
    scaled = Fraction(quantity) * 10**QUANTITY_DECIMALS
    if scaled.denominator != 1:
        return None
    units, nano = divmod(abs(scaled.numerator), 10**QUANTITY_DECIMALS)
    return (units, nano) if scaled >= 0 else (-units, -nano)


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
