"""Statements: what runs cost, by run, stage and status, and what of it came to nothing.

A statement is computed from the entries alone and equals their sum. It speaks of runs as they were
when they were last booked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from openbook.errors import UserError, nearest
from openbook.ledger.book import Book, BookedRun, Contents
from openbook.ledger.entry import LedgerEntry
from openbook.runs.journal import RunStatus
from openbook.units import to_usd


@dataclass(frozen=True, kw_only=True, slots=True)
class StatementRow:
    """What one run cost. `lost_nano_usd` is the part of `amount_nano_usd` that came to nothing.

    All of a failed, killed or interrupted run is lost; of another run, what it recomputed after an
    interruption. `num_tokens` counts by account (`trained_tokens`, ...).
    """

    run_id: str
    verb: str
    stage: str
    status: RunStatus
    reason: str
    created_at: datetime
    parents: tuple[str, ...]
    device_seconds: Decimal
    num_tokens: Mapping[str, int]
    amount_nano_usd: int
    lost_nano_usd: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """Several rows together."""

    num_runs: int
    device_seconds: Decimal
    amount_nano_usd: int
    lost_nano_usd: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """Rows, oldest run first, and their totals."""

    rows: tuple[StatementRow, ...]
    total_nano_usd: int
    lost_nano_usd: int

    def by_stage(self) -> dict[str, Total]:
        """Totals by stage, in the order in which the stages first ran."""
        return self._by(lambda row: row.stage)

    def by_status(self) -> dict[str, Total]:
        """Totals by status."""
        return self._by(lambda row: row.status)

    def _by(self, key: Callable[[StatementRow], str]) -> dict[str, Total]:
        groups: dict[str, list[StatementRow]] = {}
        for row in self.rows:
            groups.setdefault(key(row), []).append(row)
        return {name: _total(rows) for name, rows in groups.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Lineage:
    """A result's own cost beside everything else in the book.

    `made_it` holds the run and its ancestors, `did_not` all other runs. What the result cost is
    `made_it.total_nano_usd`; the work in it that was lost on the way is `made_it.lost_nano_usd`.
    `missing` are ancestors that were never booked.
    """

    made_it: Statement
    did_not: Statement
    missing: tuple[str, ...]


def statement(book: Book, run_ids: Sequence[str] | None = None) -> Statement:
    """The statement over these runs (default: all). Raises UserError for a run that is not booked."""
    contents = book.contents(run_ids)
    known = [run.run_id for run in contents.runs]
    for run_id in run_ids or ():
        if run_id not in known:
            all_known = [run.run_id for run in book.contents().runs]
            raise UserError(f"run {run_id!r} is not in ledger {book.location}", nearest(run_id, all_known))
    return _statement(contents, known)


def lineage(book: Book, run_id: str) -> Lineage:
    """What it took to make a run, ancestors included, and what the rest came to. Raises UserError."""
    contents = book.contents()
    runs = {run.run_id: run for run in contents.runs}
    if run_id not in runs:
        raise UserError(f"run {run_id!r} is not in ledger {book.location}", nearest(run_id, list(runs)))
    made_it, missing, to_visit = set[str](), set[str](), [run_id]
    while to_visit:
        name = to_visit.pop()
        if name not in runs:
            missing.add(name)
        elif name not in made_it:
            made_it.add(name)
            to_visit += runs[name].parents
    return Lineage(
        made_it=_statement(contents, made_it),
        did_not=_statement(contents, runs.keys() - made_it),
        missing=tuple(sorted(missing)),
    )


def statement_to_json(statement: Statement) -> dict[str, Any]:
    """A statement for machines: money as exact nano-dollars and as dollars in text."""
    return {
        "rows": [_row_to_json(row) for row in statement.rows],
        "by_stage": {name: _total_to_json(total) for name, total in statement.by_stage().items()},
        "by_status": {name: _total_to_json(total) for name, total in statement.by_status().items()},
        "total_nano_usd": statement.total_nano_usd,
        "total_usd": _usd(statement.total_nano_usd),
        "lost_nano_usd": statement.lost_nano_usd,
        "lost_usd": _usd(statement.lost_nano_usd),
    }


def _statement(contents: Contents, run_ids: Iterable[str]) -> Statement:
    wanted = set(run_ids)
    entries: dict[str, list[LedgerEntry]] = {}
    for entry in contents.entries:
        entries.setdefault(entry.run_id, []).append(entry)
    rows = tuple(_row(run, entries.get(run.run_id, [])) for run in contents.runs if run.run_id in wanted)
    total = _total(rows)
    return Statement(rows=rows, total_nano_usd=total.amount_nano_usd, lost_nano_usd=total.lost_nano_usd)


def _row(run: BookedRun, entries: Sequence[LedgerEntry]) -> StatementRow:
    amount = sum(entry.amount_nano_usd for entry in entries)
    device_seconds, num_tokens = Decimal(0), dict[str, int]()
    for entry in entries:
        if entry.unit == "device-second":
            device_seconds += entry.quantity
        else:
            num_tokens[entry.account] = num_tokens.get(entry.account, 0) + int(entry.quantity)
    return StatementRow(
        run_id=run.run_id,
        verb=run.verb,
        stage=run.stage,
        status=run.status,
        reason=run.reason,
        created_at=run.created_at,
        parents=run.parents,
        device_seconds=device_seconds,
        num_tokens=num_tokens,
        amount_nano_usd=amount,
        lost_nano_usd=amount
        if run.status.is_lost
        else sum(entry.amount_nano_usd for entry in entries if entry.lost),
    )


def _total(rows: Sequence[StatementRow]) -> Total:
    return Total(
        num_runs=len(rows),
        device_seconds=sum((row.device_seconds for row in rows), Decimal(0)),
        amount_nano_usd=sum(row.amount_nano_usd for row in rows),
        lost_nano_usd=sum(row.lost_nano_usd for row in rows),
    )


def _row_to_json(row: StatementRow) -> dict[str, Any]:
    return {
        "run_id": row.run_id,
        "verb": row.verb,
        "stage": row.stage,
        "status": str(row.status),
        "reason": row.reason,
        "created_at": row.created_at.isoformat(),
        "parents": list(row.parents),
        "num_tokens": dict(row.num_tokens),
        **_money_to_json(row),
    }


def _total_to_json(total: Total) -> dict[str, Any]:
    return {"num_runs": total.num_runs, **_money_to_json(total)}


def _money_to_json(item: StatementRow | Total) -> dict[str, Any]:
    return {
        "device_seconds": str(item.device_seconds),
        "amount_nano_usd": item.amount_nano_usd,
        "amount_usd": _usd(item.amount_nano_usd),
        "lost_nano_usd": item.lost_nano_usd,
        "lost_usd": _usd(item.lost_nano_usd),
    }


def _usd(nano_usd: int) -> str:
    return f"{to_usd(nano_usd):f}"  # never as 1E-8
