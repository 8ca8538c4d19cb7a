"""Finding entries: the last ones that meet some conditions, picked by the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sqlalchemy import and_, func, select

from openbook.errors import UserError, nearest
from openbook.ledger.book import Book
from openbook.ledger.entry import Origin
from openbook.ledger.rows import NumberedEntry, entry_from_row
from openbook.ledger.schema import entries_table


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which entries: those that meet every condition given. `until` is excluded; days are in UTC."""

    account: str | None = None
    run_id: str | None = None
    origin: str | None = None
    since: date | None = None
    until: date | None = None


def find_entries(book: Book, wanted: Wanted, limit: int) -> tuple[list[NumberedEntry], int]:
    """The last `limit` of them, oldest first, and how many there are. Raises UserError."""
    if wanted.origin is not None and wanted.origin not in list(Origin):
        raise UserError(
            f"nothing is entered by {wanted.origin!r}", nearest(wanted.origin, list(map(str, Origin)))
        )
    columns, conditions = entries_table.c, []
    for column, value in (
        (columns.account, wanted.account),
        (columns.run_id, wanted.run_id),
        (columns.origin, wanted.origin),
    ):
        if value is not None:
            conditions.append(column == value)
    # Times are kept as text in UTC that begins with the day.
    if wanted.since is not None:
        conditions.append(columns.period_start >= wanted.since.isoformat())
    if wanted.until is not None:
        conditions.append(columns.period_start < wanted.until.isoformat())
    where = and_(True, *conditions)
    with book.reading() as connection:
        rows = connection.execute(
            select(entries_table).where(where).order_by(columns.id.desc()).limit(limit)
        ).all()
        num_found = connection.execute(
            select(func.count()).select_from(entries_table).where(where)
        ).scalar_one()
    return [entry_from_row(row) for row in reversed(rows)], num_found
