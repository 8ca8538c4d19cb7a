"""Totals: entries added up by the database, and what statements ask of them.

    append(entries) -> entries table, and in the same transaction -> totals table
    Book.totals(by=(By.STAGE,), among=Among(...)) -> one Total a group, exact

A total is a sum of whole numbers (nano-dollars, units, billionths of a unit), so it does not depend
on the order of its parts, and a statement over a million entries reads some thousands of rows:
docs/decisions/0016-ledger-sums.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from openbook.ledger.entry import QUANTITY_DECIMALS, LedgerEntry, split_quantity
from openbook.ledger.schema import runs_table, totals_table
from openbook.runs.journal import RunStatus
from openbook.units import NANO_USD_PER_USD

SUMS = ("quantity_whole", "quantity_nano", "amount_nano_usd", "num_entries")
RUNS_AT_ONCE = 10_000
"""Ids in one query: SQLite takes 32,766 values, PostgreSQL 65,535."""
LOST_STATUSES = tuple(str(status) for status in RunStatus if status.is_lost)


class By(StrEnum):
    """What a total can be grouped by; the key of what has none of it is ""."""

    RUN = "run"
    VERB = "verb"
    STAGE = "stage"
    STATUS = "status"
    ACCOUNT = "account"
    PROGRAMME = "programme"
    DAY = "day"  # YYYY-MM-DD, of the beginning of the entry's period in UTC
    MONTH = "month"  # YYYY-MM
    ORIGIN = "origin"
    BASIS = "basis"
    LOST = "lost"  # "0" or "1": work within a run that it threw away


@dataclass(frozen=True, kw_only=True, slots=True)
class Among:
    """Which entries count: those that meet every condition given.

    `run_ids`: of these runs (and of none that has no run). `since` (included) and `until` (excluded)
    are days in UTC. `programme` "" are those without one.
    """

    run_ids: Sequence[str] | None = None
    accounts: Sequence[str] | None = None
    programme: str | None = None
    since: date | None = None
    until: date | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """One group: its key in the order of `by`, and its sums.

    `quantities` are by unit. `lost_nano_usd` is the part of `amount_nano_usd` that came to nothing:
    all of a failed, killed or interrupted run, of another run what it did twice.
    """

    key: tuple[str, ...]
    amount_nano_usd: int
    lost_nano_usd: int
    num_entries: int
    quantities: Mapping[str, Decimal] = field(default_factory=dict)


def add_to_totals(connection: Connection, entries: Iterable[LedgerEntry]) -> None:
    """Add entries to the totals they belong to. The caller holds the writers' lock."""
    rows = total_rows(entries)
    if not rows:
        return
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    insertion = dialect.insert(totals_table)
    keys = [column.name for column in totals_table.primary_key]
    connection.execute(
        insertion.on_conflict_do_update(
            index_elements=keys,
            set_={name: totals_table.c[name] + insertion.excluded[name] for name in SUMS},
        ),
        rows,
    )


def total_rows(entries: Iterable[LedgerEntry]) -> list[dict[str, Any]]:
    """Entries added up as rows of the totals table, in the order of their keys."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for entry in entries:
        key = (
            entry.run_id or "",
            entry.period_start.astimezone(UTC).date().isoformat(),
            entry.account,
            entry.unit,
            entry.lost,
            str(entry.origin),
            str(entry.basis),
            entry.programme,
        )
        parts = split_quantity(entry.quantity)
        assert parts is not None, "entries are checked before they are added up"
        found = sums.setdefault(key, [0, 0, 0, 0])
        found[0] += parts[0]
        found[1] += parts[1]
        found[2] += entry.amount_nano_usd
        found[3] += 1
    names = [column.name for column in totals_table.columns]
    return [dict(zip(names, (*key, *sums[key]), strict=True)) for key in sorted(sums)]


def read_totals(connection: Connection, by: Sequence[By], among: Among) -> tuple[Total, ...]:
    """One total for each group there is, in the order of their keys; one in all without `by`."""
    groups: dict[tuple[str, ...], _Group] = {}
    for query in _queries(by, among):
        for *key, unit, whole, nano, usd, nano_usd, lost_usd, lost_nano_usd, num in connection.execute(query):
            group = groups.setdefault(tuple(map(str, key)), _Group())
            group.amount_nano_usd += int(usd) * NANO_USD_PER_USD + int(nano_usd)
            group.lost_nano_usd += int(lost_usd) * NANO_USD_PER_USD + int(lost_nano_usd)
            group.num_entries += int(num)
            quantity = Decimal(int(whole) * 10**QUANTITY_DECIMALS + int(nano)).scaleb(-QUANTITY_DECIMALS)
            group.quantities[unit] = group.quantities.get(unit, Decimal(0)) + quantity
    return tuple(
        Total(
            key=key,
            amount_nano_usd=group.amount_nano_usd,
            lost_nano_usd=group.lost_nano_usd,
            num_entries=group.num_entries,
            quantities=group.quantities,
        )
        for key, group in sorted(groups.items())
    )


@dataclass(slots=True)
class _Group:
    amount_nano_usd: int = 0
    lost_nano_usd: int = 0
    num_entries: int = 0
    quantities: dict[str, Decimal] = field(default_factory=dict)


def _queries(by: Sequence[By], among: Among) -> Iterator[Select[Any]]:
    if among.run_ids is None:
        yield _query(by, _conditions(among))
        return
    run_ids = sorted(set(among.run_ids) - {""})
    for start in range(0, len(run_ids), RUNS_AT_ONCE):
        chunk = totals_table.c.run_id.in_(run_ids[start : start + RUNS_AT_ONCE])
        yield _query(by, [chunk, *_conditions(among)])


def _conditions(among: Among) -> list[ColumnElement[bool]]:
    columns, conditions = totals_table.c, list[ColumnElement[bool]]()
    if among.accounts is not None:
        conditions.append(columns.account.in_(among.accounts))
    if among.programme is not None:
        conditions.append(columns.programme == among.programme)
    if among.since is not None:
        conditions.append(columns.day >= among.since.isoformat())
    if among.until is not None:
        conditions.append(columns.day < among.until.isoformat())
    return conditions


def _query(by: Sequence[By], conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """The sums of each group and unit."""
    columns = totals_table.c
    keys: Mapping[By, ColumnElement[Any]] = {
        By.RUN: columns.run_id,
        By.VERB: func.coalesce(runs_table.c.verb, ""),
        By.STAGE: func.coalesce(runs_table.c.stage, ""),
        By.STATUS: func.coalesce(runs_table.c.status, ""),
        By.ACCOUNT: columns.account,
        By.PROGRAMME: columns.programme,
        By.DAY: columns.day,
        By.MONTH: func.substr(columns.day, 1, 7),
        By.ORIGIN: columns.origin,
        By.BASIS: columns.basis,
        By.LOST: case((columns.lost, 1), else_=0),
    }
    groups = [keys[one] for one in by]
    is_lost = or_(columns.lost, runs_table.c.status.in_(LOST_STATUSES))
    # Dollars and their billionths apart: in one number, SQLite could not add up more than 9.2 billion.
    usd, nano_usd = columns.amount_nano_usd // NANO_USD_PER_USD, columns.amount_nano_usd % NANO_USD_PER_USD
    sums = (
        func.sum(columns.quantity_whole),
        func.sum(columns.quantity_nano),
        func.sum(usd),
        func.sum(nano_usd),
        func.sum(case((is_lost, usd), else_=0)),
        func.sum(case((is_lost, nano_usd), else_=0)),
        func.sum(columns.num_entries),
    )
    return (
        select(*groups, columns.unit, *sums)
        .select_from(totals_table.outerjoin(runs_table, runs_table.c.run_id == columns.run_id))
        .where(and_(True, *conditions))
        .group_by(*groups, columns.unit)
    )
