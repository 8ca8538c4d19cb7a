from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from openbook.errors import UserError
from openbook.ledger.audit import verify
from openbook.ledger.book import Book
from openbook.ledger.booking import book_run
from openbook.ledger.lineage import lineage
from openbook.ledger.prices import PricePlan
from openbook.ledger.statement import statement, statement_to_json
from openbook.runs.manifest import Ancestor
from openbook.runs.run import Run
from openbook.runs.usage import Usage

PLAN = PricePlan.from_toml(
    """
    devices = { cpu = "host" }
    [[prices]]
    resource = "host"
    unit = "device-hour"
    price_usd = 3.6
    valid_from = 2020-01-01
    source = "ours"
    [[prices]]
    resource = "tokens"
    unit = "token"
    price_usd = 0
    valid_from = 2020-01-01
    source = "ours"
    """,
    "test",
)


def booked(book: Book, folder: Path, stage: str, seconds: int, parents: tuple[str, ...], end: str) -> None:
    """A run named by its folder that took so many device-seconds (one milli-dollar each)."""
    ancestors = [Ancestor(role="base", name=name, digest="sha256:0", run_id=name) for name in parents]
    run = Run.create(folder, verb="rl", stage=stage, recipe={}, seed=1, parents=ancestors, run_id=folder.name)
    run.start()
    run.record(Usage(device_microseconds=seconds * 1_000_000, trained_tokens=seconds))
    if end == "fail":
        run.fail("nan")
    else:
        run.finish()
    book_run(book, run, PLAN)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """base (1 s) -> zero (2 s) -> student (4 s); a failed zero (8 s) and a side branch (16 s)."""
    book = Book.open(tmp_path / "ledger.db")
    booked(book, tmp_path / "base", "pretrain", 1, (), "finish")
    booked(book, tmp_path / "bad-zero", "zero", 8, ("base",), "fail")
    booked(book, tmp_path / "zero", "zero", 2, ("base",), "finish")
    booked(book, tmp_path / "side", "distill", 16, ("zero",), "finish")
    booked(book, tmp_path / "student", "distill", 4, ("zero", "base", "bought-elsewhere"), "finish")
    return book


def test_a_statement_equals_the_sum_of_its_entries(book: Book) -> None:
    bill = statement(book)
    assert bill.total_nano_usd == 31_000_000
    assert bill.total_nano_usd == sum(e.amount_nano_usd for e in book.contents().entries)
    assert bill.lost_nano_usd == 8_000_000
    assert [row.run_id for row in bill.rows] == ["base", "bad-zero", "zero", "side", "student"]
    assert bill.rows[1].device_seconds == Decimal(8)
    assert bill.rows[1].num_tokens == {"trained_tokens": 8}


def test_totals_by_stage_and_by_status(book: Book) -> None:
    bill = statement(book)
    assert {name: total.amount_nano_usd for name, total in bill.by_stage().items()} == {
        "pretrain": 1_000_000,
        "zero": 10_000_000,
        "distill": 20_000_000,
    }
    failed = bill.by_status()["failed"]
    assert (failed.num_runs, failed.amount_nano_usd, failed.lost_nano_usd) == (1, 8_000_000, 8_000_000)
    assert bill.by_status()["done"].lost_nano_usd == 0


def test_a_statement_over_some_runs_and_over_one_that_is_not_booked(book: Book) -> None:
    assert statement(book, ["zero", "side"]).total_nano_usd == 18_000_000
    assert statement(book, []).total_nano_usd == 0
    with pytest.raises(UserError, match=r"'studend' is not in ledger .*; did you mean 'student'\?"):
        statement(book, ["zero", "studend"])


def test_what_made_a_result_stands_beside_what_did_not(book: Book) -> None:
    line = lineage(book, "student")
    assert [row.run_id for row in line.made_it.rows] == ["base", "zero", "student"]
    assert line.made_it.total_nano_usd == 7_000_000
    assert [row.run_id for row in line.in_vain.rows] == ["bad-zero"]
    assert line.total_nano_usd == 15_000_000, "what failed on the way is part of what it took"
    assert [row.run_id for row in line.did_not.rows] == ["side"]
    assert line.did_not.total_nano_usd == 16_000_000
    assert line.missing == ("bought-elsewhere",)
    with pytest.raises(UserError, match="is not in ledger"):
        lineage(book, "teacher")


def test_a_statement_for_machines_is_exact_and_never_in_exponents(book: Book) -> None:
    value = json.loads(json.dumps(statement_to_json(statement(book))))
    assert (value["total_nano_usd"], value["total_usd"], value["lost_usd"]) == (31_000_000, "0.031", "0.008")
    assert value["by_stage"]["zero"]["num_runs"] == 2
    assert value["rows"][1]["status"] == "failed"
    assert value["rows"][1]["reason"] == "nan"
    assert value["rows"][4]["parents"] == ["zero", "base", "bought-elsewhere"]
    assert "E" not in value["rows"][0]["amount_usd"]


def test_the_audit_finds_a_changed_amount_and_a_changed_usage(book: Book, tmp_path: Path) -> None:
    import sqlite3

    runs = [Run.open(tmp_path / name) for name in ("base", "zero")]
    assert verify(book, runs) == ()
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.execute("DROP TRIGGER entries_refuse_update")
    connection.execute("UPDATE entries SET amount_nano_usd = amount_nano_usd + 1 WHERE run_id = 'base'")
    connection.execute(
        "UPDATE entries SET quantity = '3' WHERE run_id = 'zero' AND account = 'trained_tokens'"
    )
    connection.commit()
    connection.close()
    problems = verify(book, runs)
    assert any("run base, account device, come to 1000001" in problem for problem in problems)
    assert "run zero recorded 2 of trained_tokens, but 3 are booked" in problems
