"""Rows of the database and what they say: runs and entries, written and read back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, RowMapping, select

from openbook.ledger.entry import Basis, LedgerEntry, Origin
from openbook.ledger.schema import entries_table, runs_table
from openbook.runs.journal import RunStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class BookedRun:
    """What the book knows of a run, as of `booked_at`, so that it outlives the run's folder.

    `parents` are the ids of the runs it was made from. The first `num_lines_booked` usage lines and
    `num_rewinds_booked` rewinds of the run are in the book. `programme` may name what it belongs to.
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
    programme: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberedEntry:
    """An entry as it stands in the book, under its number."""

    number: int
    entry: LedgerEntry


ROWS_AT_ONCE = 10_000
_RUN_FIELDS = tuple(field.name for field in fields(BookedRun))
_ENTRY_FIELDS = tuple(field.name for field in fields(LedgerEntry))


def run_to_row(run: BookedRun) -> dict[str, Any]:
    """A run as column values."""
    return {name: getattr(run, name) for name in _RUN_FIELDS} | {
        "status": str(run.status),
        "parents": json.dumps(run.parents),
        "created_at": run.created_at.isoformat(),
        "booked_at": run.booked_at.isoformat(),
    }


def run_from_row(row: Row[Any]) -> BookedRun:
    """The reverse of `run_to_row`."""
    return run_from_values(row._mapping)


def run_from_values(values: RowMapping | Mapping[str, Any]) -> BookedRun:
    """A run from column values, wherever they were kept."""
    return BookedRun(
        **{name: values[name] for name in _RUN_FIELDS}
        | {
            "status": RunStatus(values["status"]),
            "parents": tuple(json.loads(values["parents"])),
            "created_at": datetime.fromisoformat(values["created_at"]),
            "booked_at": datetime.fromisoformat(values["booked_at"]),
        }
    )


def entry_to_row(entry: LedgerEntry) -> dict[str, Any]:
    """An entry as column values, all but its number."""
    return {name: getattr(entry, name) for name in _ENTRY_FIELDS} | {
        "time": entry.time.isoformat(),
        "quantity": f"{entry.quantity:f}",
        "unit_price_usd": f"{entry.unit_price_usd:f}",
        "price_date": entry.price_date.isoformat(),
        "period_start": entry.period_start.isoformat(),
        "period_end": entry.period_end.isoformat(),
        "origin": str(entry.origin),
        "basis": str(entry.basis),
        "external_id": entry.external_id or None,  # of which the database takes more than one
    }


def entry_from_row(row: Row[Any]) -> NumberedEntry:
    """The reverse of `entry_to_row`, with its number."""
    values = row._mapping
    entry = LedgerEntry(
        **{name: values[name] for name in _ENTRY_FIELDS}
        | {
            "time": datetime.fromisoformat(values["time"]),
            "lost": bool(values["lost"]),
            "quantity": Decimal(values["quantity"]),
            "unit_price_usd": Decimal(values["unit_price_usd"]),
            "price_date": date.fromisoformat(values["price_date"]),
            "period_start": datetime.fromisoformat(values["period_start"]),
            "period_end": datetime.fromisoformat(values["period_end"]),
            "origin": Origin(values["origin"]),
            "basis": Basis(values["basis"]),
            "external_id": values["external_id"] or "",
        }
    )
    return NumberedEntry(number=values["id"], entry=entry)


def read_runs(connection: Connection, run_ids: Sequence[str] | None = None) -> tuple[BookedRun, ...]:
    """The runs with these ids, oldest first; by default all."""
    query = select(runs_table).order_by(runs_table.c.created_at, runs_table.c.run_id)
    if run_ids is None:
        return tuple(map(run_from_row, connection.execute(query)))
    found: list[BookedRun] = []
    for start in range(0, len(run_ids), ROWS_AT_ONCE):
        chunk = runs_table.c.run_id.in_(run_ids[start : start + ROWS_AT_ONCE])
        found += map(run_from_row, connection.execute(query.where(chunk)))
    return tuple(sorted(found, key=lambda run: (run.created_at.isoformat(), run.run_id)))


def read_entries(connection: Connection, after: int = 0) -> Iterator[NumberedEntry]:
    """The entries with numbers above `after`, in their order, some thousands at a time."""
    query = select(entries_table).order_by(entries_table.c.id).limit(ROWS_AT_ONCE)
    while rows := connection.execute(query.where(entries_table.c.id > after)).all():
        yield from map(entry_from_row, rows)
        after = rows[-1].id
