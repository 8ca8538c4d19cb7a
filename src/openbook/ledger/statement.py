"""Statements: what runs cost, and what of it came to nothing.

A statement is made from the sums that the database keeps, equals the sum of the entries, and takes the
time of its lines however many entries there are. It speaks of runs as they were when last booked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from openbook.errors import UserError, nearest
from openbook.ledger.book import Book
from openbook.ledger.cuts import Cut
from openbook.ledger.hardware import purchases
from openbook.ledger.rows import BookedRun
from openbook.ledger.sums import NO_RUN, Sums, sums_of
from openbook.ledger.totals import Among, By, Total
from openbook.runs.journal import RunStatus
from openbook.units import to_usd


@dataclass(frozen=True, kw_only=True, slots=True)
class StatementRow:
    """What one run cost. `lost_nano_usd` is the part of `amount_nano_usd` that came to nothing.

    All of a failed, killed or interrupted run is lost; of another run, what it recomputed after an
    interruption. `num_tokens` counts by account (`trained_tokens`, ...), `amounts` are what each
    account came to, in nano-dollars.
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
    amounts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunsTotal:
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

    def by_stage(self) -> dict[str, RunsTotal]:
        """Totals by stage, in the order in which the stages first ran."""
        return self._by(lambda row: row.stage)

    def by_status(self) -> dict[str, RunsTotal]:
        """Totals by status."""
        return self._by(lambda row: row.status)

    def _by(self, key: Callable[[StatementRow], str]) -> dict[str, RunsTotal]:
        groups: dict[str, list[StatementRow]] = {}
        for row in self.rows:
            groups.setdefault(key(row), []).append(row)
        return {name: _total(rows) for name, rows in groups.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of a statement: a stage, an account, a month, ...; `name` "" is what has none of it.

    `quantities` are by unit: seconds of device time, tokens, hours of people, ...
    """

    name: str
    amount_nano_usd: int
    lost_nano_usd: int
    num_entries: int
    num_runs: int
    quantities: Mapping[str, Decimal]


def lines(book: Book, cut: Cut, among: Among | None = None) -> tuple[Line, ...]:
    """The entries cut into lines: stages and runs oldest first, all else in the order of their names.

    They add up to the whole programme: hardware that is entered counts by its days and not by its
    purchase. What belongs to no run, such as staff, has a line of its own: in a cut by stage or status,
    "". A run that cost nothing is counted unless a period is asked for.
    """
    among = among or Among()
    if cut in (Cut.RUN, Cut.STAGE, Cut.STATUS):
        by_run: dict[str, list[Total]] = {}
        for total in book.totals((By.RUN, By.ACCOUNT), among):
            by_run.setdefault(total.key[0], []).append(total)
        wanted = [run for run in book.runs() if among.run_ids is None or run.run_id in among.run_ids]
        if among.since or among.until:
            wanted = [run for run in wanted if run.run_id in by_run]
        return _lines_of_runs(cut, wanted, by_run, _paid_within(book, among))
    groups: dict[str, list[Total]] = {}
    for total in book.totals((By(cut), By.ACCOUNT), among):
        groups.setdefault(total.key[0], []).append(total)
    for day, paid in _paid_within(book, among).items():
        name = {Cut.ACCOUNT: "hardware", Cut.DAY: day.isoformat(), Cut.MONTH: f"{day:%Y-%m}"}.get(cut, "")
        groups[name].append(_purchase_undone(name, paid))
    found = (_line(name, group, 0) for name, group in groups.items())
    # Nothing is left under the account `hardware` where all that was bought is entered as such.
    return tuple(
        line for line in found if line.amount_nano_usd or (cut, line.name) != (Cut.ACCOUNT, "hardware")
    )


def lines_of(sums: Sums, cut: Cut, run_ids: Sequence[str] | None = None) -> tuple[Line, ...]:
    """`lines` by run, stage or status over these runs (default: everything), from what was read."""
    wanted = [run for name, run in sums.runs.items() if run_ids is None or name in run_ids]
    paid: dict[date, int] = {}
    if run_ids is None:
        for one in sums.owned:
            day = one.hardware.bought_on
            paid[day] = paid.get(day, 0) + one.hardware.cost_nano_usd
    known = {run.run_id: sums.totals.get(run.run_id, ()) for run in wanted}
    outside = {NO_RUN: sums.totals.get(NO_RUN, ())} if run_ids is None else {}
    return _lines_of_runs(cut, wanted, {**known, **outside}, paid)


def _lines_of_runs(
    cut: Cut, runs: Sequence[BookedRun], totals: Mapping[str, Sequence[Total]], paid: Mapping[date, int]
) -> tuple[Line, ...]:
    groups: dict[str, list[Total]] = {}
    counts: Counter[str] = Counter()
    for run in runs:
        name = {Cut.RUN: run.run_id, Cut.STAGE: run.stage, Cut.STATUS: str(run.status)}[cut]
        groups.setdefault(name, []).extend(totals.get(run.run_id, ()))
        counts[name] += 1
    outside = [*totals.get(NO_RUN, ()), *(_purchase_undone(NO_RUN, one) for one in paid.values())]
    if outside:
        groups.setdefault(NO_RUN, []).extend(outside)
    return tuple(_line(name, group, counts[name]) for name, group in groups.items())


def _paid_within(book: Book, among: Among) -> dict[date, int]:
    """What of the entries that count are purchases of hardware, by day."""
    if among.run_ids is not None:
        return {}
    return {
        day: paid
        for day, paid in purchases(book).items()
        if (among.since is None or day >= among.since) and (among.until is None or day < among.until)
    }


def _purchase_undone(name: str, paid_nano_usd: int) -> Total:
    return Total(
        key=(name, "hardware"),
        amount_nano_usd=-paid_nano_usd,
        lost_nano_usd=0,
        num_entries=0,
    )


def _line(name: str, group: Sequence[Total], num_runs: int) -> Line:
    quantities: dict[str, Decimal] = {}
    for total in group:
        if total.key == (name, "idle") and name != "idle":
            continue  # seconds in which nothing ran are told apart only under their own account
        for unit, quantity in total.quantities.items():
            quantities[unit] = quantities.get(unit, Decimal(0)) + quantity
    return Line(
        name=name,
        amount_nano_usd=sum(total.amount_nano_usd for total in group),
        lost_nano_usd=sum(total.lost_nano_usd for total in group),
        num_entries=sum(total.num_entries for total in group),
        num_runs=num_runs,
        quantities=quantities,
    )


def statement(source: Book | Sums, run_ids: Sequence[str] | None = None) -> Statement:
    """The statement over these runs (default: all). Raises UserError for a run that is not booked."""
    sums = sums_of(source)
    for run_id in run_ids or ():
        if run_id not in sums.runs:
            raise UserError(
                f"run {run_id!r} is not in ledger {sums.location}", nearest(run_id, sorted(sums.runs))
            )
    wanted = None if run_ids is None else set(run_ids)
    rows = tuple(
        _row(run, sums.totals.get(name, ()))
        for name, run in sums.runs.items()
        if wanted is None or name in wanted
    )
    total = _total(rows)
    return Statement(rows=rows, total_nano_usd=total.amount_nano_usd, lost_nano_usd=total.lost_nano_usd)


def _row(run: BookedRun, accounts: Sequence[Total]) -> StatementRow:
    amount = sum(total.amount_nano_usd for total in accounts)
    return StatementRow(
        run_id=run.run_id,
        verb=run.verb,
        stage=run.stage,
        status=run.status,
        reason=run.reason,
        created_at=run.created_at,
        parents=run.parents,
        device_seconds=sum((one.quantities.get("device-second", Decimal(0)) for one in accounts), Decimal(0)),
        num_tokens={
            one.key[1]: int(one.quantities["token"]) for one in accounts if "token" in one.quantities
        },
        amount_nano_usd=amount,
        lost_nano_usd=amount if run.status.is_lost else sum(one.lost_nano_usd for one in accounts),
        amounts={one.key[1]: one.amount_nano_usd for one in accounts},
    )


def _total(rows: Sequence[StatementRow]) -> RunsTotal:
    return RunsTotal(
        num_runs=len(rows),
        device_seconds=sum((row.device_seconds for row in rows), Decimal(0)),
        amount_nano_usd=sum(row.amount_nano_usd for row in rows),
        lost_nano_usd=sum(row.lost_nano_usd for row in rows),
    )


def statement_to_json(statement: Statement) -> dict[str, Any]:
    """A statement for machines: money as exact nano-dollars and as dollars in text."""
    return {
        "rows": [_row_to_json(row) for row in statement.rows],
        "by_stage": {name: _total_to_json(total) for name, total in statement.by_stage().items()},
        "by_status": {name: _total_to_json(total) for name, total in statement.by_status().items()},
        "total_nano_usd": statement.total_nano_usd,
        "total_usd": usd_text(statement.total_nano_usd),
        "lost_nano_usd": statement.lost_nano_usd,
        "lost_usd": usd_text(statement.lost_nano_usd),
    }


def line_to_json(line: Line) -> dict[str, Any]:
    """A line for machines, in the same way."""
    return {
        "name": line.name,
        "num_runs": line.num_runs,
        "num_entries": line.num_entries,
        "quantities": {unit: f"{quantity:f}" for unit, quantity in line.quantities.items()},
        "amount_nano_usd": line.amount_nano_usd,
        "amount_usd": usd_text(line.amount_nano_usd),
        "lost_nano_usd": line.lost_nano_usd,
        "lost_usd": usd_text(line.lost_nano_usd),
    }


def usd_text(nano_usd: int) -> str:
    """Exact dollars, never as 1E-8."""
    return f"{to_usd(nano_usd):f}"


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


def _total_to_json(total: RunsTotal) -> dict[str, Any]:
    return {"num_runs": total.num_runs, **_money_to_json(total)}


def _money_to_json(item: StatementRow | RunsTotal) -> dict[str, Any]:
    return {
        "device_seconds": str(item.device_seconds),
        "amount_nano_usd": item.amount_nano_usd,
        "amount_usd": usd_text(item.amount_nano_usd),
        "lost_nano_usd": item.lost_nano_usd,
        "lost_usd": usd_text(item.lost_nano_usd),
    }
