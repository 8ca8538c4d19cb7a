"""Booking: the usage of a run becomes entries, each line of it once.

What is priced is the time a device was held (the account `device`); tokens are entered beside it
at the plan's price of zero, so that dollars per token can be derived. Failed, killed and
interrupted runs are booked like all others. Work that a resumed run threw away is moved to `lost`
by a pair of entries, so the total does not change.

Energy stands beside it too: measured where there is a meter, elsewhere estimated from the watts that the
plan names for the device and marked so. Its price in the plan is zero where the hour of a device includes
its power, as the default plan's do; a plan that pays for power apart gives it a price.

Amounts of one price are rounded as one sum, not line by line: whenever and however often a run is
booked, its entries come to usage times price exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple, Protocol

from openbook.errors import UserError
from openbook.ledger.accounts import PRICE_UNITS
from openbook.ledger.book import Book
from openbook.ledger.entry import (
    NOTHING,
    Basis,
    LedgerEntry,
    PriceKey,
    Sum,
    add_up,
    amount_nano_usd,
    price_key,
    reversal,
)
from openbook.ledger.prices import Price, PricePlan
from openbook.ledger.rows import BookedRun
from openbook.runs.journal import Attempt, Journal, RunStatus, lost_lines
from openbook.runs.run import Run, UsageLine
from openbook.runs.usage import Usage

DEVICE = "device"  # the account of device time
ENERGY = "energy"  # the account of energy, and the resource that prices it
TOKENS = "tokens"  # the resource whose price counts tokens
UNITS = {
    DEVICE: "device-second",
    ENERGY: "joule",
    "prompt_tokens": "token",
    "cached_tokens": "token",
    "completion_tokens": "token",
    "trained_tokens": "token",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Booking:
    """What one call of `book_run` added: usage lines newly booked, and the entries."""

    num_lines: int
    entries: tuple[LedgerEntry, ...]

    @property
    def amount_nano_usd(self) -> int:
        """What the new usage came to."""
        return sum(entry.amount_nano_usd for entry in self.entries)


def book_run(book: Book, run: Run, plan: PricePlan) -> Booking:
    """Book whatever of a run is not in the book yet; a second call books nothing.

    Raises UserError when the plan has no price for the run's device or day, or the run has fewer
    usage lines than were booked before.
    """
    run_id = run.manifest.id
    with book.changing() as change:
        journal, lines = _read(run)
        known = change.run(run_id)
        num_lines, num_rewinds = (known.num_lines_booked, known.num_rewinds_booked) if known else (0, 0)
        if num_lines > len(lines):
            raise UserError(
                f"run {run_id} has {len(lines)} usage lines, but {num_lines} of them are booked",
                f"restore {run.folder / 'usage.jsonl'}",
            )
        programme = known.programme if known else ""
        booked = change.entries(run_id)
        batches = _gather(lines[num_lines:], journal, _Planned(plan))
        new = _enter(run_id, programme, batches, add_up(booked))
        lost_numbers = _newly_lost(journal, num_rewinds)
        paid = _Paid([*booked, *new], lines) if lost_numbers else _Planned(plan)
        batches = _gather([lines[number] for number in lost_numbers], journal, paid)
        lost = _enter(run_id, programme, batches, add_up(entry for entry in booked if entry.lost))
        entries = (*new, *_moves(lost))
        change.put_run(replace(_booked_run(run, journal, len(lines)), programme=programme))
        change.append(entries)
    return Booking(num_lines=len(lines) - num_lines, entries=entries)


def _read(run: Run) -> tuple[Journal, list[UsageLine]]:
    """The journal of a run and the usage lines of the attempts it tells of.

    The journal first: what it says of lines is on disk by then. Lines of an attempt that begins
    between the two reads are left to the next booking.
    """
    journal = run.journal
    return journal, [line for line in run.usage_lines() if line.attempt <= len(journal.attempts)]


@dataclass(kw_only=True, slots=True)
class _Batch:
    """Usage lines that become one entry."""

    quantity: Decimal
    num_lines: int
    first_began_at: datetime
    last_recorded_at: datetime


class _BatchKey(NamedTuple):
    attempt: int
    status: RunStatus
    account: str
    basis: Basis
    day: date
    price: Price


class _Prices(Protocol):
    """Where prices are from: the plan for what is new, the book for what was paid."""

    def price(self, attempt: Attempt, account: str, day: date) -> Price:
        """What a unit of an account costs in an attempt, on a day. Raises UserError."""
        ...

    def watts(self, attempt: Attempt, day: date) -> Decimal:
        """What the device draws where nothing measures it; 0 where nobody says."""
        ...


class _Planned:
    """What the plan asks."""

    def __init__(self, plan: PricePlan) -> None:
        self._plan = plan
        self._prices_energy = any(price.resource == ENERGY for price in plan.prices)

    def price(self, attempt: Attempt, account: str, day: date) -> Price:
        if account == DEVICE:
            resource = self._plan.resource_of(attempt.device)
        else:
            resource = ENERGY if account == ENERGY else TOKENS
        price = self._plan.price(resource, day)
        counted_in = PRICE_UNITS[price.unit][0]
        if counted_in != UNITS[account]:
            raise UserError(
                f"the price plan prices {resource} by the {counted_in}, not by the {UNITS[account]}",
                "mend its unit",
            )
        return price

    def watts(self, attempt: Attempt, day: date) -> Decimal:
        return self.price(attempt, DEVICE, day).watts if self._prices_energy else Decimal(0)


class _Paid:
    """What the book says was paid, whatever the plan says by now."""

    def __init__(self, entries: Sequence[LedgerEntry], lines: Sequence[UsageLine]) -> None:
        self._entries = [entry for entry in entries if not entry.lost and entry.quantity > 0]
        self._lines = lines

    def price(self, attempt: Attempt, account: str, day: date) -> Price:
        paid = max(
            (
                entry
                for entry in self._entries
                if (entry.attempt, entry.account) == (attempt.number, account) and entry.price_date <= day
            ),
            key=lambda entry: entry.price_date,
        )
        return Price(
            resource=account,
            unit=paid.price_unit,
            price_usd=paid.unit_price_usd,
            valid_from=paid.price_date,
            source=paid.price_source,
        )

    def watts(self, attempt: Attempt, day: date) -> Decimal:
        joules = sum(
            entry.quantity
            for entry in self._entries
            if (entry.attempt, entry.account, entry.day) == (attempt.number, ENERGY, day)
            and entry.basis is Basis.ESTIMATED
        )
        microseconds = sum(
            line.usage.device_microseconds
            for line in self._lines
            if (line.attempt, _day(line)) == (attempt.number, day) and not line.usage.energy_microjoules
        )
        return round(Decimal(joules) * 10**6 / microseconds, 3) if microseconds else Decimal(0)


def _gather(lines: Iterable[UsageLine], journal: Journal, prices: _Prices) -> dict[_BatchKey, _Batch]:
    """Usage lines by attempt, account, basis, day and price."""
    attempts = {attempt.number: attempt for attempt in journal.attempts}
    batches: dict[_BatchKey, _Batch] = {}
    for line in lines:
        attempt, day = attempts[line.attempt], _day(line)
        basis = Basis.ESTIMATED if line.estimated else Basis.MEASURED
        parts = [(account, basis, quantity) for account, quantity in quantities(line.usage).items()]
        if line.usage.device_microseconds and not line.usage.energy_microjoules:
            seconds = Decimal(line.usage.device_microseconds).scaleb(-6)
            parts.append((ENERGY, Basis.ESTIMATED, seconds * prices.watts(attempt, day)))
        for account, basis_of_part, quantity in parts:
            if quantity:
                price = prices.price(attempt, account, day)
                batch = batches.setdefault(
                    _BatchKey(attempt.number, attempt.status, account, basis_of_part, day, price),
                    _Batch(
                        quantity=Decimal(0),
                        num_lines=0,
                        first_began_at=_began_at(line),
                        last_recorded_at=line.time,
                    ),
                )
                batch.quantity += quantity
                batch.num_lines += 1
                batch.first_began_at = min(batch.first_began_at, _began_at(line))
                batch.last_recorded_at = max(batch.last_recorded_at, line.time)
    return batches


def _day(line: UsageLine) -> date:
    """The day (UTC) whose price a line pays."""
    return line.time.astimezone(UTC).date()


def _began_at(line: UsageLine) -> datetime:
    """When the work of a line began, within the day it was recorded on, which prices it."""
    end = line.time.astimezone(UTC)
    midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
    return max(midnight, end - timedelta(microseconds=line.usage.device_microseconds))


def quantities(usage: Usage) -> dict[str, Decimal]:
    """What of a usage was counted, by account, in the unit of the account."""
    return {
        DEVICE: Decimal(usage.device_microseconds).scaleb(-6),
        ENERGY: Decimal(usage.energy_microjoules).scaleb(-6),
        "prompt_tokens": Decimal(usage.prompt_tokens),
        "cached_tokens": Decimal(usage.cached_tokens),
        "completion_tokens": Decimal(usage.completion_tokens),
        "trained_tokens": Decimal(usage.trained_tokens),
    }


def _enter(
    run_id: str, programme: str, batches: Mapping[_BatchKey, _Batch], booked: Mapping[PriceKey, Sum]
) -> list[LedgerEntry]:
    """One entry for each batch, such that `booked` and the entries together are rounded as one sum."""
    sums = dict(booked)
    entries = []
    for key, batch in batches.items():
        price = key.price
        entry = LedgerEntry(
            time=batch.last_recorded_at,
            run_id=run_id,
            attempt=key.attempt,
            account=key.account,
            lost=False,
            quantity=batch.quantity,
            unit=UNITS[key.account],
            unit_price_usd=price.price_usd,
            price_unit=price.unit,
            price_source=price.source,
            price_date=price.valid_from,
            amount_nano_usd=0,
            note=f"attempt {key.attempt} ({key.status}), usage lines: {batch.num_lines}",
            period_start=batch.first_began_at,
            period_end=batch.last_recorded_at,
            basis=key.basis,
            programme=programme,
        )
        before = sums.get(price_key(entry), NOTHING)
        quantity = before.quantity + batch.quantity
        amount = amount_nano_usd(quantity, price.price_usd, price.unit)
        sums[price_key(entry)] = Sum(quantity, amount)
        entries.append(replace(entry, amount_nano_usd=amount - before.amount_nano_usd))
    return entries


def _newly_lost(journal: Journal, num_rewinds_booked: int) -> list[int]:
    """The usage lines that rewinds threw away since the last booking."""
    return sorted(lost_lines(journal.rewinds) - lost_lines(journal.rewinds[:num_rewinds_booked]))


def _moves(entries: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    """The pairs of entries that take work out of what was kept and into what was lost."""
    moves = []
    for entry in entries:
        note = f"lost by going back to an earlier step: {entry.note}"
        moves += [reversal(entry, time=entry.time, note=note), replace(entry, lost=True, note=note)]
    return moves


def _booked_run(run: Run, journal: Journal, num_lines: int) -> BookedRun:
    manifest = run.manifest
    last = journal.attempts[-1] if journal.attempts else None
    return BookedRun(
        run_id=manifest.id,
        verb=manifest.verb,
        stage=manifest.stage,
        status=last.status if last else RunStatus.CREATED,
        reason=last.reason if last else "",
        parents=tuple(dict.fromkeys(parent.run_id for parent in manifest.parents if parent.run_id)),
        created_at=manifest.created_at,
        booked_at=datetime.now(UTC),
        num_lines_booked=num_lines,
        num_rewinds_booked=len(journal.rewinds),
    )
