"""Sums: what a book adds up to, run by run and account by account, read once for all that is asked of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from openbook.ledger.book import Book
from openbook.ledger.hardware import Ownership, ownership
from openbook.ledger.rows import BookedRun
from openbook.ledger.totals import By, Total

NO_RUN = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """The runs, oldest first, the totals of each by account (of no run under ""), and what is owned."""

    location: str
    runs: Mapping[str, BookedRun]
    totals: Mapping[str, Sequence[Total]]
    owned: tuple[Ownership, ...]

    def by_account(self, run_ids: Iterable[str] | None = None) -> dict[str, tuple[int, int]]:
        """What each account came to and what of it was lost, over these runs or over everything."""
        found: dict[str, tuple[int, int]] = {}
        for run_id in self.totals if run_ids is None else run_ids:
            for total in self.totals.get(run_id, ()):
                amount, lost = found.get(total.key[1], (0, 0))
                found[total.key[1]] = (amount + total.amount_nano_usd, lost + total.lost_nano_usd)
        return found


def read_sums(book: Book) -> Sums:
    """One reading of a book."""
    totals: dict[str, list[Total]] = {}
    for total in book.totals((By.RUN, By.ACCOUNT)):
        totals.setdefault(total.key[0], []).append(total)
    runs = {run.run_id: run for run in book.runs()}
    return Sums(location=book.location, runs=runs, totals=totals, owned=ownership(book))


def sums_of(source: Book | Sums) -> Sums:
    """What was read of a book already, or a reading of it now."""
    return source if isinstance(source, Sums) else read_sums(source)
