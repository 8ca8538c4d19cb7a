"""The book: ledger entries and the runs they belong to, in a database.

By default a SQLite file in write-ahead mode; any database that SQLAlchemy knows will do by its URL.
Writers take turns, and each change is one transaction: all of it is kept or none.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, Row, create_engine, insert, inspect, select, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from openbook.errors import UserError
from openbook.ledger.entry import LedgerEntry
from openbook.ledger.schema import (
    SCHEMA_VERSION,
    entries_table,
    keep_write_ahead_log,
    ledger_table,
    metadata,
    prepare_sqlite,
    runs_table,
)
from openbook.runs.journal import RunStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class BookedRun:
    """What the book knows of a run, as of `booked_at`, so that it outlives the run's folder.

    `parents` are the ids of the runs it was made from. The first `num_lines_booked` usage lines and
    `num_rewinds_booked` rewinds of the run are in the book.
    """

    run_id: str
    verb: str
    stage: str
    status: RunStatus
    reason: str
    parents: tuple[str, ...]
    created_at: datetime
    booked_at: datetime
    num_lines_booked: int
    num_rewinds_booked: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """The runs of a book, oldest first, and their entries in the order they were added."""

    runs: tuple[BookedRun, ...]
    entries: tuple[LedgerEntry, ...]


class Book:
    """An open ledger. Every method raises UserError when the database does not let it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.location = _show(engine.url)

    @classmethod
    def open(cls, location: str | Path, *, busy_timeout_seconds: float = 10.0) -> Book:
        """Open the ledger at a path (SQLite) or a database URL, and make it if there is none.

        Raises UserError when it was written by a newer version, is not a ledger, or cannot be used.
        """
        url = _url(location)
        engine = _engine(url, busy_timeout_seconds)
        book = cls(engine)
        with _explained(book.location):
            if not inspect(engine).get_table_names():
                book._make_tables()
            book._check_version()
        return book

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def contents(self, run_ids: Sequence[str] | None = None) -> Contents:
        """The runs with these ids (default: all) and their entries, as of one moment."""
        runs = select(runs_table).order_by(runs_table.c.created_at, runs_table.c.run_id)
        entries = select(entries_table).order_by(entries_table.c.id)
        if run_ids is not None:
            runs = runs.where(runs_table.c.run_id.in_(run_ids))
            entries = entries.where(entries_table.c.run_id.in_(run_ids))
        with _explained(self.location), self._engine.begin() as connection:
            return Contents(
                runs=tuple(_run_from_row(row) for row in connection.execute(runs)),
                entries=tuple(_entry_from_row(row) for row in connection.execute(entries)),
            )

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """One change to the book; other writers wait. An exception leaves the book as it was."""
        with (
            _explained(self.location),
            self._engine.connect().execution_options(openbook_changes=True) as connection,
            connection.begin(),
        ):
            # SQLite is locked by now; elsewhere this row is what writers queue for.
            connection.execute(select(ledger_table).with_for_update()).all()
            yield Change(connection)

    def _make_tables(self) -> None:
        if self._engine.dialect.name == "sqlite":
            keep_write_ahead_log(self._engine)
        with (
            self._engine.connect().execution_options(openbook_changes=True) as connection,
            connection.begin(),
        ):
            metadata.create_all(connection)
            if not connection.execute(select(ledger_table)).all():
                version = {"name": "schema_version", "value": str(SCHEMA_VERSION)}
                connection.execute(insert(ledger_table).values(version))

    def _check_version(self) -> None:
        if not inspect(self._engine).has_table(ledger_table.name):
            raise UserError(f"{self.location} is a database, but not a ledger", "name another file")
        with self._engine.begin() as connection:
            version = int(connection.execute(select(ledger_table.c.value)).scalar_one())
        if version > SCHEMA_VERSION:
            raise UserError(
                f"ledger {self.location} was written by a newer version of openbook (schema {version})",
                f"upgrade openbook; this one knows schemas up to {SCHEMA_VERSION}",
            )


class Change:
    """One transaction on a book."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, run_id: str) -> BookedRun | None:
        """What the book knows of a run; None when it was never booked."""
        query = select(runs_table).where(runs_table.c.run_id == run_id)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _run_from_row(row)

    def put_run(self, run: BookedRun) -> None:
        """Remember a run, in place of what was known of it."""
        values = asdict(run) | {
            "parents": json.dumps(run.parents),
            "created_at": run.created_at.isoformat(),
            "booked_at": run.booked_at.isoformat(),
        }
        if self.run(run.run_id) is None:
            self._connection.execute(insert(runs_table).values(values))
        else:
            self._connection.execute(
                update(runs_table).where(runs_table.c.run_id == run.run_id).values(values)
            )

    def entries(self, run_id: str) -> list[LedgerEntry]:
        """The entries of a run so far, oldest first."""
        query = select(entries_table).where(entries_table.c.run_id == run_id).order_by(entries_table.c.id)
        return [_entry_from_row(row) for row in self._connection.execute(query)]

    def append(self, entries: Sequence[LedgerEntry]) -> None:
        """Add entries; their runs must be known."""
        rows = [
            asdict(entry)
            | {
                "time": entry.time.isoformat(),
                "quantity": str(entry.quantity),
                "unit_price_usd": str(entry.unit_price_usd),
                "price_date": entry.price_date.isoformat(),
            }
            for entry in entries
        ]
        if rows:
            self._connection.execute(insert(entries_table), rows)


def _url(location: str | Path) -> URL:
    if isinstance(location, Path) or "://" not in location:
        path = Path(location)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"no ledger can be made at {path} ({error.strerror})", "name a file") from error
        return URL.create("sqlite", database=str(path))
    try:
        return make_url(location)
    except ArgumentError as error:
        raise UserError(f"{location!r} is no database URL", "such as postgresql://host/name") from error


def _engine(url: URL, busy_timeout_seconds: float) -> Engine:
    try:
        if url.get_backend_name() != "sqlite":
            return create_engine(url)
        # A connection for each transaction: nothing is held between them, so a fork is harmless
        # and the write-ahead log is folded back into one file when the last writer leaves.
        in_memory = url.database in (None, "", ":memory:")
        engine = create_engine(url) if in_memory else create_engine(url, poolclass=NullPool)
    except NoSuchModuleError as error:
        raise UserError(
            f"{url.drivername!r} is no database known here", "use sqlite or postgresql"
        ) from error
    except ModuleNotFoundError as error:
        raise UserError(
            f"the driver for {_show(url)} is not installed ({error.name})", "install it with pip"
        ) from error
    prepare_sqlite(engine, busy_timeout_seconds)
    return engine


def _show(url: URL) -> str:
    if url.get_backend_name() == "sqlite" and url.database:
        return url.database
    return url.render_as_string(hide_password=True)


@contextmanager
def _explained(location: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise  # an entry of an unknown run: a programmer's mistake
    except DBAPIError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        what, mend = {
            sqlite3.SQLITE_BUSY: ("is locked by another process", "try again when it is done"),
            sqlite3.SQLITE_READONLY: ("may be read but not written", "check its permissions"),
            sqlite3.SQLITE_FULL: (
                "cannot grow: the disk is full",
                "free some space; nothing was half booked",
            ),
            sqlite3.SQLITE_IOERR: (
                "could not be read or written by the disk",
                "check that it has free space; nothing was half booked",
            ),
            sqlite3.SQLITE_CORRUPT: ("is damaged", "restore a copy, then book its runs again"),
            sqlite3.SQLITE_NOTADB: ("is not a database", "name another file"),
            sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "check the path and its permissions"),
        }.get(code, (f"cannot be used ({error.orig})", "check the database"))
        raise UserError(f"ledger {location} {what}", mend) from error


def _run_from_row(row: Row[Any]) -> BookedRun:
    values = dict(row._mapping)
    return BookedRun(
        **values
        | {
            "status": RunStatus(values["status"]),
            "parents": tuple(json.loads(values["parents"])),
            "created_at": datetime.fromisoformat(values["created_at"]),
            "booked_at": datetime.fromisoformat(values["booked_at"]),
        }
    )


def _entry_from_row(row: Row[Any]) -> LedgerEntry:
    values = dict(row._mapping)
    del values["id"]
    return LedgerEntry(
        **values
        | {
            "time": datetime.fromisoformat(values["time"]),
            "quantity": Decimal(values["quantity"]),
            "unit_price_usd": Decimal(values["unit_price_usd"]),
            "price_date": date.fromisoformat(values["price_date"]),
        }
    )
