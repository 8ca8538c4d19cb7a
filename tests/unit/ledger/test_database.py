"""What can be the matter with a database: one clear line each, and nothing lost."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from openbook.errors import UserError
from openbook.ledger.audit import verify
from openbook.ledger.book import Book

WRITE = """
import sys
from datetime import UTC, datetime
from openbook.errors import UserError
from openbook.ledger.book import Book
from openbook.ledger.rows import BookedRun
from openbook.runs.journal import RunStatus
now = datetime(2026, 1, 31, tzinfo=UTC)
book = Book.open(sys.argv[1])
for number in range(int(sys.argv[2])):
    run = BookedRun(run_id=f"r{number}", verb="rl", stage="zero", status=RunStatus.DONE, reason="x" * 4000,
        parents=(), created_at=now, booked_at=now, num_lines_booked=0, num_rewinds_booked=0)
    try:
        with book.changing() as change:
            change.put_run(run)
    except UserError as error:
        print(error, flush=True)
        break
    print("booked", run.run_id, flush=True)
"""
"""Runs with long reasons, each acknowledged on a line of its own when it is on the disk."""


def write(location: str | Path, num_runs: int, **how: Any) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(location), str(num_runs)],
        capture_output=True,
        text=True,
        check=False,
        **how,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def run_ids(book: Book) -> list[str]:
    return [run.run_id for run in book.runs()]


def refused(location: str | Path) -> str:
    """The one line that a write ends in."""
    with pytest.raises(UserError) as raised:
        book = Book.open(location, busy_timeout_seconds=0.05)
        with book.changing() as change:
            change._connection.execute(text("UPDATE runs SET reason = reason"))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_ledger_of_a_newer_version_is_refused(location: str) -> None:
    with Book.open(location) as book, book._engine.begin() as connection:
        connection.execute(text("UPDATE openbook_ledger SET value = '99'"))
    with pytest.raises(UserError, match=r"newer version of openbook \(schema 99\)"):
        Book.open(location)


def test_a_read_only_ledger_can_be_read_but_not_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    write(path, 1)
    book = Book.open(f"sqlite:///file:{path}?mode=ro&uri=true")
    assert run_ids(book) == ["r0"]
    assert "may be read but not written" in refused(f"sqlite:///file:{path}?mode=ro&uri=true")


def test_a_user_who_may_only_read_is_told_so(postgresql: Any) -> None:
    location = postgresql.new_database()
    write(location, 1)
    with Book.open(location) as book, book._engine.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS reader"))
        connection.execute(text("CREATE ROLE reader LOGIN"))
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"))
    as_reader = location.replace("openbook@", "reader@")
    assert run_ids(Book.open(as_reader)) == ["r0"]
    assert "may not be used by this user; ask its owner" in refused(as_reader)
    with Book.open(location) as book, book._engine.begin() as connection:
        name = location.rpartition("/")[2].partition("?")[0]
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    assert "may be read but not written" in refused(location)


def test_a_forked_process_uses_a_connection_of_its_own(location: str) -> None:
    code = (
        "import os, sys\n"
        "from openbook.ledger.book import Book\n"
        "with Book.open(sys.argv[1]) as book:\n"
        "    assert book.runs() == ()\n"
        "    idle = os.fork()\n"
        "    if not idle: sys.exit()\n"
        "    assert os.waitpid(idle, 0)[1] == 0\n"
        "    child = os.fork()\n"
        "    for _ in range(20):\n"
        "        with book.changing() as change:\n"
        "            change.run('r1')\n"
        "    if not child:\n"
        "        book.close()\n"
        "        sys.exit()\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "    assert book.runs() == ()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, location], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_locked_ledger_is_waited_for_and_then_reported(location: str) -> None:
    book = Book.open(location)
    with book.changing():
        assert "is locked by another process; try again" in refused(location)
        assert run_ids(Book.open(location)) == [], "readers do not wait"
    assert write(location, 1) == ["booked r0"]


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    words, database = tmp_path / "notes.txt", tmp_path / "other.db"
    words.write_text("no database " * 100)
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = database.read_bytes()
    with pytest.raises(UserError, match="is not a database"):
        Book.open(words)
    with pytest.raises(UserError, match="not a ledger"):
        Book.open(database)
    with pytest.raises(UserError, match="cannot be opened"):
        Book.open(tmp_path)
    assert database.read_bytes() == before


def test_a_database_of_something_else_is_refused_and_left_alone(postgresql: Any) -> None:
    import psycopg

    location = postgresql.new_database()
    with psycopg.connect(location) as connection:
        connection.execute("CREATE TABLE mine (x int)")
    with pytest.raises(UserError, match="is a database, but not a ledger"):
        Book.open(location)
    with psycopg.connect(location) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert tables == [("mine",)]


def test_a_damaged_ledger_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    write(path, 3)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(UserError, match="is damaged; restore a copy"):
        Book.open(path).contents()


def test_a_ledger_that_may_not_grow_is_said_to_be_full(tmp_path: Path) -> None:
    book = Book.open(tmp_path / "ledger.db")

    @event.listens_for(book._engine, "connect")
    def stay_small(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")

    book._engine.dispose()
    with pytest.raises(UserError, match="the disk is full"), book.changing() as change:
        for number in range(1000):
            change._connection.execute(
                text("INSERT INTO openbook_ledger VALUES (:name, :value)"),
                {"name": str(number), "value": "x" * 1000},
            )
    with Book.open(tmp_path / "ledger.db") as opened:
        assert verify(opened) == ()


def test_a_file_that_may_not_grow_keeps_all_that_was_acknowledged(tmp_path: Path) -> None:
    """RLIMIT_FSIZE: the system refuses to write beyond it, as a full disk does."""
    path = tmp_path / "ledger.db"
    Book.open(path).close()

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    said = write(path, 500, preexec_fn=limit)
    assert 0 < len(said) < 500
    assert said[-1].startswith(f"ledger {path} ")
    assert "nothing was half booked" in said[-1]
    with Book.open(path) as book:
        assert run_ids(book) == [f"r{number}" for number in sorted(map(str, range(len(said) - 1)))]
        assert verify(book) == ()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 1 MiB, in a folder that other users reach: only root may mount one."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root may mount a small file system")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        words = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
        if subprocess.run(words, check=False, capture_output=True).returncode:
            pytest.skip("no file system may be mounted here")
        yield folder
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up_keeps_all_that_was_acknowledged_and_goes_on(small_disk: Path) -> None:
    path, filler = small_disk / "ledger.db", small_disk / "filler"
    Book.open(path).close()
    filler.write_bytes(b"x" * 300_000)
    said = write(path, 500)
    assert 0 < len(said) < 500
    assert (
        said[-1] == f"ledger {path} cannot grow: the disk is full; free some space; nothing was half booked"
    )
    with Book.open(path) as book:
        assert len(run_ids(book)) == len(said) - 1
        assert verify(book) == ()
    filler.unlink()
    assert write(path, len(said)) == [f"booked r{number}" for number in range(len(said))]


def test_a_server_whose_disk_fills_up_keeps_all_that_was_acknowledged_and_goes_on(
    small_disk: Path, postgresql: Any
) -> None:
    """The tables on the small disk, what is being written (the log) on a large one."""
    import psycopg

    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    server_folder = postgresql.folder.stat()
    os.chown(small_disk, server_folder.st_uid, server_folder.st_gid)
    location = postgresql.new_database()
    with psycopg.connect(postgresql.address("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        connection.execute("CREATE DATABASE cramped TABLESPACE small")
    try:
        location = location.replace(location.split("@/")[1].split("?")[0], "cramped")
        Book.open(location).close()
        (small_disk / "filler").write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 200_000))
        said = write(location, 2000)
        assert 0 < len(said) < 2000
        assert said[-1].endswith("cannot grow: the disk is full; free some space; nothing was half booked")
        (small_disk / "filler").unlink()
        with Book.open(location) as book:
            assert len(run_ids(book)) == len(said) - 1
            assert verify(book) == ()
        assert write(location, len(said))[-1] == f"booked r{len(said) - 1}"
    finally:
        with psycopg.connect(postgresql.address("postgres"), autocommit=True) as connection:
            connection.execute("DROP DATABASE cramped WITH (FORCE)")
            connection.execute("DROP TABLESPACE small")


def test_a_server_that_is_killed_keeps_all_that_was_acknowledged(tmp_path: Path, own_server: Any) -> None:
    location = own_server.new_database()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE, location, "100000"], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    said = [writer.stdout.readline() for _ in range(20)]
    os.kill(own_server.process.pid, signal.SIGQUIT)  # every connection is cut, nothing is flushed
    rest, _ = writer.communicate(timeout=60)
    lines = [*map(str.strip, said), *rest.splitlines()]
    assert lines[-1].startswith("ledger postgresql+psycopg://openbook@/")
    assert "nothing was half booked" in lines[-1]
    own_server.process.wait()
    own_server.start()
    with Book.open(location) as book:
        acknowledged = {line.split()[1] for line in lines[:-1]}
        assert acknowledged <= set(run_ids(book))
        assert len(run_ids(book)) - len(acknowledged) <= 1, "the answer to a last commit may have been lost"
        assert verify(book) == ()


@pytest.fixture
def own_server(postgresql: Any) -> Iterator[Any]:
    """A server of one's own, to do things to."""
    with sys.modules["postgresql"].server() as running:
        yield running


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("oracel://host/name", "no database known here; use sqlite or postgresql"),
        ("mysql://host/name", "no database known here; use sqlite or postgresql"),
        ("://x", "no database URL; such as postgresql://host/name"),
        ("postgresql://nobody@127.0.0.1:1/ledger", "cannot be reached"),
        ("postgresql://nobody@/ledger?host=/nowhere", "cannot be reached"),
    ],
)
def test_a_database_that_is_not_there_is_one_clear_line(location: str, why: str) -> None:
    with pytest.raises(UserError, match=why) as raised:
        Book.open(location)
    assert "\n" not in str(raised.value)


def test_a_database_that_was_never_made_is_one_clear_line(postgresql: Any) -> None:
    location = postgresql.new_database().replace("/ledger_", "/never_")
    with pytest.raises(UserError, match="does not exist; create the database first"):
        Book.open(location)


def test_a_password_is_not_shown() -> None:
    with pytest.raises(UserError) as raised:
        Book.open("postgresql://me:secret@127.0.0.1:1/ledger")
    assert "secret" not in str(raised.value)
    assert "me" in str(raised.value)
