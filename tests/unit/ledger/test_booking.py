from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from openbook.errors import UserError
from openbook.ledger.audit import verify
from openbook.ledger.book import Book
from openbook.ledger.booking import book_run
from openbook.ledger.entry import Basis
from openbook.ledger.prices import PricePlan
from openbook.ledger.statement import statement
from openbook.ledger.totals import By
from openbook.runs.journal import RunStatus
from openbook.runs.run import Run
from openbook.runs.usage import Usage

SRC = str(Path(__file__).resolve().parents[3] / "src")
PLAN = """
devices = { cpu = "host" }
[[prices]]
resource = "host"
unit = "device-hour"
price_usd = 0.36
valid_from = 2020-01-01
valid_to = 2026-01-01
source = "old list"
[[prices]]
resource = "host"
unit = "device-hour"
price_usd = 3.6
valid_from = 2026-01-01
source = "new list"
[[prices]]
resource = "tokens"
unit = "token"
price_usd = 0
valid_from = 2020-01-01
source = "ours"
"""


def plan() -> PricePlan:
    return PricePlan.from_toml(PLAN, "test")


def started_run(folder: Path) -> Run:
    run = Run.create(folder, verb="rl", stage="zero", recipe={}, seed=1)
    run.start()
    return run


def write_usage(run: Run, *lines: tuple[str, int]) -> None:
    """Usage lines with these times and device microseconds, as attempt 1 would have written them."""
    with (run.folder / "usage.jsonl").open("a") as file:
        for time, microseconds in lines:
            line = {"attempt": 1, "time": time, "device_microseconds": microseconds}
            file.write(json.dumps(line) + "\n")


def test_device_time_is_priced_and_tokens_are_counted(tmp_path: Path, location: str) -> None:
    run = started_run(tmp_path / "run")
    run.record(Usage(device_microseconds=1_500_000, trained_tokens=40))
    run.record(Usage(device_microseconds=500_000, completion_tokens=2, cpu_microseconds=9))
    run.finish()
    book = Book.open(location)
    booking = book_run(book, run, plan())
    assert booking.num_lines == 2
    assert [(e.account, e.quantity, e.unit, e.amount_nano_usd) for e in book.contents().entries] == [
        ("device", Decimal(2), "device-second", 2_000_000),
        ("trained_tokens", Decimal(40), "token", 0),
        ("completion_tokens", Decimal(2), "token", 0),
    ]
    entry = booking.entries[0]
    assert (entry.unit_price_usd, entry.price_unit, entry.price_source) == (
        Decimal("3.6"),
        "device-hour",
        "new list",
    )
    assert (entry.run_id, entry.note) == (run.manifest.id, "attempt 1 (done), usage lines: 2")


def test_work_is_priced_by_the_day_on_which_it_was_done(tmp_path: Path, location: str) -> None:
    run = started_run(tmp_path / "run")
    write_usage(run, ("2025-12-31T23:59:59.9+00:00", 1_000_000), ("2026-01-01T00:00:00+00:00", 1_000_000))
    write_usage(run, ("2026-01-01T00:30:00+01:00", 1_000_000))
    book = Book.open(location)
    book_run(book, run, plan())
    assert [(e.price_source, e.quantity, e.amount_nano_usd) for e in book.contents().entries] == [
        ("old list", Decimal(2), 200_000),
        ("new list", Decimal(1), 1_000_000),
    ]


def test_a_second_booking_books_only_the_rest(tmp_path: Path, location: str) -> None:
    run = started_run(tmp_path / "run")
    book = Book.open(location)
    run.record(Usage(device_microseconds=1_000_000))
    assert book_run(book, run, plan()).amount_nano_usd == 1_000_000
    assert book_run(book, run, plan()).entries == ()
    run.record(Usage(device_microseconds=3_000_000))
    run.finish()
    rest = book_run(book, run, plan())
    assert (rest.num_lines, rest.amount_nano_usd) == (1, 3_000_000)
    assert statement(book).rows[0].status is RunStatus.DONE


def test_many_small_bookings_are_rounded_like_one(tmp_path: Path, location: str) -> None:
    run = started_run(tmp_path / "run")
    book = Book.open(location)
    cheap = PricePlan.from_toml(PLAN.replace("3.6", "0.5"), "cheap")
    for _ in range(9):
        run.record(Usage(device_microseconds=1))  # 0.139 nano-dollars each
        book_run(book, run, cheap)
    assert [e.amount_nano_usd for e in book.contents().entries] == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert verify(book, [run]) == ()


@pytest.mark.parametrize("end", ["fail", "interrupt"])
def test_runs_that_did_not_make_it_are_booked_and_say_so(tmp_path: Path, location: str, end: str) -> None:
    run = started_run(tmp_path / "run")
    run.record(Usage(device_microseconds=2_000_000))
    getattr(run, end)("the power went")
    book = Book.open(location)
    book_run(book, run, plan())
    bill = statement(book)
    assert (bill.total_nano_usd, bill.lost_nano_usd) == (2_000_000, 2_000_000)
    assert (bill.rows[0].status, bill.rows[0].reason) == (run.status, "the power went")
    assert str(run.status) in book.contents().entries[0].note


def test_lost_work_within_a_run_is_moved_and_the_total_stays(tmp_path: Path, location: str) -> None:
    run = started_run(tmp_path / "run")
    for step in range(1, 5):
        run.record(Usage(device_microseconds=1_000_000, trained_tokens=10))
        run.log(step, {"loss": 1.0})
    book = Book.open(location)
    book_run(book, run, plan())
    run.interrupt()
    run.start()
    run.truncate_metrics(1)
    run.record(Usage(device_microseconds=500_000))
    run.finish()
    booking = book_run(book, run, plan())
    assert booking.amount_nano_usd == 500_000
    lost = [e for e in booking.entries if e.lost]
    assert [(e.account, e.quantity, e.amount_nano_usd) for e in lost] == [
        ("device", Decimal(3), 3_000_000),
        ("trained_tokens", Decimal(30), 0),
    ]
    bill = statement(book)
    assert (bill.total_nano_usd, bill.lost_nano_usd) == (4_500_000, 3_000_000)
    assert book_run(book, run, plan()).entries == ()
    assert verify(book, [run]) == ()


def test_lost_work_is_moved_at_the_price_that_was_paid(tmp_path: Path, location: str) -> None:
    run = started_run(tmp_path / "run")
    run.record(Usage(device_microseconds=1_000_000))
    book = Book.open(location)
    book_run(book, run, plan())
    run.interrupt()
    run.start()
    run.truncate_metrics(0)
    dearer = PricePlan.from_toml(PLAN.replace("3.6", "7.2"), "dearer")
    book_run(book, run, dearer)
    assert sum(e.amount_nano_usd for e in book.contents().entries if e.lost) == 1_000_000
    assert verify(book, [run]) == ()


def test_a_torn_last_line_is_not_booked(tmp_path: Path, location: str) -> None:
    run = started_run(tmp_path / "run")
    run.record(Usage(device_microseconds=1_000_000))
    with (run.folder / "usage.jsonl").open("a") as file:
        file.write('{"attempt": 1, "time": "2026')
    book = Book.open(location)
    assert book_run(book, run, plan()).num_lines == 1


def test_usage_that_shrank_after_booking_is_refused(tmp_path: Path, location: str) -> None:
    run = started_run(tmp_path / "run")
    run.record(Usage(device_microseconds=1_000_000))
    book = Book.open(location)
    book_run(book, run, plan())
    (run.folder / "usage.jsonl").write_text("")
    with pytest.raises(UserError, match="has 0 usage lines, but 1 of them are booked"):
        book_run(book, run, plan())


def test_a_device_without_a_price_books_nothing(tmp_path: Path, location: str) -> None:
    run = Run.create(tmp_path / "run", verb="rl", stage="zero", recipe={}, seed=1)
    run.start(device="abacus")
    run.record(Usage(device_microseconds=1_000_000))
    book = Book.open(location)
    with pytest.raises(UserError, match="what an hour of 'abacus' costs"):
        book_run(book, run, plan())
    assert book.contents().runs == ()


def test_a_plan_that_counts_a_device_by_the_token_is_refused(tmp_path: Path, location: str) -> None:
    run = started_run(tmp_path / "run")
    run.record(Usage(device_microseconds=1_000_000))
    wrong = PricePlan.from_toml(PLAN.replace('"device-hour"', '"token"'), "wrong")
    with pytest.raises(UserError, match="prices host by the token, not by the device-second"):
        book_run(Book.open(location), run, wrong)


def test_processes_that_book_one_run_at_once_book_it_once(tmp_path: Path, location: str) -> None:
    run = started_run(tmp_path / "run")
    for _ in range(300):
        run.record(Usage(device_microseconds=1_000_000, trained_tokens=1))
    run.finish()
    (tmp_path / "prices.toml").write_text(PLAN)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from openbook.ledger.book import Book\n"
        "from openbook.ledger.booking import book_run\n"
        "from openbook.ledger.prices import PricePlan\n"
        "from openbook.runs.run import Run\n"
        "root = Path(sys.argv[1])\n"
        "run, plan = Run.open(root / 'run'), PricePlan.load(root / 'prices.toml')\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(book_run(Book.open(sys.argv[2]), run, plan).num_lines)\n"
    )
    bookers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), location],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": SRC},
        )
        for _ in range(3)
    ]
    for booker in bookers:
        assert booker.stdout is not None
        booker.stdout.readline()
    for booker in bookers:
        assert booker.stdin is not None
        booker.stdin.write("go\n")
        booker.stdin.flush()
    booked = sorted(int(booker.communicate()[0]) for booker in bookers)
    assert booked == [0, 0, 300]
    book = Book.open(location)
    assert statement(book).total_nano_usd == 300_000_000
    assert verify(book, [run]) == ()


ENERGY = (
    PLAN.replace('source = "new list"', 'source = "new list"\nwatts = 17.578\nwatts_source = "the label"')
    + """
[[prices]]
resource = "energy"
unit = "kilowatt-hour"
price_usd = 0
valid_from = 2020-01-01
source = "in the hour"
"""
)


def energy_of(book: Book) -> list[tuple[Basis, Decimal, int]]:
    return [
        (entry.basis, entry.quantity, entry.amount_nano_usd)
        for entry in book.contents().entries
        if entry.account == "energy"
    ]


def test_energy_is_measured_where_a_meter_is_and_estimated_elsewhere(tmp_path: Path, location: str) -> None:
    run = started_run(tmp_path / "run")
    run.record(Usage(device_microseconds=2_000_001))
    run.record(Usage(device_microseconds=1_000_000, energy_microjoules=12_000_001))
    run.finish()
    with Book.open(location) as book:
        book_run(book, run, PricePlan.from_toml(ENERGY, "test"))
        assert energy_of(book) == [
            (Basis.ESTIMATED, Decimal("35.156017578"), 0),
            (Basis.MEASURED, Decimal("12.000001"), 0),
        ]
        assert verify(book, [run]) == ()
        assert statement(book).total_nano_usd == 3_000_001, "the hour of the device holds its power"


def test_power_that_is_paid_apart_has_a_price_of_its_own(tmp_path: Path) -> None:
    run = started_run(tmp_path / "run")
    run.record(Usage(device_microseconds=1_000_000, energy_microjoules=3_600_000_000_000))
    with Book.open(tmp_path / "ledger.db") as book:
        book_run(
            book,
            run,
            PricePlan.from_toml(
                ENERGY.replace('kilowatt-hour"\nprice_usd = 0', 'kilowatt-hour"\nprice_usd = 0.0826'), "test"
            ),
        )
        assert energy_of(book) == [(Basis.MEASURED, Decimal(3_600_000), 82_600_000)]


def test_a_plan_that_names_no_energy_books_none(tmp_path: Path) -> None:
    run = started_run(tmp_path / "run")
    run.record(Usage(device_microseconds=1_000_000))
    with Book.open(tmp_path / "ledger.db") as book:
        book_run(book, run, plan())
        assert energy_of(book) == []


@pytest.mark.parametrize(
    ("watts", "why"),
    [("-1", "not negative"), ("1.0001", "three decimals"), ("5", "need a watts_source")],
)
def test_watts_without_sense_or_source_are_refused(watts: str, why: str) -> None:
    text = ENERGY.replace("watts = 17.578", f"watts = {watts}").replace('watts_source = "the label"\n', "")
    with pytest.raises(UserError, match=why):
        PricePlan.from_toml(text, "test")


def test_energy_of_lost_work_is_lost_with_it_as_it_was_booked(tmp_path: Path) -> None:
    run = started_run(tmp_path / "run")
    for step in range(1, 5):
        run.record(Usage(device_microseconds=1_000_000))
        run.log(step, {"loss": 1.0})
    with Book.open(tmp_path / "ledger.db") as book:
        book_run(book, run, PricePlan.from_toml(ENERGY, "test"))
        run.interrupt()
        run.start()
        run.truncate_metrics(1)
        run.finish()
        book_run(book, run, PricePlan.from_toml(ENERGY.replace("17.578", "99"), "test"))
        lost = [entry for entry in book.contents().entries if entry.lost]
        assert [(entry.account, entry.quantity) for entry in lost] == [
            ("device", Decimal(3)),
            ("energy", Decimal("52.734")),
        ]
        assert verify(book, [run]) == ()


def test_the_piece_in_which_a_run_was_killed_is_booked_as_estimated_and_once(
    tmp_path: Path, location: str
) -> None:
    run = started_run(tmp_path / "run")
    run.record(Usage(device_microseconds=1_000_000))
    beat = {
        "attempt": 1,
        "usage_lines": 1,
        "time": "2026-01-02T00:00:00+00:00",
        "held_microseconds": 4_000_000,
    }
    (run.folder / "heartbeat.json").write_text(json.dumps(beat))
    journal = run.folder / "journal.jsonl"
    event = json.loads(journal.read_text())
    event["process"]["started"] = "long ago"
    journal.write_text(json.dumps(event) + "\n")
    run = Run.open(run.folder)
    with Book.open(location) as book:
        assert book_run(book, run, plan()).num_lines == 2
        assert [(e.basis, e.amount_nano_usd) for e in book.contents().entries] == [
            (Basis.MEASURED, 1_000_000),
            (Basis.ESTIMATED, 4_000_000),
        ]
        run.start()
        run.truncate_metrics(0)
        run.record(Usage(device_microseconds=2_000_000))
        run.finish()
        assert book_run(book, run, plan()).amount_nano_usd == 2_000_000
        bill = statement(book)
        assert (bill.total_nano_usd, bill.lost_nano_usd) == (7_000_000, 5_000_000)
        assert verify(book, [run]) == ()


def test_a_run_keeps_the_programme_it_was_given(tmp_path: Path, location: str) -> None:
    run = started_run(tmp_path / "run")
    run.record(Usage(device_microseconds=1_000_000))
    with Book.open(location) as book:
        book_run(book, run, plan())
        with book.changing() as change:
            known = change.run(run.manifest.id)
            assert known is not None
            change.put_run(replace(known, programme="R1"))
        run.record(Usage(device_microseconds=2_000_000))
        run.finish()
        book_run(book, run, plan())
        assert [total.amount_nano_usd for total in book.totals([By.PROGRAMME])] == [1_000_000, 2_000_000]
        assert book.runs()[0].programme == "R1"
