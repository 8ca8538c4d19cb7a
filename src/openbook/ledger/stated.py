"""Entries that somebody states: staff, data, storage, invoices, and runs that others published.

    Stated(account="staff", quantity=Decimal(12), unit="hour", price_usd=Decimal(95), ...)
    -> 12 hours at 95 USD an hour, 1,140 USD, with the source of the price and its day

Quantities are given in the unit that has the price: a device-hour, a million tokens, a month.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation

from openbook.errors import UserError, nearest
from openbook.ledger.accounts import PRICE_UNITS, find_account
from openbook.ledger.book import Book
from openbook.ledger.cap import CURRENCIES
from openbook.ledger.change import Change
from openbook.ledger.entry import (
    Basis,
    LedgerEntry,
    Origin,
    amount_nano_usd,
    refuse_other_currency,
    refuse_wrong,
)
from openbook.ledger.rows import BookedRun
from openbook.runs.journal import RunStatus

NAMES_OF_UNITS = {
    "gpu-hour": "device-hour",
    "kwh": "kilowatt-hour",
    "gb": "gigabyte",
    "gb-month": "gigabyte-month",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stated:
    """What is stated: `quantity` `unit`s of an account at `price_usd` each, on the days [day, until)."""

    account: str
    quantity: Decimal
    unit: str
    price_usd: Decimal
    source: str
    day: date
    until: date | None = None
    price_date: date | None = None
    note: str = ""
    run_id: str | None = None
    programme: str = ""
    external_id: str = ""
    basis: Basis = Basis.STATED


@dataclass(frozen=True, kw_only=True, slots=True)
class StatedRun:
    """A run without a folder here, such as one out of a paper: it is done, and made from parents."""

    run_id: str
    stage: str
    parents: Sequence[str] = ()


def stated_entry(stated: Stated, *, origin: Origin = Origin.HAND, source_file: str = "") -> LedgerEntry:
    """The entry. Raises UserError when it contradicts itself."""
    unit = find_price_unit(stated.unit, stated.account)
    counted_in, quantity_per_price = PRICE_UNITS[unit]
    if stated.quantity < 0:
        raise UserError(
            f"entry of {stated.account} has the quantity {stated.quantity}",
            "a mistake is taken back by `openbook ledger reverse`",
        )
    entry = LedgerEntry(
        time=datetime.now(UTC),
        run_id=stated.run_id,
        attempt=0,
        account=stated.account,
        lost=False,
        quantity=stated.quantity * quantity_per_price,
        unit=counted_in,
        unit_price_usd=stated.price_usd,
        price_unit=unit,
        price_source=stated.source.strip(),
        price_date=stated.price_date or stated.day,
        amount_nano_usd=0,
        note=stated.note,
        period_start=midnight(stated.day),
        period_end=midnight(stated.until or stated.day + timedelta(days=1)),
        origin=origin,
        basis=stated.basis,
        source_file=source_file,
        external_id=stated.external_id,
        programme=stated.programme,
    )
    return priced(entry)


def priced(entry: LedgerEntry) -> LedgerEntry:
    """The entry with the amount that its quantity and price make. Raises UserError when it cannot be."""
    refuse_wrong(entry)
    amount = amount_nano_usd(entry.quantity, entry.unit_price_usd, entry.price_unit)
    entry = replace(entry, amount_nano_usd=amount)
    refuse_wrong(entry)
    return entry


def add_stated(book: Book, stated: Stated, run: StatedRun | None = None) -> int:
    """Add an entry by hand -> its number. Raises UserError for one that cannot be, or an unknown run."""
    entry = stated_entry(stated)
    with book.changing() as change:
        if run is not None:
            make_known(change, run)
        elif stated.run_id is not None and change.run(stated.run_id) is None:
            known = [one.run_id for one in book.runs()]
            raise UserError(
                f"run {stated.run_id!r} is not in ledger {book.location}",
                f"{nearest(stated.run_id, known)}; --stage enters one that has no folder here"
                if known
                else "`openbook bill` books runs; --stage enters one that has no folder here",
            )
        return change.append([entry])[0]


def make_known(change: Change, run: StatedRun) -> None:
    """Enter a run that has no folder here, unless the book knows it. Raises UserError for unknown parents."""
    if change.run(run.run_id) is not None:
        return
    for parent in run.parents:
        if change.run(parent) is None:
            raise UserError(
                f"run {parent!r}, a parent of {run.run_id!r}, is not in the ledger", "enter it first"
            )
    now = datetime.now(UTC)
    change.put_run(
        BookedRun(
            run_id=run.run_id,
            verb="stated",
            stage=run.stage,
            status=RunStatus.DONE,
            reason="",
            parents=tuple(run.parents),
            created_at=now,
            booked_at=now,
            num_lines_booked=0,
            num_rewinds_booked=0,
        )
    )


def find_price_unit(text: str, account: str) -> str:
    """The unit that was meant, one or many of it. Raises UserError when the account has no such unit."""
    fitting = [
        unit for unit, (counted_in, _) in PRICE_UNITS.items() if counted_in in find_account(account).units
    ]
    name = text.strip().lower().replace(" ", "-")
    for unit in (name, name.removesuffix("s"), NAMES_OF_UNITS.get(name.removesuffix("s"), "")):
        if unit in fitting:
            return unit
    raise UserError(f"{account} is not counted in {text!r}", f"use {' or '.join(fitting)}")


def parse_money(text: str) -> Decimal:
    """A price as typed: `95`, `$24,902`, `0.5 USD`. Raises UserError, for other currencies too."""
    number = text.strip().lower().replace(",", "").replace("_", "")
    for sign, code in CURRENCIES.items():
        if sign in number:
            refuse_other_currency(code, f"{text!r}")
    number = number.replace("$", "", 1).removesuffix("usd").strip()
    try:
        price = Decimal(number)
    except InvalidOperation:
        raise UserError(f"{text!r} is no price in dollars", "such as 95 or $24,902.50") from None
    if not price.is_finite() or price < 0:
        raise UserError(f"a price of {text!r}", "a price is not negative")
    return price


def midnight(day: date) -> datetime:
    """The beginning of a day in UTC."""
    return datetime.combine(day, time(), UTC)
