from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import event

from openbook.errors import UserError
from openbook.ledger.book import Book
from openbook.ledger.entry import Basis, LedgerEntry, Origin
from openbook.ledger.rows import BookedRun
from openbook.runs.journal import RunStatus

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
RUN = BookedRun(
    run_id="r1",
    verb="rl",
    stage="zero",
    status=RunStatus.DONE,
    reason="",
    parents=("r0",),
    created_at=NOON,
    booked_at=NOON,
    num_lines_booked=3,
    num_rewinds_booked=0,
)
STAFF = LedgerEntry(
    time=NOON,
    run_id=None,
    attempt=0,
    account="staff",
    lost=False,
    quantity=Decimal("12.5"),
    unit="hour",
    unit_price_usd=Decimal(80),
    price_unit="hour",
    price_source="payroll",
    price_date=date(2026, 1, 1),
    amount_nano_usd=1_000 * 10**9,
    note="",
    period_start=NOON - timedelta(days=30),
    period_end=NOON,
    origin=Origin.HAND,
    basis=Basis.STATED,
)


def put(book: Book) -> None:
    with book.changing() as change:
        change.put_run(RUN)


def test_a_new_ledger_is_a_file_in_write_ahead_mode_that_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "ledger.db"
    with Book.open(path) as book:
        put(book)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    with Book.open(f"sqlite:///{path}") as book:
        assert book.contents().runs == (RUN,)


def test_a_change_that_fails_leaves_the_book_as_it_was(tmp_path: Path) -> None:
    book = Book.open(tmp_path / "ledger.db")
    with pytest.raises(RuntimeError), book.changing() as change:
        change.put_run(RUN)
        raise RuntimeError
    assert book.contents().runs == ()


def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Book.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE openbook_ledger SET value = '99'")
    connection.commit()
    connection.close()
    with pytest.raises(UserError, match=r"newer version of openbook \(schema 99\)"):
        Book.open(path)


def test_a_read_only_ledger_can_be_read_but_not_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Book.open(path) as book:
        put(book)
    book = Book.open(f"sqlite:///file:{path}?mode=ro&uri=true")
    assert book.contents().runs == (RUN,)
    with pytest.raises(UserError, match="may be read but not written") as raised:
        put(book)
    assert "\n" not in str(raised.value)


def test_a_locked_ledger_is_waited_for_and_then_reported(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Book.open(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    book = Book.open(path, busy_timeout_seconds=0.05)
    with pytest.raises(UserError, match="is locked by another process"):
        put(book)
    assert book.contents().runs == (), "readers do not wait"
    other.execute("ROLLBACK")
    other.close()
    put(book)


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, database = tmp_path / "notes.txt", tmp_path / "other.db"
    text.write_text("no database " * 100)
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = database.read_bytes()
    with pytest.raises(UserError, match="is not a database"):
        Book.open(text)
    with pytest.raises(UserError, match="not a ledger"):
        Book.open(database)
    with pytest.raises(UserError, match="cannot be opened"):
        Book.open(tmp_path)
    assert database.read_bytes() == before


def test_a_damaged_ledger_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Book.open(path) as book:
        put(book)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(UserError, match="is damaged; restore a copy"):
        Book.open(path).contents()


def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:
    book = Book.open(tmp_path / "ledger.db")

    @event.listens_for(book._engine, "connect")
    def stay_small(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")

    with pytest.raises(UserError, match="the disk is full"), book.changing() as change:
        for number in range(1000):
            change.put_run(replace(RUN, run_id=f"r{number}", reason="x" * 1000))
    assert Book.open(tmp_path / "ledger.db").contents().runs == ()


def test_entries_can_only_be_added(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Book.open(path) as book, book.changing() as change:
        change.append([STAFF])
    connection = sqlite3.connect(path)
    for statement in (
        "UPDATE entries SET amount_nano_usd = 1",
        "DELETE FROM entries",
        "INSERT OR REPLACE INTO entries SELECT * FROM entries",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
            connection.execute(statement)
    connection.close()


def test_a_database_nobody_knows_and_a_bad_url_are_one_clear_line() -> None:
    with pytest.raises(UserError, match="no database known here"):
        Book.open("oracel://host/name")
    with pytest.raises(UserError, match="no database URL"):
        Book.open("://x")


def test_a_password_is_not_shown() -> None:
    try:
        location = Book.open("postgresql://me:secret@localhost:1/ledger").location
    except UserError as error:
        location = str(error)
    assert "secret" not in location
