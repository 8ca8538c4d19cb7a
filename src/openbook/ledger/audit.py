"""The audit: adding a ledger up again from the beginning, against its prices, totals and runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, select

from openbook.ledger.accounts import PRICE_UNITS
from openbook.ledger.book import Book
from openbook.ledger.booking import ENERGY, quantities
from openbook.ledger.entry import (
    NOTHING,
    Basis,
    LedgerEntry,
    Origin,
    PriceKey,
    Sum,
    amount_nano_usd,
    price_key,
    split_quantity,
)
from openbook.ledger.rows import BookedRun, NumberedEntry, read_entries, read_runs
from openbook.ledger.schema import entries_table, totals_table
from openbook.ledger.totals import SUMS, total_rows
from openbook.runs.run import Run


def verify(book: Book, runs: Sequence[Run] = ()) -> tuple[str, ...]:
    """Everything that does not add up, one sentence each; empty when the books are right.

    Entries are numbered without gaps. Each is its quantity times its price but for the rounding, and
    all entries of one price within a run exactly so. What takes an entry back is its opposite. The
    totals that the database keeps are the sums of the entries. With `runs`, their folders must hold
    the usage that was booked.
    """
    with book.reading() as connection:
        audit = _Audit(reversed_numbers=_reversed_numbers(connection))
        for numbered in read_entries(connection):
            audit.see(numbered)
        booked = {run.run_id: run for run in read_runs(connection)}
        kept = _kept_totals(connection)
    return (
        *audit.problems,
        *audit.wrong_sums(),
        *_wrong_totals(kept, audit.totals),
        *(problem for run in runs for problem in _wrong_usage(run, booked, audit.usage)),
    )


@dataclass(kw_only=True, slots=True)
class _Audit:
    """What is added up on the way through the entries; memory goes by runs and days, not by entries."""

    reversed_numbers: frozenset[int]
    problems: list[str] = field(default_factory=list)
    totals: dict[tuple[Any, ...], list[int]] = field(default_factory=dict)
    usage: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    _sums: dict[tuple[bool, PriceKey], Sum] = field(default_factory=dict)
    _num_reversed: Counter[PriceKey] = field(default_factory=Counter)
    _taken_back: dict[int, LedgerEntry] = field(default_factory=dict)
    _last_number: int = 0

    def see(self, numbered: NumberedEntry) -> None:
        """Take in the next entry."""
        number, entry = numbered.number, numbered.entry
        if number != self._last_number + 1:
            self.problems.append(f"entries {self._last_number + 1} to {number - 1} are missing")
        self._last_number = number
        self.problems += _wrong_entry(number, entry)
        self._add_to_totals(entry)
        if number in self.reversed_numbers:
            self._taken_back[number] = entry
            self._num_reversed[price_key(entry)] += 1
        elif entry.reverses is not None:
            self._compare_with_opposite(number, entry)
        elif entry.run_id is not None and entry.origin is Origin.OPENBOOK:
            self._add(entry)
        # Usage that was booked stays booked, though its price may have been taken back.
        if entry.run_id and entry.reverses is None and _is_usage(entry):
            key = (entry.run_id, entry.account)
            self.usage[key] = self.usage.get(key, Decimal(0)) + entry.quantity

    def wrong_sums(self) -> Iterator[str]:
        """Sums of one price that are not quantity times price."""
        for (lost, key), (quantity, amount) in self._sums.items():
            expected = amount_nano_usd(quantity, key.unit_price_usd, key.price_unit)
            # An entry was rounded together with its neighbours; without it they may be one or two off.
            if abs(amount - expected) > 2 * self._num_reversed[key]:
                yield (
                    f"{'lost entries' if lost else 'entries'} of run {key.run_id}, account {key.account}, "
                    f"come to {amount} nano-dollars instead of {expected}"
                )

    def _add(self, entry: LedgerEntry) -> None:
        for lost in (False, True) if entry.lost else (False,):
            key = (lost, price_key(entry))
            quantity, amount = self._sums.get(key, NOTHING)
            self._sums[key] = Sum(quantity + entry.quantity, amount + entry.amount_nano_usd)

    def _add_to_totals(self, entry: LedgerEntry) -> None:
        if split_quantity(entry.quantity) is None:
            return  # named as a wrong entry
        for row in total_rows([entry]):
            *key, whole, nano, amount, num_entries = row.values()
            found = self.totals.setdefault(tuple(key), [0, 0, 0, 0])
            for place, value in enumerate((whole, nano, amount, num_entries)):
                found[place] += value

    def _compare_with_opposite(self, number: int, entry: LedgerEntry) -> None:
        assert entry.reverses is not None
        earlier = self._taken_back.pop(entry.reverses, None)
        effect = (-entry.quantity, -entry.amount_nano_usd, price_key(entry), entry.unit, entry.lost)
        if earlier is None:
            self.problems.append(f"entry {number} takes back entry {entry.reverses}, which is not before it")
        elif effect != (
            earlier.quantity,
            earlier.amount_nano_usd,
            price_key(earlier),
            earlier.unit,
            earlier.lost,
        ):
            self.problems.append(f"entry {number} is not the opposite of entry {entry.reverses}")


def _is_usage(entry: LedgerEntry) -> bool:
    """Whether it enters what a run's usage lines say; energy that was estimated is in none of them."""
    is_estimate = entry.account == ENERGY and entry.basis is Basis.ESTIMATED
    return entry.origin is Origin.OPENBOOK and not is_estimate


def _wrong_entry(number: int, entry: LedgerEntry) -> Iterator[str]:
    counted_in = PRICE_UNITS.get(entry.price_unit, ("", 1))[0]
    expected = amount_nano_usd(entry.quantity, entry.unit_price_usd, entry.price_unit) if counted_in else 0
    # What openbook enters bit by bit is rounded as one sum; all else stands alone.
    tolerance = 1 if entry.origin is Origin.OPENBOOK else 0
    is_off = abs(entry.amount_nano_usd - expected) > tolerance
    if counted_in != entry.unit or is_off or split_quantity(entry.quantity) is None:
        whose = f"of run {entry.run_id}" if entry.run_id else f"of {entry.account}"
        yield (
            f"entry {number} {whose} says {entry.amount_nano_usd} nano-dollars, "
            f"but {entry.quantity} {entry.unit} at {entry.unit_price_usd} USD per {entry.price_unit} "
            f"are {expected}"
        )


def _reversed_numbers(connection: Connection) -> frozenset[int]:
    column = entries_table.c.reverses
    return frozenset(connection.execute(select(column).where(column.is_not(None))).scalars())


def _kept_totals(connection: Connection) -> dict[tuple[Any, ...], list[int]]:
    num_sums = len(SUMS)
    rows = connection.execute(select(*totals_table.columns))
    return {tuple(row[:-num_sums]): list(row[-num_sums:]) for row in rows}


def _wrong_totals(
    kept: Mapping[tuple[Any, ...], list[int]], added_up: Mapping[tuple[Any, ...], list[int]]
) -> Iterator[str]:
    nothing = [0] * len(SUMS)
    for key in sorted(kept.keys() | added_up.keys()):
        of_totals, of_entries = kept.get(key, nothing), added_up.get(key, nothing)
        if of_totals != of_entries:
            run_id, day, account = key[:3]
            whose = f"run {run_id}" if run_id else "no run"
            yield (
                f"the totals say {of_totals[2]} nano-dollars in {of_totals[3]} entries for {account} of "
                f"{whose} on {day}, its entries {of_entries[2]} in {of_entries[3]}"
            )


def _wrong_usage(
    run: Run, booked: Mapping[str, BookedRun], usage: Mapping[tuple[str, str], Decimal]
) -> Iterator[str]:
    run_id = run.manifest.id
    num_lines = booked[run_id].num_lines_booked if run_id in booked else 0
    recorded = _add_up(quantities(line.usage) for line in run.usage_lines()[:num_lines])
    entered = {account: quantity for (name, account), quantity in usage.items() if name == run_id}
    for account in sorted(recorded.keys() | entered.keys()):
        of_run, of_book = recorded.get(account, Decimal(0)), entered.get(account, Decimal(0))
        if of_run != of_book:
            yield f"run {run_id} recorded {of_run} of {account}, but {of_book} are booked"


def _add_up(parts: Iterable[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for part in parts:
        for account, quantity in part.items():
            sums[account] = sums.get(account, Decimal(0)) + quantity
    return sums
