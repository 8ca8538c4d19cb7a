"""What the commands that open a ledger share: where it lies, and booking what is not booked yet."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openbook.ledger.book import Book
    from openbook.ledger.prices import PricePlan
    from openbook.runs.run import Run

BOOK_FILE = "ledger.sqlite"


def open_book(location: str | None, root: Path) -> Book:
    """The ledger at a path or URL, by default the one in the root; made if there is none."""
    from openbook.ledger.book import Book

    return Book.open(location or root / BOOK_FILE)


def runs_below(root: Path) -> list[Run]:
    """All runs below a folder; one that cannot be read is named on stderr and left out."""
    from openbook.runs.store import find_runs

    return find_runs(root, on_broken=lambda error: print(f"left out: {error}", file=sys.stderr))


def book_all(book: Book, runs: Iterable[Run], plan: PricePlan) -> None:
    """Book what is new of these runs and what owned hardware cost up to today; say so on stderr."""
    from openbook.ledger.booking import book_run
    from openbook.ledger.hardware import book_hardware
    from openbook.units import show_usd

    by_id = {run.manifest.id: run for run in runs}
    bookings = [book_run(book, run, plan) for run in by_id.values()]
    new = [booking for booking in bookings if booking.num_lines]
    if new:
        amount = show_usd(sum(booking.amount_nano_usd for booking in new))
        print(f"booked {len(new)} of {len(by_id)} runs into {book.location}: {amount}", file=sys.stderr)
    num_entries = book_hardware(book, plan, tomorrow())
    if num_entries:
        print(f"booked the hardware up to today into {book.location}: {num_entries} entries", file=sys.stderr)


def tomorrow() -> date:
    """The day before which owned hardware counts: today as a whole, since what runs today runs on it."""
    return datetime.now(UTC).date() + timedelta(days=1)


def check(book: Book, runs: list[Run]) -> None:
    """Add everything up again; every problem on stderr. Raises UserError if there is one."""
    from openbook.errors import UserError
    from openbook.ledger.audit import verify

    problems = verify(book, runs)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise UserError(f"ledger {book.location} does not add up", "see the lines above")
    print(f"ledger {book.location} adds up", file=sys.stderr)


def day_of(option: str, text: str | None) -> date | None:
    """A day as typed: `2026-11-30`, or a month, which is its first day. Raises UserError."""
    from openbook.errors import UserError

    if text is None:
        return None
    try:
        return date.fromisoformat(f"{text}-01" if len(text) == 7 else text)
    except ValueError:
        raise UserError(f"{option} {text!r} is no day", "such as 2026-11-30") from None


def until_of(option: str, text: str | None) -> date | None:
    """The day after a last day as typed, or after the last day of a month. Raises UserError."""
    day = day_of(option, text)
    if day is None or text is None:
        return None
    from openbook.ledger.depreciation import full_month

    return full_month(day)[1] if len(text) == 7 else day + timedelta(days=1)
