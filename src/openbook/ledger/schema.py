"""The tables of the ledger, and how a database is prepared for it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    event,
)

SCHEMA_VERSION = 1

metadata = MetaData()

ledger_table = Table(
    "openbook_ledger",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

runs_table = Table(
    "runs",
    metadata,
    Column("run_id", String(128), primary_key=True),
    Column("verb", String(64), nullable=False),
    Column("stage", String(64), nullable=False),
    Column("status", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("parents", Text, nullable=False),  # ids of the runs it was made from, as a JSON list
    Column("created_at", String(40), nullable=False),
    Column("booked_at", String(40), nullable=False),
    Column("num_lines_booked", Integer, nullable=False),
    Column("num_rewinds_booked", Integer, nullable=False),
)

# Decimals are kept as text, because a database's own number may be a binary float.
entries_table = Table(
    "entries",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("time", String(40), nullable=False),
    Column("run_id", String(128), ForeignKey("runs.run_id"), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("account", String(64), nullable=False),
    Column("lost", Boolean, nullable=False),
    Column("quantity", Text, nullable=False),
    Column("unit", String(32), nullable=False),
    Column("unit_price_usd", Text, nullable=False),
    Column("price_unit", String(32), nullable=False),
    Column("price_source", Text, nullable=False),
    Column("price_date", String(10), nullable=False),
    Column("amount_nano_usd", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
)

for verb in ("UPDATE", "DELETE"):
    trigger = DDL(  # type: ignore[no-untyped-call]  # the library gives it no types
        f"CREATE TRIGGER entries_refuse_{verb.lower()} BEFORE {verb} ON entries "
        "BEGIN SELECT RAISE(ABORT, 'entries are only ever added'); END"
    )
    event.listen(entries_table, "after_create", trigger.execute_if(dialect="sqlite"))


def prepare_sqlite(engine: Engine, busy_timeout_seconds: float) -> None:
    """Make SQLite wait for other writers and take the write lock at the start of a change.

    A transaction that reads first and writes later would otherwise fail when another one wrote in
    between; the driver's own handling of transactions is switched off for that.
    """

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {round(busy_timeout_seconds * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        changes = connection.get_execution_options().get("openbook_changes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if changes else "BEGIN")


def keep_write_ahead_log(engine: Engine) -> None:
    """Put a SQLite file into write-ahead mode for good: readers do not wait for a writer."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
