"""The tables of the ledger, and how a database is prepared for it.

The migrations make the tables; what stands here is how they are written and read, and a test
compares the two.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
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

SCHEMA_VERSION = 3

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
    Column("programme", String(128), nullable=False),
)

# Decimals are kept as text, because a database's own number may be a binary float. Entries are
# numbered from 1 without gaps by whoever holds the ledger, so a line that is gone shows.
entries_table = Table(
    "entries",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("time", String(40), nullable=False),
    Column("run_id", String(128), ForeignKey("runs.run_id"), nullable=True, index=True),
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
    Column("period_start", String(40), nullable=False),
    Column("period_end", String(40), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("basis", String(16), nullable=False),
    Column("source_file", Text, nullable=False),
    Column("external_id", String(256), nullable=True, unique=True),
    Column("programme", String(128), nullable=False),
    Column("reverses", BigInteger, nullable=True, unique=True),
)

# The entries added up by what statements are made from, in the transaction that adds them. The
# run of what belongs to none is "". A quantity is whole units and billionths apart, both exact.
totals_table = Table(
    "totals",
    metadata,
    Column("run_id", String(128), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("account", String(64), primary_key=True),
    Column("unit", String(32), primary_key=True),
    Column("lost", Boolean, primary_key=True),
    Column("origin", String(16), primary_key=True),
    Column("basis", String(16), primary_key=True),
    Column("programme", String(128), primary_key=True),
    Column("quantity_whole", BigInteger, nullable=False),
    Column("quantity_nano", BigInteger, nullable=False),
    Column("amount_nano_usd", BigInteger, nullable=False),
    Column("num_entries", BigInteger, nullable=False),
)


# What is owned, and how its price turns into the cost of its days.
hardware_table = Table(
    "hardware",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("device", String(128), nullable=False),
    Column("count", Integer, nullable=False),
    Column("price_usd", Text, nullable=False),
    Column("salvage_usd", Text, nullable=False),
    Column("bought_on", String(10), nullable=False),
    Column("life_days", Integer, nullable=False),
    Column("method", String(16), nullable=False),
    Column("source", Text, nullable=False),
)

# Caps that several clients share, in the smallest unit of their meter, and what is set aside under them.
budgets_table = Table(
    "budgets",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("meter", String(16), nullable=False),
    Column("most", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
)

holds_table = Table(
    "holds",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("budget", String(128), ForeignKey("budgets.name"), nullable=False, index=True),
    Column("amount", BigInteger, nullable=False),
    Column("holder", String(128), nullable=False),
    Column("held_at", String(40), nullable=False),
    Column("settled_amount", BigInteger, nullable=True),
    Column("settled_at", String(40), nullable=True),
)


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
        # A commit returns when the disk has it: in write-ahead mode, NORMAL would lose it to a power cut.
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        changes = connection.get_execution_options().get("openbook_changes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if changes else "BEGIN")


def prepare_postgresql(engine: Engine, busy_timeout_seconds: float) -> None:
    """Make PostgreSQL wait for other writers no longer than that, and for the disk at each commit."""

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {round(busy_timeout_seconds * 1000)}")
            cursor.execute("SET synchronous_commit = on")
        connection.commit()


def keep_write_ahead_log(engine: Engine) -> None:
    """Put a SQLite file into write-ahead mode for good: readers do not wait for a writer."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
