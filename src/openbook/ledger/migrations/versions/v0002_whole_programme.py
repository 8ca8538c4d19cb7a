"""Version 2: entries that belong to no run, by hand and from files; totals that the database keeps."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NANO = 10**9
ROWS_AT_ONCE = 10_000


def upgrade() -> None:
    """New columns, totals added up from the entries there are, and triggers on both databases."""
    _widen_entries()
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("programme", sa.String(128), nullable=False, server_default=""))
    totals = _make_totals()
    _add_up(totals)
    if op.get_bind().dialect.name == "postgresql":
        _make_postgresql_triggers()
    else:
        _make_sqlite_triggers()
    op.execute("UPDATE openbook_ledger SET value = '2' WHERE name = 'schema_version'")


def _widen_entries() -> None:
    if op.get_bind().dialect.name == "sqlite":  # the batch makes the table anew, without them
        op.execute("DROP TRIGGER IF EXISTS entries_refuse_update")
        op.execute("DROP TRIGGER IF EXISTS entries_refuse_delete")
    with op.batch_alter_table("entries") as entries:
        entries.alter_column("run_id", existing_type=sa.String(128), nullable=True)
        entries.add_column(sa.Column("period_start", sa.String(40), nullable=False, server_default=""))
        entries.add_column(sa.Column("period_end", sa.String(40), nullable=False, server_default=""))
        entries.add_column(sa.Column("origin", sa.String(16), nullable=False, server_default="openbook"))
        entries.add_column(sa.Column("basis", sa.String(16), nullable=False, server_default="measured"))
        entries.add_column(sa.Column("source_file", sa.Text, nullable=False, server_default=""))
        entries.add_column(sa.Column("external_id", sa.String(256), nullable=True))
        entries.add_column(sa.Column("programme", sa.String(128), nullable=False, server_default=""))
        entries.add_column(sa.Column("reverses", sa.BigInteger, nullable=True))
    # What was booked by version 1 knows only when it was recorded.
    op.execute("UPDATE entries SET period_start = time, period_end = time")
    op.create_index("entries_external_id", "entries", ["external_id"], unique=True)
    op.create_index("entries_reverses", "entries", ["reverses"], unique=True)


def _make_totals() -> sa.Table:
    sums = ("quantity_whole", "quantity_nano", "amount_nano_usd", "num_entries")
    # SQLite turns a whole number that outgrows 64 bits into a rounded one, and would not say so.
    whole = [
        sa.CheckConstraint(f"typeof({name}) = 'integer'", name=f"totals_{name}_is_whole") for name in sums
    ]
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    return op.create_table(
        "totals",
        sa.Column("run_id", sa.String(128), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("account", sa.String(64), primary_key=True),
        sa.Column("unit", sa.String(32), primary_key=True),
        sa.Column("lost", sa.Boolean, primary_key=True),
        sa.Column("origin", sa.String(16), primary_key=True),
        sa.Column("basis", sa.String(16), primary_key=True),
        sa.Column("programme", sa.String(128), primary_key=True),
        *[sa.Column(name, sa.BigInteger, nullable=False) for name in sums],
        *(whole if is_sqlite else []),
        sqlite_with_rowid=False,
    )


def _add_up(totals: sa.Table) -> None:
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in _entries():
        day = datetime.fromisoformat(row.time).astimezone(UTC).date().isoformat()
        key = (row.run_id, day, row.account, row.unit, bool(row.lost))
        whole, nano = divmod(int(abs(Decimal(row.quantity)) * NANO), NANO)
        sign = -1 if Decimal(row.quantity) < 0 else 1
        found = sums.setdefault(key, [0, 0, 0, 0])
        for place, value in enumerate((sign * whole, sign * nano, row.amount_nano_usd, 1)):
            found[place] += value
    names = [column.name for column in totals.columns]
    rows = [(*key, "openbook", "measured", "", *values) for key, values in sums.items()]
    if rows:
        op.bulk_insert(totals, [dict(zip(names, row, strict=True)) for row in rows])


def _entries() -> Iterator[sa.Row[Any]]:
    columns = "id, run_id, time, account, unit, lost, quantity, amount_nano_usd"
    query = sa.text(f"SELECT {columns} FROM entries WHERE id > :last ORDER BY id LIMIT {ROWS_AT_ONCE}")
    last = -1
    while rows := op.get_bind().execute(query, {"last": last}).all():
        yield from rows
        last = rows[-1].id


def _make_sqlite_triggers() -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER entries_refuse_{verb.lower()} BEFORE {verb} ON entries "
            "BEGIN SELECT RAISE(ABORT, 'entries are only ever added'); END"
        )
    # INSERT OR REPLACE takes rows away without a DELETE that a trigger sees.
    op.execute(
        "CREATE TRIGGER entries_refuse_replacement BEFORE INSERT ON entries WHEN EXISTS "
        "(SELECT 1 FROM entries WHERE id = NEW.id OR external_id = NEW.external_id "
        "OR reverses = NEW.reverses) BEGIN SELECT RAISE(ABORT, 'entries are only ever added'); END"
    )


def _make_postgresql_triggers() -> None:
    op.execute(
        "CREATE FUNCTION entries_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'entries are only ever added'; END $$"
    )
    op.execute(
        "CREATE TRIGGER entries_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON entries "
        "FOR EACH STATEMENT EXECUTE FUNCTION entries_refuse()"
    )
