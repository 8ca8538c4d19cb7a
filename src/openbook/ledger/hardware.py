"""Owned hardware in the books: its purchase, its depreciation by month, and the hours nobody used.

    hardware        what was paid for it, on the day
    depreciation    what its used hours cost
    idle            what its other hours cost: owned hours less run hours, at the same rate
    recovered       less than zero: the part of its used hours that runs were charged for already

The last three add up to what owning it cost beyond what runs were charged, so a sum over all accounts
but `hardware` counts no dollar twice. Booking again enters only what has changed since: usage that came
late moves hours from idle to used in the month they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, insert, or_, select

from openbook.errors import UserError
from openbook.ledger.book import Book
from openbook.ledger.depreciation import (
    Hardware,
    Method,
    depreciation_nano_usd,
    full_month,
    months,
    refuse_wrong_hardware,
)
from openbook.ledger.entry import Basis, LedgerEntry, Origin, amount_nano_usd
from openbook.ledger.prices import PricePlan
from openbook.ledger.rows import entry_from_row
from openbook.ledger.schema import entries_table, hardware_table
from openbook.ledger.totals import Among, By
from openbook.units import NANO_USD_PER_USD

PREFIX = "hardware:"
"""Of the external ids of what is booked here."""
AFTER_PREFIX = "hardware;"
"""The next text after all that begin with the prefix, byte by byte."""
DEVICE = "device"
PRICE_DECIMALS = 15
"""Of an idle hour: so many that a month of a thousand devices is right to the nano-dollar."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ownership:
    """What a piece of hardware has cost so far, as booked: `idle_nano_usd` is part of `used_up_nano_usd`."""

    hardware: Hardware
    used_up_nano_usd: int
    idle_nano_usd: int
    value_nano_usd: int


def add_hardware(book: Book, hardware: Hardware) -> None:
    """Enter a purchase. Raises UserError for what cannot be, or a name that is taken."""
    refuse_wrong_hardware(hardware)
    with book.changing() as change:
        if any(one.name == hardware.name for one in _read(change.connection)):
            raise UserError(f"there is hardware {hardware.name!r} already", "give it another name")
        change.connection.execute(insert(hardware_table).values(_to_row(hardware)))
        change.append([_purchase(hardware)])


def all_hardware(book: Book) -> tuple[Hardware, ...]:
    """Everything that was entered, in the order in which it was bought."""
    with book.reading() as connection:
        return _read(connection)


def book_hardware(book: Book, plan: PricePlan, until: date) -> int:
    """Enter what the days before `until` cost and are not entered for -> how many entries that took."""
    everything = all_hardware(book)
    if not everything:
        return 0
    entries: list[LedgerEntry] = []
    for device in sorted({one.device for one in everything}):
        items = [one for one in everything if one.device == device]
        days = _used_days(book, plan, device)
        for start, end in months(min(one.bought_on for one in items), until):
            month = [use for day, use in days.items() if start <= day < end]
            used = sum((use.seconds for use in month), Decimal(0))
            charged = sum(use.charged_nano_usd for use in month)
            owned = sum(one.owned_seconds(start, end) for one in items)
            for one in items:
                own = one.owned_seconds(start, end)
                if own:
                    use = _Use(min(used * own / owned, Decimal(own)), charged * own // owned)
                    entries += _targets(one, start, end, use)
    with book.changing() as change:
        new = list(_news(entries, _booked(change.connection)))
        change.append(new)
    return len(new)


def purchases(book: Book) -> dict[date, int]:
    """What was paid for the hardware that is entered, by day: its days count instead of it."""
    paid: dict[date, int] = {}
    for one in all_hardware(book):
        paid[one.bought_on] = paid.get(one.bought_on, 0) + one.cost_nano_usd
    return paid


def ownership(book: Book) -> tuple[Ownership, ...]:
    """What each piece of hardware has cost so far, as it is booked."""
    with book.reading() as connection:
        everything = _read(connection)
        sums = _booked(connection) if everything else {}
        return tuple(
            Ownership(
                hardware=one,
                used_up_nano_usd=(depreciated := _sum(sums, one.name, "depreciation"))
                + (idle := _sum(sums, one.name, "idle")),
                idle_nano_usd=idle,
                value_nano_usd=one.cost_nano_usd - depreciated - idle,
            )
            for one in everything
        )


@dataclass(frozen=True, slots=True)
class _Use:
    """What runs had of a piece of hardware in a month, and what they were charged for it."""

    seconds: Decimal
    charged_nano_usd: int


class _Key(NamedTuple):
    """What an amount was booked for; it stands in the external id, with a number behind it."""

    name: str
    account: str
    month: str


_Booked = dict[_Key, list[LedgerEntry]]


def _used_days(book: Book, plan: PricePlan, device: str) -> dict[date, _Use]:
    """What runs had of a device and were charged for it, by day.

    A run held the device if its time was paid at a price of that device.
    """
    columns, resource = entries_table.c, plan.resource_of(device)
    prices = [
        and_(
            columns.price_source == line.source,
            columns.unit_price_usd == f"{line.price_usd:f}",
            columns.price_date == line.valid_from.isoformat(),
        )
        for line in plan.prices
        if line.resource == resource
    ]
    query = select(columns.run_id).where(columns.account == DEVICE, columns.run_id.is_not(None), or_(*prices))
    with book.reading() as connection:
        run_ids = list(connection.execute(query.distinct()).scalars())
    totals = book.totals((By.DAY,), Among(run_ids=run_ids, accounts=(DEVICE,)))
    return {
        date.fromisoformat(one.key[0]): _Use(one.quantities["device-second"], one.amount_nano_usd)
        for one in totals
    }


def _targets(hardware: Hardware, start: date, end: date, use: _Use) -> list[LedgerEntry]:
    """What the days [start, end) of one month should stand in the books as."""
    cost, owned = depreciation_nano_usd(hardware, start, end), hardware.owned_seconds(start, end)
    first, last = full_month(start)
    # The rate of the whole month, so that it stays what it is as the month goes on.
    whole = Decimal(depreciation_nano_usd(hardware, first, last)) / NANO_USD_PER_USD
    rate = (whole * 3600 / hardware.owned_seconds(first, last)).quantize(Decimal(1).scaleb(-PRICE_DECIMALS))
    idle_seconds = (owned - use.seconds).quantize(Decimal("1e-6"))
    idle = amount_nano_usd(idle_seconds, rate, "device-hour")
    if not use.seconds and abs(cost - idle) <= 1:
        idle = cost  # the rate is rounded, the cost of the days is not
    used = cost - idle
    dollars = partial(_dollars, hardware, start, end)
    return [
        dollars("depreciation", used, f"{hardware.name}: {hardware.method}, the hours used"),
        replace(
            dollars("idle", idle, f"{hardware.name}: hours owned less hours used by runs"),
            quantity=idle_seconds,
            unit="device-second",
            unit_price_usd=rate,
            price_unit="device-hour",
        ),
        dollars(
            "recovered",
            -max(0, min(use.charged_nano_usd, used)),
            f"{hardware.name}: of the hours used, what runs were charged already",
        ),
    ]


def _news(targets: Iterable[LedgerEntry], booked: _Booked) -> Iterator[LedgerEntry]:
    """What is still to be entered so that the books say what the targets say."""
    for target in targets:
        before = booked.get(_key(target), [])
        quantity = target.quantity - sum((one.quantity for one in before), Decimal(0))
        amount = target.amount_nano_usd - sum(one.amount_nano_usd for one in before)
        if quantity or amount:
            yield replace(
                target,
                quantity=quantity,
                amount_nano_usd=amount,
                external_id=f"{target.external_id}{len(before) + 1}",
            )


def _dollars(
    hardware: Hardware, start: date, end: date, account: str, nano_usd: int, note: str
) -> LedgerEntry:
    """So many dollars for an account of the hardware, over a period within a month."""
    return LedgerEntry(
        time=datetime.now(UTC),
        run_id=None,
        attempt=0,
        account=account,
        lost=False,
        quantity=Decimal(nano_usd).scaleb(-9),
        unit="usd",
        unit_price_usd=Decimal(1),
        price_unit="usd",
        price_source=hardware.source,
        price_date=hardware.bought_on,
        amount_nano_usd=nano_usd,
        note=note,
        period_start=_midnight(max(start, hardware.bought_on)),
        period_end=_midnight(min(end, hardware.end)),
        basis=Basis.ESTIMATED,
        external_id=f"{PREFIX}{hardware.name}:{account}:{start:%Y-%m}:",
    )


def _purchase(hardware: Hardware) -> LedgerEntry:
    start = _midnight(hardware.bought_on)
    return LedgerEntry(
        time=datetime.now(UTC),
        run_id=None,
        attempt=0,
        account="hardware",
        lost=False,
        quantity=Decimal(hardware.count),
        unit="item",
        unit_price_usd=hardware.price_usd,
        price_unit="item",
        price_source=hardware.source,
        price_date=hardware.bought_on,
        amount_nano_usd=hardware.cost_nano_usd,
        note=f"{hardware.name}: {hardware.count} bought, {hardware.method} over {hardware.life_days} days",
        period_start=start,
        period_end=start,
        origin=Origin.HAND,
        basis=Basis.STATED,
        external_id=f"{PREFIX}{hardware.name}:hardware:{hardware.bought_on:%Y-%m}:1",
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _booked(connection: Connection) -> _Booked:
    """The entries that earlier bookings made, by what they are for."""
    name = entries_table.c.external_id
    if connection.dialect.name == "sqlite":  # whose LIKE does not use the index
        is_ours = and_(name >= PREFIX, name < AFTER_PREFIX)
    else:
        is_ours = name.like(f"{PREFIX}%")
    found: _Booked = {}
    for row in connection.execute(select(entries_table).where(is_ours).order_by(entries_table.c.id)):
        entry = entry_from_row(row).entry
        found.setdefault(_key(entry), []).append(entry)
    return found


def _key(entry: LedgerEntry) -> _Key:
    _, name, account, month, _ = entry.external_id.split(":")
    return _Key(name, account, month)


def _sum(booked: _Booked, name: str, account: str) -> int:
    return sum(
        entry.amount_nano_usd
        for key, entries in booked.items()
        if (key.name, key.account) == (name, account)
        for entry in entries
    )


def _read(connection: Connection) -> tuple[Hardware, ...]:
    query = select(hardware_table).order_by(hardware_table.c.bought_on, hardware_table.c.name)
    return tuple(
        Hardware(
            **row
            | {
                "price_usd": Decimal(row["price_usd"]),
                "salvage_usd": Decimal(row["salvage_usd"]),
                "bought_on": date.fromisoformat(row["bought_on"]),
                "method": Method(row["method"]),
            }
        )
        for row in map(dict, connection.execute(query).mappings())
    )


def _to_row(hardware: Hardware) -> dict[str, Any]:
    return asdict(hardware) | {
        "price_usd": f"{hardware.price_usd:f}",
        "salvage_usd": f"{hardware.salvage_usd:f}",
        "bought_on": hardware.bought_on.isoformat(),
        "method": str(hardware.method),
    }
