"""Change: one transaction on a book."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ARRAY, Connection, String, any_, func, insert, literal, select, text, update

from openbook.errors import UserError
from openbook.ledger.entry import LedgerEntry, refuse_wrong, reversal
from openbook.ledger.rows import BookedRun, entry_from_row, entry_to_row, run_from_row, run_to_row
from openbook.ledger.schema import entries_table, runs_table
from openbook.ledger.totals import add_to_totals

IDS_AT_ONCE = 10_000
_INSERT_ALL = text(
    "INSERT INTO entries SELECT * FROM json_populate_recordset(NULL::entries, CAST(:rows AS json))"
)


class Change:
    """One transaction on a book; while it is open, no other one is."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def connection(self) -> Connection:
        """The transaction itself, for what stands beside the entries."""
        return self._connection

    @property
    def next_number(self) -> int:
        """The number that the next entry gets."""
        return (self._connection.execute(select(func.max(entries_table.c.id))).scalar_one() or 0) + 1

    def run(self, run_id: str) -> BookedRun | None:
        """What the book knows of a run; None when it was never booked."""
        query = select(runs_table).where(runs_table.c.run_id == run_id)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else run_from_row(row)

    def put_run(self, run: BookedRun) -> None:
        """Remember a run, in place of what was known of it."""
        values = run_to_row(run)
        if self.run(run.run_id) is None:
            self._connection.execute(insert(runs_table).values(values))
        else:
            self._connection.execute(
                update(runs_table).where(runs_table.c.run_id == run.run_id).values(values)
            )

    def entries(self, run_id: str) -> list[LedgerEntry]:
        """The entries of a run so far, oldest first."""
        query = select(entries_table).where(entries_table.c.run_id == run_id).order_by(entries_table.c.id)
        return [entry_from_row(row).entry for row in self._connection.execute(query)]

    def append(self, entries: Sequence[LedgerEntry]) -> range:
        """Add entries and give their numbers; their runs must be known.

        Raises UserError for an entry that contradicts itself, or whose external id is in the book.
        """
        first = self.next_number
        numbers = range(first, first + len(entries))
        if not entries:
            return numbers
        for entry in entries:
            refuse_wrong(entry)
        self._refuse_known([entry.external_id for entry in entries if entry.external_id])
        rows = [{"id": number, **entry_to_row(entry)} for number, entry in zip(numbers, entries, strict=True)]
        if self._connection.dialect.name == "postgresql":  # one statement takes a third of the time of many
            self._connection.execute(_INSERT_ALL, {"rows": json.dumps(rows)})
        else:
            self._connection.execute(insert(entries_table), rows)
        add_to_totals(self._connection, entries)
        return numbers

    def reverse(self, number: int, *, time: datetime, note: str) -> int:
        """Take back the entry of this number, once, and give the number of what takes it back.

        Raises UserError when there is none, or it was taken back, or takes back another one.
        """
        found = self._connection.execute(select(entries_table).where(entries_table.c.id == number)).all()
        if not found:
            raise UserError(
                f"there is no entry {number}", "`openbook ledger list` shows the entries there are"
            )
        entry = entry_from_row(found[0]).entry
        if entry.reverses is not None:
            raise UserError(
                f"entry {number} takes back entry {entry.reverses}", "enter again what should stand"
            )
        by = self._connection.execute(
            select(entries_table.c.id).where(entries_table.c.reverses == number)
        ).scalar_one_or_none()
        if by is not None:
            raise UserError(f"entry {number} was taken back by entry {by}", "it counts no more")
        return self.append([replace(reversal(entry, time=time, note=note), reverses=number)])[0]

    def known_external_ids(self, external_ids: Iterable[str]) -> frozenset[str]:
        """Which of these ids entries of the book bear already: what an import need not add again."""
        return frozenset(self.numbers_of(external_ids))

    def numbers_of(self, external_ids: Iterable[str]) -> dict[str, int]:
        """The numbers of the entries that bear these ids."""
        wanted, found = sorted(set(external_ids)), dict[str, int]()
        columns = entries_table.c
        for start in range(0, len(wanted), IDS_AT_ONCE):
            query, chunk = select(columns.external_id, columns.id), wanted[start : start + IDS_AT_ONCE]
            is_one = (
                columns.external_id == any_(literal(chunk, ARRAY(String)))
                if self._connection.dialect.name == "postgresql"
                else columns.external_id.in_(chunk)
            )
            found.update((name, number) for name, number in self._connection.execute(query.where(is_one)))
        return found

    def _refuse_known(self, external_ids: Sequence[str]) -> None:
        twice = {name for name, count in Counter(external_ids).items() if count > 1}
        known = twice or self.known_external_ids(external_ids)
        if known:
            raise UserError(
                f"external id {min(known)!r} is that of an entry already", "an entry is added once"
            )
