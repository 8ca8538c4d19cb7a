"""Real processes killed by SIGKILL while they work, book or write entries: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from openbook.ledger.audit import verify
from openbook.ledger.book import Book
from openbook.ledger.booking import book_run
from openbook.ledger.entry import Basis
from openbook.ledger.prices import PricePlan
from openbook.runs.journal import RunStatus
from openbook.runs.run import Run
from openbook.runs.usage import Usage

Command = Callable[..., Any]
MOST_OF_A_BEAT_SECONDS = 5.0
NUM_WRITERS, NUM_KILLS, BATCH = 8, 4, 20

HOLDING = """
import sys, time
from pathlib import Path
from openbook.runs.run import Run
from openbook.runs.usage import Usage
run = Run.create(Path(sys.argv[1]), verb="pretrain", stage="pretrain", recipe={}, seed=1, run_id="long")
run.start()
run.record(Usage(device_microseconds=1_000_000, trained_tokens=7))
run.log(1, {"loss": 1.0})
print("in a long step", flush=True)
time.sleep(600)
"""
BOOKING = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from openbook.ledger.book import Book
from openbook.ledger.booking import book_run
from openbook.ledger.prices import PricePlan
from openbook.runs.run import Run
run, plan = Run.open(Path(sys.argv[1])), PricePlan.default()
Book.open(sys.argv[2]).close()

def book_and_die(number):
    left = number
    def strike(*_):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(Engine, name, strike)
    with Book.open(sys.argv[2]) as book:
        book_run(book, run, plan)

number = 1
while True:  # each process dies one event later, until one arrives
    child = os.fork()
    if not child:
        book_and_die(number)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    number += 1
print(number)
"""
WRITING = """
import os, sys
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from openbook.ledger.book import Book
from openbook.ledger.entry import LedgerEntry, Origin
now = datetime(2026, 1, 31, tzinfo=UTC)
entry = LedgerEntry(time=now, run_id=None, attempt=0, account="data", lost=False, quantity=Decimal("0.1"),
    unit="gigabyte", unit_price_usd=Decimal(3), price_unit="gigabyte", price_source="list",
    price_date=date(2026, 1, 1), amount_nano_usd=300_000_000, note="", period_start=now, period_end=now,
    origin=Origin.HAND)
with Book.open(sys.argv[1], busy_timeout_seconds=60) as book:
    round_number = 0
    while True:
        ids = [f"{sys.argv[2]}/{round_number}/{place}" for place in range(int(sys.argv[3]))]
        with book.changing() as change:
            change.append([replace(entry, external_id=one) for one in ids])
        os.write(1, f"{round_number}\\n".encode())
        round_number += 1
"""


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begin a program of Python text; what still runs at the end is killed."""
    begun: list[subprocess.Popen[str]] = []

    def begin(code: str, *words: object, **how: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], text=True, **how)
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def bill(inside: Command, root: Path, *words: str) -> dict[str, Any]:
    answer = inside("bill", "--root", root, "--verify", "--json", *words)
    assert answer.code == 0, answer.err
    (row,) = json.loads(answer.out)["rows"]
    return dict(row)


def test_a_run_killed_in_a_long_step_is_billed_up_to_its_last_heartbeat_and_once(
    tmp_path: Path, spawn: Command, inside: Command
) -> None:
    process = spawn(HOLDING, tmp_path / "run", stdout=subprocess.PIPE)
    assert process.stdout.readline() == "in a long step\n"
    began = time.monotonic()
    time.sleep(4.5)
    process.send_signal(signal.SIGKILL)
    held_seconds = time.monotonic() - began
    process.wait()

    row = bill(inside, tmp_path)
    assert row["status"] == "killed"
    booked = Decimal(row["device_seconds"]) - 1
    assert held_seconds - MOST_OF_A_BEAT_SECONDS <= booked <= Decimal(held_seconds) + 1
    assert booked > 1, "it beats more than once in that time"
    assert bill(inside, tmp_path) == row, "the next bill says the same"
    with Book.open(tmp_path / "ledger.sqlite") as book:
        device = [entry for entry in book.contents().entries if entry.account == "device"]
    assert [(entry.basis, entry.quantity) for entry in device] == [
        (Basis.MEASURED, 1),
        (Basis.ESTIMATED, booked),
    ]

    run = Run.open(tmp_path / "run")
    run.start()
    run.truncate_metrics(1)
    run.record(Usage(device_microseconds=2_000_000))
    run.finish()
    row = bill(inside, tmp_path)
    assert (row["status"], Decimal(row["device_seconds"])) == ("done", 3 + booked)
    lost = row["lost_nano_usd"] / row["amount_nano_usd"]
    assert lost == pytest.approx(float(booked / (3 + booked)), abs=1e-4), "what it held in vain is lost"


def test_a_booking_killed_at_every_instruction_of_the_database_books_once(
    tmp_path: Path, location: str, spawn: Command
) -> None:
    run = Run.create(tmp_path / "run", verb="rl", stage="zero", recipe={}, seed=1)
    run.start()
    for step in range(1, 6):
        run.record(Usage(device_microseconds=1_234_567, trained_tokens=10))
        run.log(step, {"loss": 1.0})
    run.interrupt()
    run.start()
    run.truncate_metrics(3)
    run.record(Usage(device_microseconds=1_000_001))
    run.finish()
    process = spawn(BOOKING, tmp_path / "run", location, stdout=subprocess.PIPE)
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    assert int(out) > 20, "so many instructions were there to be killed at"
    with Book.open(location) as book:
        assert verify(book, [run]) == ()
        assert book_run(book, run, PricePlan.default()).entries == ()
        (known,) = book.runs()
        assert (known.status, known.num_lines_booked, known.num_rewinds_booked) == (RunStatus.DONE, 6, 1)
        device = sum(one.quantity for one in book.contents().entries if one.account == "device")
        assert device == Decimal("7.172836")


def test_no_entry_that_was_acknowledged_is_lost_when_writers_are_killed(
    tmp_path: Path, location: str, spawn: Command
) -> None:
    seed = int(os.environ.get("KILL_SEED", random.randrange(10**6)))
    print(f"KILL_SEED={seed}")
    rng = random.Random(seed)
    Book.open(location).close()

    def begin(number: int) -> subprocess.Popen[str]:
        with (tmp_path / f"{number}.notes").open("w") as notes:
            process: subprocess.Popen[str] = spawn(WRITING, location, number, BATCH, stdout=notes)
        return process

    def num_notes() -> int:
        return sum(path.read_text().count("\n") for path in tmp_path.glob("*.notes"))

    writers = {number: begin(number) for number in range(NUM_WRITERS)}
    for number in range(NUM_WRITERS, NUM_WRITERS + NUM_KILLS):
        before, until = num_notes(), time.monotonic() + 60
        while num_notes() < before + 20:
            assert time.monotonic() < until, "nobody writes"
            time.sleep(rng.uniform(0, 0.02))
        victim = writers.pop(rng.choice(list(writers)))
        victim.send_signal(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL
        writers[number] = begin(number)
    for process in writers.values():
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    acknowledged = {
        f"{path.stem}/{line}/{place}"
        for path in tmp_path.glob("*.notes")
        for line in path.read_text().split("\n")[:-1]
        for place in range(BATCH)
    }
    with Book.open(location) as book:
        entered = [entry.external_id for entry in book.contents().entries]
        assert acknowledged <= set(entered)
        assert len(entered) == len(set(entered))
        unknown = len(entered) - len(acknowledged)
        assert unknown % BATCH == 0 and unknown <= BATCH * (NUM_WRITERS + NUM_KILLS), "whole batches only"
        assert verify(book) == ()
        (total,) = book.totals()
        assert total.amount_nano_usd == 300_000_000 * len(entered)
