"""The bill: everything is booked once, failures too, and the live sum agrees with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openbook.cli.spending import Spending
from openbook.ledger.prices import PricePlan

Command = Callable[..., Any]

PLAN = """
[devices]
cpu = "hour"

[[prices]]
resource = "hour"
unit = "device-hour"
price_usd = 1.50
valid_from = 2020-01-01
source = "a test"

[[prices]]
resource = "tokens"
unit = "token"
price_usd = 0
valid_from = 2020-01-01
source = "a test"
"""


def plan_file(folder: Path) -> Path:
    path = folder / "prices.toml"
    path.write_text(PLAN)
    return path


def test_the_bill_is_the_sum_of_all_runs_and_says_what_failed(openbook: Command, runs: Path) -> None:
    answer = openbook("bill", "--root", runs, "--prices", plan_file(runs), "--verify")
    assert answer.code == 0, answer.err
    lines = [line.split() for line in answer.out.splitlines()]
    assert ["pretrain", "1", "1", "h", "00", "min", "$1.50", "$0.0000"] in lines
    assert ["total", "2", "h", "00", "min", "$3.00", "$1.50"] in lines
    assert answer.out.splitlines()[-1] == "Runs that did not make it: 1 (1 failed), $1.50."
    assert "adds up" in answer.err


def test_a_second_bill_books_nothing_and_says_the_same(openbook: Command, runs: Path) -> None:
    words = ("bill", "--root", runs, "--prices", plan_file(runs), "--json")
    first, second = openbook(*words), openbook(*words)
    assert json.loads(first.out) == json.loads(second.out)
    assert json.loads(first.out)["total_nano_usd"] == 3_000_000_000
    assert "booked 2 of 2 runs" in first.err and second.err == ""


def test_a_bill_can_be_of_one_run_or_run_by_run(openbook: Command, runs: Path) -> None:
    prices = plan_file(runs)
    one = json.loads(openbook("bill", runs / "zero", "--root", runs, "--prices", prices, "--json").out)
    assert [row["stage"] for row in one["rows"]] == ["zero"]
    by_run = openbook("bill", "--root", runs, "--prices", prices, "--by", "run").out
    assert len(by_run.splitlines()) == 2 + 2 + 1 + 2
    by_status = openbook("bill", "--root", runs, "--prices", prices, "--by", "status").out
    assert [line.split()[0] for line in by_status.splitlines()[2:4]] == ["done", "failed"]


def test_the_live_sum_is_that_of_the_bill_and_is_not_made_at_every_step(runs: Path) -> None:
    now = [0.0]
    spending = Spending(runs, PricePlan.load(plan_file(runs)), lambda: now[0])
    assert spending() == "$3.00"
    (runs / "zero" / "usage.jsonl").write_text("")
    assert spending() == "$3.00"
    now[0] += 10
    assert spending() == "$1.50"


def test_a_device_without_a_price_does_not_stop_the_work(runs: Path) -> None:
    plan = PricePlan.from_toml(PLAN.replace('cpu = "hour"', 'H100 = "hour"'), "a test")
    assert Spending(runs, plan)() == "$0.0000"


def test_a_report_is_written_beside_the_story(openbook: Command, runs: Path) -> None:
    answer = openbook("report", runs)
    assert answer.code == 0, answer.err
    assert Path(answer.out.strip()).read_text().lstrip().lower().startswith("<!doctype html>")
