"""A ledger of an older version is brought up to date: nothing lost, all of it or nothing, once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect

from openbook.errors import UserError
from openbook.ledger import upgrade
from openbook.ledger.audit import verify
from openbook.ledger.book import Book
from openbook.ledger.entry import Basis, Origin
from openbook.ledger.schema import SCHEMA_VERSION, metadata
from openbook.ledger.totals import By
from openbook.runs.journal import RunStatus

VERSION_1 = """
CREATE TABLE openbook_ledger (name VARCHAR(64) NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name));
CREATE TABLE runs (
    run_id VARCHAR(128) NOT NULL, verb VARCHAR(64) NOT NULL, stage VARCHAR(64) NOT NULL,
    status VARCHAR(32) NOT NULL, reason TEXT NOT NULL, parents TEXT NOT NULL,
    created_at VARCHAR(40) NOT NULL, booked_at VARCHAR(40) NOT NULL,
    num_lines_booked INTEGER NOT NULL, num_rewinds_booked INTEGER NOT NULL, PRIMARY KEY (run_id)
);
CREATE TABLE entries (
    id INTEGER NOT NULL, time VARCHAR(40) NOT NULL, run_id VARCHAR(128) NOT NULL,
    attempt INTEGER NOT NULL, account VARCHAR(64) NOT NULL, lost BOOLEAN NOT NULL,
    quantity TEXT NOT NULL, unit VARCHAR(32) NOT NULL, unit_price_usd TEXT NOT NULL,
    price_unit VARCHAR(32) NOT NULL, price_source TEXT NOT NULL, price_date VARCHAR(10) NOT NULL,
    amount_nano_usd BIGINT NOT NULL, note TEXT NOT NULL,
    PRIMARY KEY (id), FOREIGN KEY(run_id) REFERENCES runs (run_id)
);
CREATE INDEX ix_entries_run_id ON entries (run_id);
CREATE TRIGGER entries_refuse_update BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'entries are only ever added'); END;
CREATE TRIGGER entries_refuse_delete BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'entries are only ever added'); END;
INSERT INTO openbook_ledger VALUES ('schema_version', '1');
INSERT INTO runs VALUES ('r1', 'rl', 'zero', 'failed', 'nan', '["r0"]',
    '2026-01-30T22:00:00+00:00', '2026-01-31T12:00:00+00:00', 3, 0);
INSERT INTO entries VALUES (1, '2026-01-30T23:30:00+00:00', 'r1', 1, 'device', 0, '1800.000001',
    'device-second', '2.00', 'device-hour', 'list', '2026-01-01', 1000000001, 'attempt 1');
INSERT INTO entries VALUES (2, '2026-01-31T00:30:00+01:00', 'r1', 1, 'device', 0, '1800',
    'device-second', '2.00', 'device-hour', 'list', '2026-01-01', 1000000000, 'attempt 1');
INSERT INTO entries VALUES (3, '2026-01-31T11:00:00+00:00', 'r1', 1, 'trained_tokens', 0, '4096',
    'token', '0', 'token', 'ours', '2020-01-01', 0, 'attempt 1');
INSERT INTO entries VALUES (4, '2026-01-31T11:00:00+00:00', 'r1', 1, 'trained_tokens', 1, '-96',
    'token', '0', 'token', 'ours', '2020-01-01', 0, 'moved');
"""
"""What version 1 of the schema made and wrote, word for word."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(VERSION_1)
    connection.close()
    return path


def rows(path: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def without_spaces(sql: str | None) -> str:
    return "".join((sql or "").split())


def test_a_ledger_of_version_1_is_brought_up_to_date_and_loses_nothing(old: Path) -> None:
    columns = "id, time, run_id, attempt, account, lost, quantity, unit, unit_price_usd, price_unit, "
    columns += "price_source, price_date, amount_nano_usd, note"
    before = rows(old, f"SELECT {columns} FROM entries")
    with Book.open(old) as book:
        (run,) = book.contents().runs
        entries = book.contents().entries
        assert (run.run_id, run.status, run.parents, run.programme) == ("r1", RunStatus.FAILED, ("r0",), "")
        assert [entry.quantity for entry in entries] == [Decimal("1800.000001"), 1800, 4096, -96]
        assert entries[0].period_start == entries[0].period_end == entries[0].time
        assert (entries[0].origin, entries[0].basis) == (Origin.OPENBOOK, Basis.MEASURED)
        assert (entries[0].reverses, entries[0].external_id) == (None, "")
        by_day = {total.key: total.amount_nano_usd for total in book.totals([By.DAY])}
        assert by_day == {("2026-01-30",): 2_000_000_001, ("2026-01-31",): 0}
        (device,) = [total for total in book.totals([By.ACCOUNT]) if total.key == ("device",)]
        assert device.quantities == {"device-second": Decimal("3600.000001")}
        assert verify(book) == ()
    assert rows(old, f"SELECT {columns} FROM entries") == before
    assert rows(old, "SELECT value FROM openbook_ledger") == [(str(SCHEMA_VERSION),)]


def test_an_upgraded_ledger_goes_on_as_a_new_one_does(old: Path, tmp_path: Path) -> None:
    with Book.open(old) as book:
        staff = replace(
            book.contents().entries[2],
            run_id=None,
            account="staff",
            unit="hour",
            price_unit="hour",
            price_date=date(2026, 1, 1),
            time=datetime(2026, 2, 1, tzinfo=UTC),
        )
        with book.changing() as change:
            assert list(change.append([staff])) == [5]
        assert verify(book) == ()
    for statement in ("UPDATE entries SET note = ''", "DELETE FROM entries"):
        with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
            rows(old, statement)
    Book.open(tmp_path / "new.db").close()
    schema = "SELECT name, sql FROM sqlite_master ORDER BY name"
    in_new = [(name, without_spaces(sql)) for name, sql in rows(tmp_path / "new.db", schema)]
    assert [(name, without_spaces(sql)) for name, sql in rows(old, schema)] == in_new


def test_the_migrations_make_the_tables_that_are_read_and_written(location: str) -> None:
    Book.open(location).close()
    url = location.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url if "://" in url else f"sqlite:///{url}")
    inspector = inspect(engine)
    made = set(inspector.get_table_names()) - {"alembic_version"}
    assert made == set(metadata.tables)
    for table in metadata.tables.values():
        expected = {column.name: column.nullable for column in table.columns}
        found = {column["name"]: column["nullable"] for column in inspector.get_columns(table.name)}
        assert found == expected
        keys = inspector.get_pk_constraint(table.name)["constrained_columns"]
        assert keys == [column.name for column in table.primary_key]
        unique = {tuple(i["column_names"]) for i in inspector.get_indexes(table.name) if i["unique"]}
        assert unique == {(column.name,) for column in table.columns if column.unique}
    engine.dispose()


def test_an_upgrade_that_fails_leaves_the_old_ledger(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows(old, "SELECT sql FROM sqlite_master"), rows(old, "SELECT * FROM entries")
    upgrade_whole = upgrade.upgrade

    def fail_at_the_end(connection: Any) -> None:
        upgrade_whole(connection)
        raise RuntimeError("the power went")

    monkeypatch.setattr("openbook.ledger.book.upgrade", fail_at_the_end)
    with pytest.raises(RuntimeError):
        Book.open(old)
    assert (rows(old, "SELECT sql FROM sqlite_master"), rows(old, "SELECT * FROM entries")) == before
    monkeypatch.undo()
    with Book.open(old) as book:
        assert verify(book) == ()


def test_a_process_killed_in_the_middle_of_an_upgrade_leaves_the_old_ledger(old: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from openbook.ledger.book import Book\n"
        "from sqlalchemy import event\n"
        "from sqlalchemy.engine import Engine\n"
        "left = int(sys.argv[2])\n"
        "@event.listens_for(Engine, 'before_cursor_execute')\n"
        "def strike(connection, cursor, statement, *_):\n"
        "    global left\n"
        "    left -= not statement.startswith(('PRAGMA', 'SELECT'))\n"
        "    if not left: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Book.open(sys.argv[1]).close()\n"
    )
    for number in (1, 5, 9, 14):
        done = subprocess.run([sys.executable, "-c", code, str(old), str(number)], check=False)
        assert done.returncode == -9
        assert rows(old, "SELECT value FROM openbook_ledger") == [("1",)]
        assert rows(old, "SELECT count(*) FROM entries") == [(4,)]
    with Book.open(old) as book:
        assert len(book.contents().entries) == 4
        assert verify(book) == ()


def test_processes_that_open_a_ledger_at_once_make_it_once(location: str, old: Path) -> None:
    code = (
        "import sys\n"
        "from openbook.ledger.book import Book\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for place in sys.argv[1:]:\n"
        "    with Book.open(place) as book:\n"
        "        print(len(book.contents().entries), flush=True)\n"
    )
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", code, location, str(old)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for opener in openers:
        assert opener.stdout is not None
        opener.stdout.readline()
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("go\n")
        opener.stdin.flush()
    said = [opener.communicate() for opener in openers]
    assert [out.split() for out, _ in said] == [["0", "4"]] * 4, said
    with Book.open(old) as book:
        assert verify(book) == ()


def test_an_older_ledger_that_may_only_be_read_says_that_it_must_be_upgraded(old: Path) -> None:
    with pytest.raises(UserError, match=r"older version \(schema 1\) .*: it may be read but not written"):
        Book.open(f"sqlite:///file:{old}?mode=ro&uri=true")
