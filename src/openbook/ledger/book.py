"""The book: ledger entries and the runs they belong to, in a database.

By default a SQLite file in write-ahead mode; PostgreSQL by its URL for a team. Writers take turns,
and each change is one transaction: all of it is kept or none, and it is on the disk when it is done.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError

from openbook.errors import UserError
from openbook.ledger.change import Change
from openbook.ledger.database import explained, make_engine, reason, show
from openbook.ledger.entry import LedgerEntry
from openbook.ledger.rows import BookedRun, NumberedEntry, entry_from_row, read_entries, read_runs
from openbook.ledger.schema import (
    SCHEMA_VERSION,
    entries_table,
    keep_write_ahead_log,
    ledger_table,
)
from openbook.ledger.totals import Among, By, Total, read_totals
from openbook.ledger.upgrade import NotALedgerError, upgrade, version_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """The runs of a book, oldest first, and their entries in the order they were added."""

    runs: tuple[BookedRun, ...]
    entries: tuple[LedgerEntry, ...]


class Book:
    """An open ledger. Every method raises UserError when the database does not let it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._process = os.getpid()
        self.location = show(engine.url)
        weakref.finalize(self, _let_go, engine, self._process)  # of a book that nobody closed too

    @classmethod
    def open(cls, location: str | Path, *, busy_timeout_seconds: float = 10.0) -> Book:
        """Open the ledger at a path (SQLite) or a database URL, and make it if there is none.

        One of an older version is brought up to date. Raises UserError when it was written by a
        newer version, is not a ledger, or cannot be used.
        """
        book = cls(make_engine(location, busy_timeout_seconds))
        with explained(book.location):
            book._bring_up_to_date()
        return book

    def close(self) -> None:
        """Let go of the database."""
        _let_go(self._engine, self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def contents(self, run_ids: Sequence[str] | None = None) -> Contents:
        """The runs with these ids and their entries, as of one moment; by default everything."""
        entries = select(entries_table).order_by(entries_table.c.id)
        if run_ids is not None:
            entries = entries.where(entries_table.c.run_id.in_(run_ids))
        with self.reading() as connection:
            return Contents(
                runs=read_runs(connection, run_ids),
                entries=tuple(entry_from_row(row).entry for row in connection.execute(entries)),
            )

    def runs(self) -> tuple[BookedRun, ...]:
        """All runs, oldest first."""
        with self.reading() as connection:
            return read_runs(connection)

    def totals(self, by: Sequence[By] = (), among: Among | None = None) -> tuple[Total, ...]:
        """The entries added up: a total for each group there is, in the order of their keys.

        Without `by` it is one total, or none where no entry counts. However many entries there are,
        it takes the time of their groups: `totals` are kept as entries are added.
        """
        with self.reading() as connection:
            return read_totals(connection, by, among or Among())

    def entries(self, *, after: int = 0) -> Iterator[NumberedEntry]:
        """The entries with numbers above `after`, in their order, read some thousands at a time."""
        with self.reading() as connection:
            yield from read_entries(connection, after)

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """One change to the book; other writers wait. An exception leaves the book as it was.

        When it ends without one, the change is on the disk.
        """
        with explained(self.location), self._writing() as connection:
            # SQLite is locked by now; elsewhere this row is what writers queue for.
            connection.execute(select(ledger_table).with_for_update()).all()
            yield Change(connection)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads: everything in it is as of one moment."""
        options: dict[str, Any] = {}
        if self._engine.dialect.name == "postgresql":  # where each query sees its own moment otherwise
            options["isolation_level"] = "REPEATABLE READ"
        with (
            explained(self.location),
            self._connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes beside the entries; PostgreSQL lets several of them go on at once."""
        with explained(self.location), self._writing() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with (
            self._connect().execution_options(openbook_changes=True) as connection,
            connection.begin(),
        ):
            yield connection

    def _connect(self) -> Connection:
        """A connection, which stays open for the next transaction; a forked process makes its own."""
        if self._process != os.getpid():
            _let_go(self._engine, self._process)
            self._process = os.getpid()
        return self._engine.connect()

    def _bring_up_to_date(self) -> None:
        try:
            with self._engine.begin() as connection:
                version = version_of(connection)
        except NotALedgerError:
            raise UserError(f"{self.location} is a database, but not a ledger", "name another file") from None
        if not version and self._engine.dialect.name == "sqlite":
            keep_write_ahead_log(self._engine)
        if version < SCHEMA_VERSION:
            try:
                with self._writing() as connection:
                    upgrade(connection)
                    version = version_of(connection)
            except DBAPIError as error:
                if not version:
                    raise
                what, mend = reason(error)
                raise UserError(
                    f"ledger {self.location} is of an older version (schema {version}) and could not be "
                    f"brought up to date: it {what}",
                    mend,
                ) from error
        if version > SCHEMA_VERSION:
            raise UserError(
                f"ledger {self.location} was written by a newer version of openbook (schema {version})",
                f"upgrade openbook; this one knows schemas up to {SCHEMA_VERSION}",
            )


def _let_go(engine: Engine, process: int) -> None:
    """Close the connections, if they are this process's: those of the one it was forked from stay open."""
    engine.dispose(close=process == os.getpid())
