"""The audit: adding a ledger up again from the beginning, against its prices and its runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from openbook.ledger.accounts import PRICE_UNITS
from openbook.ledger.book import Book, Contents
from openbook.ledger.booking import quantities
from openbook.ledger.entry import LedgerEntry, add_up, amount_nano_usd
from openbook.runs.run import Run


def verify(book: Book, runs: Sequence[Run] = ()) -> tuple[str, ...]:
    """Everything that does not add up, one sentence each; empty when the books are right.

    Each entry must be its quantity times its price but for the rounding, and all entries of one
    price exactly so. With `runs`, their folders must hold the usage that was booked.
    """
    contents = book.contents()
    return (
        *_wrong_entries(contents.entries),
        *_wrong_sums("entries", contents.entries),
        *_wrong_sums("lost entries", [entry for entry in contents.entries if entry.lost]),
        *(problem for run in runs for problem in _wrong_usage(run, contents)),
    )


def _wrong_entries(entries: Sequence[LedgerEntry]) -> Iterator[str]:
    for number, entry in enumerate(entries, start=1):
        expected = amount_nano_usd(entry.quantity, entry.unit_price_usd, entry.price_unit)
        if PRICE_UNITS[entry.price_unit][0] != entry.unit or abs(entry.amount_nano_usd - expected) > 1:
            yield (
                f"entry {number} of run {entry.run_id} says {entry.amount_nano_usd} nano-dollars, "
                f"but {entry.quantity} {entry.unit} at {entry.unit_price_usd} USD per {entry.price_unit} "
                f"are {expected}"
            )


def _wrong_sums(which: str, entries: Sequence[LedgerEntry]) -> Iterator[str]:
    for key, (quantity, amount) in add_up(entries).items():
        expected = amount_nano_usd(quantity, key.unit_price_usd, key.price_unit)
        if amount != expected:
            yield (
                f"{which} of run {key.run_id}, account {key.account}, come to {amount} nano-dollars "
                f"instead of {expected}"
            )


def _wrong_usage(run: Run, contents: Contents) -> Iterator[str]:
    booked = {known.run_id: known.num_lines_booked for known in contents.runs}
    lines = run.usage_lines()[: booked.get(run.manifest.id, 0)]
    recorded: dict[str, Decimal] = {}
    for line in lines:
        for account, quantity in quantities(line.usage).items():
            recorded[account] = recorded.get(account, Decimal(0)) + quantity
    entered = _quantities_by_account([entry for entry in contents.entries if entry.run_id == run.manifest.id])
    for account in sorted(recorded.keys() | entered.keys()):
        of_run, of_book = recorded.get(account, Decimal(0)), entered.get(account, Decimal(0))
        if of_run != of_book:
            yield f"run {run.manifest.id} recorded {of_run} of {account}, but {of_book} are booked"


def _quantities_by_account(entries: Sequence[LedgerEntry]) -> Mapping[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for entry in entries:
        sums[entry.account] = sums.get(entry.account, Decimal(0)) + entry.quantity
    return sums
