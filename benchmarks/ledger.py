"""How fast the ledger takes entries from eight processes with SIGKILL among them, and answers.

    python benchmarks/ledger.py writes [--database sqlite|postgresql] [--seconds 10] [--batch 100]
    python benchmarks/ledger.py statements [--database ...] [--entries 1000000] [--runs 1000]

`writes`: each writer appends `batch` entries a transaction, and notes their numbers in a file of its own
when the transaction is committed, which is when the disk has it (SQLite: synchronous=FULL in write-ahead
mode; PostgreSQL: synchronous_commit=on). Writers are killed and others take their places. In the end every
number that was noted must be in the book under the writer's own id, and the whole book must add up. Beside
it stand the limits: the same rows by the driver alone, from one process into a plain table without index or
total, and how often the disk syncs 4 KiB.

`statements`: so many entries of so many runs and of staff; then each statement, the slowest of five.

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from openbook.ledger.audit import verify
from openbook.ledger.book import Book
from openbook.ledger.entry import Basis, LedgerEntry, Origin
from openbook.ledger.lineage import lineage
from openbook.ledger.rows import BookedRun, entry_to_row
from openbook.ledger.statement import statement
from openbook.ledger.totals import Among, By
from openbook.runs.journal import RunStatus

NUM_WRITERS = 8
KILLS_A_SECOND = 1.0
DAY = datetime(2026, 1, 1, tzinfo=UTC)
ENTRY = LedgerEntry(
    time=DAY,
    run_id=None,
    attempt=1,
    account="device",
    lost=False,
    quantity=Decimal("12.345678"),
    unit="device-second",
    unit_price_usd=Decimal("3.6"),
    price_unit="device-hour",
    price_source="SemiAnalysis InferenceX, constants",
    price_date=date(2026, 1, 1),
    amount_nano_usd=12_345_678,
    note="attempt 1 (done), usage lines: 1",
    period_start=DAY,
    period_end=DAY + timedelta(seconds=12),
    origin=Origin.HAND,
)


@contextlib.contextmanager
def database(kind: str) -> Iterator[str]:
    """The location of an empty database of this kind."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix=".ledger-") as folder:
            yield f"{folder}/ledger.sqlite"
        return
    path = Path(__file__).resolve().parents[1] / "tests" / "postgresql.py"
    spec = importlib.util.spec_from_file_location("postgresql", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    with module.server() as running:
        yield running.new_database()


def write(location: str, name: str, batch: int, notes: Path) -> None:
    """What a writer does until it is killed: a transaction, a note, and again."""
    descriptor = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Book.open(location, busy_timeout_seconds=60) as book:
        round_number = 0
        print("ready", flush=True)
        sys.stdin.readline()
        while True:
            ids = [f"{name}/{round_number}/{place}" for place in range(batch)]
            with book.changing() as change:
                numbers = change.append([replace(ENTRY, external_id=one) for one in ids])
            os.write(
                descriptor, f"{time.monotonic()} {round_number} {numbers.start} {len(numbers)}\n".encode()
            )
            round_number += 1


class Writers:
    """Eight of them at any time; a killed one is followed by another."""

    def __init__(self, location: str, batch: int, folder: Path) -> None:
        self._words = [sys.executable, __file__, "writer", location, str(batch)]
        self._folder = folder
        self._num_begun = 0
        self.living: dict[str, subprocess.Popen[str]] = {}

    def begin(self) -> None:
        name = f"w{self._num_begun}"
        self._num_begun += 1
        self.living[name] = subprocess.Popen(
            [*self._words, name, str(self._folder / name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def go(self, names: Sequence[str]) -> None:
        for name in names:
            process = self.living[name]
            assert process.stdout is not None and process.stdin is not None
            assert process.stdout.readline() == "ready\n"
        for name in names:
            pipe = self.living[name].stdin
            assert pipe is not None
            pipe.write("go\n")
            pipe.flush()

    def kill(self, name: str) -> None:
        process = self.living.pop(name)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, f"writer {name} ended by itself"
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def measure_writes(location: str, seconds: float, batch: int, rng: random.Random) -> dict[str, Any]:
    """Entries a second that were acknowledged, and whether any of them is missing."""
    Book.open(location).close()
    with tempfile.TemporaryDirectory() as folder:
        writers = Writers(location, batch, Path(folder))
        num_spares = int(seconds * KILLS_A_SECOND)
        for _ in range(NUM_WRITERS + num_spares):
            writers.begin()
        names = list(writers.living)
        at_work, spares = names[:NUM_WRITERS], names[NUM_WRITERS:]
        writers.go(at_work)
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            time.sleep(1 / KILLS_A_SECOND)
            if spares:  # begun before, so that starting Python is not measured
                victim = at_work.pop(rng.randrange(len(at_work)))
                writers.kill(victim)
                at_work.append(spares.pop(0))
                writers.go(at_work[-1:])
        took = time.monotonic() - began
        for name in list(writers.living):
            writers.kill(name)
        noted = _notes(Path(folder))
    in_time = sum(size for when, *_, size in noted if when <= began + took)
    with Book.open(location) as book:
        kept = {one.number: one.entry.external_id for one in book.entries()}
        wrong = verify(book)
    missing = [
        note
        for note in noted
        if any(kept.get(note[3] + place) != f"{note[1]}/{note[2]}/{place}" for place in range(note[4]))
    ]
    return {
        "writers": NUM_WRITERS,
        "killed_on_the_way": num_spares,
        "batch": batch,
        "seconds": round(took, 2),
        "acknowledged_entries": in_time,
        "entries_a_second": round(in_time / took),
        "commits_a_second": round(in_time / took / batch, 1),
        "acknowledged_and_missing": len(missing),
        "problems_found_by_verify": len(wrong),
    }


def _notes(folder: Path) -> list[tuple[float, str, int, int, int]]:
    """Of every writer's whole lines: when, who, which round, its first number, how many."""
    notes = []
    for path in folder.iterdir():
        for line in path.read_text().split("\n")[:-1]:
            when, round_number, first, size = line.split()
            notes.append((float(when), path.name, int(round_number), int(first), int(size)))
    return notes


def limit(location: str, batch: int, seconds: float = 3.0) -> float:
    """Entries a second by the driver alone: one process, one plain table, the same durability."""
    rows = [
        tuple(entry_to_row(replace(ENTRY, external_id=f"w0/0/{place}")).values()) for place in range(batch)
    ]
    columns = [f"c{place}" for place in range(len(rows[0]))]
    make = f"CREATE TABLE plain ({', '.join(f'{name} text' for name in columns)})"
    if "://" not in location:
        connection = sqlite3.connect(location, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        marks = ", ".join("?" * len(columns))
        begin: Callable[[], object] = lambda: connection.execute("BEGIN IMMEDIATE")  # noqa: E731
        cursor: Any = connection
        commit: Callable[[], object] = lambda: connection.execute("COMMIT")  # noqa: E731
    else:
        import psycopg

        connection = psycopg.connect(location)
        marks = ", ".join(["%s"] * len(columns))
        cursor = connection.cursor()
        begin, commit = (lambda: None), connection.commit
        rows = [tuple(None if value is None else str(value) for value in row) for row in rows]
    cursor.execute(make)
    commit() if "://" in location else None
    num_rows, until = 0, time.monotonic() + seconds
    began = time.monotonic()
    while time.monotonic() < until:
        begin()
        cursor.executemany(f"INSERT INTO plain VALUES ({marks})", rows)
        commit()
        num_rows += batch
    took = time.monotonic() - began
    connection.close()
    return num_rows / took


def syncs_a_second(folder: Path, seconds: float = 2.0) -> float:
    """How often 4 KiB are appended and synced."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        num, began = 0, time.monotonic()
        while time.monotonic() < began + seconds:
            os.write(file.fileno(), b"x" * 4096)
            os.fdatasync(file.fileno())
            num += 1
        return num / (time.monotonic() - began)


def fill(book: Book, num_entries: int, num_runs: int) -> float:
    """A book of so many entries over so many runs, three a day; entries a second of this one writer."""
    statuses = [RunStatus.DONE] * 8 + [RunStatus.FAILED, RunStatus.KILLED]
    with book.changing() as change:
        for number in range(num_runs):
            change.put_run(
                BookedRun(
                    run_id=f"run-{number}",
                    verb="rl",
                    stage=("pretrain", "zero", "distill", "eval")[number % 4],
                    status=statuses[number % 10],
                    reason="",
                    parents=(f"run-{number // 2}",) if number else (),
                    created_at=DAY + timedelta(hours=8 * (number % 3000)),
                    booked_at=DAY,
                    num_lines_booked=0,
                    num_rewinds_booked=0,
                )
            )
    tokens = replace(
        ENTRY, account="trained_tokens", unit="token", price_unit="token", quantity=Decimal(4096)
    )
    tokens = replace(tokens, unit_price_usd=Decimal(0), amount_nano_usd=0)
    staff = replace(ENTRY, account="staff", unit="hour", price_unit="hour", quantity=Decimal("1.5"))
    staff = replace(staff, unit_price_usd=Decimal(80), amount_nano_usd=120 * 10**9, basis=Basis.STATED)
    began, rng = time.monotonic(), random.Random(1)
    for start in range(0, num_entries, 10_000):
        entries = []
        for number in range(start, min(start + 10_000, num_entries)):
            kind = (ENTRY, ENTRY, tokens, staff)[number % 4]
            run_number = rng.randrange(num_runs)
            when = DAY + timedelta(hours=8 * (run_number % 3000) + number % 72)
            run_id = None if kind is staff else f"run-{run_number}"
            entries.append(replace(kind, run_id=run_id, period_start=when, period_end=when))
        with book.changing() as change:
            change.append(entries)
    return num_entries / (time.monotonic() - began)


def slowest(ask: Callable[[], object], times: int = 5) -> float:
    """Seconds of the slowest of five."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        took.append(time.perf_counter() - began)
    return round(max(took), 4)


def measure_statements(location: str, num_entries: int, num_runs: int) -> dict[str, Any]:
    with Book.open(location) as book:
        filled = fill(book, num_entries, num_runs)
        asked: dict[str, Callable[[], object]] = {
            "statement of everything": lambda: statement(book),
            "statement of one run": lambda: statement(book, ["run-77"]),
            "lineage of the last run": lambda: lineage(book, f"run-{num_runs - 1}"),
            "by run, account, day, lost": lambda: book.totals([By.RUN, By.ACCOUNT, By.DAY, By.LOST]),
            "by account in a month": lambda: book.totals(
                [By.ACCOUNT], Among(since=date(2026, 3, 1), until=date(2026, 4, 1))
            ),
            **{f"by {by}": lambda by=by: book.totals([by]) for by in By},
        }
        seconds = {name: slowest(ask) for name, ask in asked.items()}
        began = time.monotonic()
        problems = verify(book)
        return {
            "entries": num_entries,
            "runs": num_runs,
            "groups": len(book.totals([By.RUN, By.DAY, By.ACCOUNT, By.LOST])),
            "filled_entries_a_second_by_one_writer": round(filled),
            "slowest_of_five_seconds": seconds,
            "slowest_statement_seconds": max(seconds.values()),
            "verify_seconds": round(time.monotonic() - began, 1),
            "problems_found_by_verify": len(problems),
        }


def main() -> None:
    if sys.argv[1] == "writer":
        location, batch, name, notes = sys.argv[2:]
        write(location, name, int(batch), Path(notes))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["writes", "statements"])
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    with database(told.database) as location:
        if told.what == "writes":
            result = {
                **measure_writes(location, told.seconds, told.batch, random.Random(told.seed)),
            }
            plain = limit(location, told.batch)
            result |= {
                "limit_plain_rows_a_second": round(plain),
                "limit_syncs_a_second": round(syncs_a_second(Path(__file__).parent)),
            }
            result["share_of_limit"] = round(result["entries_a_second"] / plain, 3)
        else:
            result = measure_statements(location, told.entries, told.runs)
    print(json.dumps({"database": told.database, **result}, indent=2))


if __name__ == "__main__":
    main()
