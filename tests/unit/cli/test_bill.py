"""The bill: everything is booked once, failures too, and the live sum agrees with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openbook.cli.spending import Spending
from openbook.ledger.prices import PricePlan
from openbook.runs.manifest import Ancestor
from openbook.runs.run import Run
from openbook.runs.usage import Usage

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
    assert "Runs that did not make it: 1 (1 failed), $1.50." in answer.out.splitlines()
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
    assert [line.split()[1:3] for line in by_run.splitlines()[2:4]] == [
        ["pretrain", "done"],
        ["zero", "failed"],
    ]
    by_status = openbook("bill", "--root", runs, "--prices", prices, "--by", "status").out
    assert [line.split()[0] for line in by_status.splitlines()[2:4]] == ["done", "failed"]


def test_the_three_totals_stand_below_the_statement(openbook: Command, runs: Path) -> None:
    answer = openbook("bill", "--root", runs, "--prices", plan_file(runs))
    totals = [line for line in answer.out.splitlines() if line.startswith(("headline", "1 ", "2 ", "3 "))]
    assert totals[0].split()[-1] == "$1.50", "what was kept"
    assert totals[1].split()[-3:] == ["$3.00", "50.0", "%"]
    assert "none is entered" in totals[2]
    value = json.loads(openbook("bill", "--root", runs, "--prices", plan_file(runs), "--json").out)
    assert value["totals"]["headline"]["amount_nano_usd"] == 1_500_000_000
    assert value["totals"]["this_run"]["left_out_by_headline"] == 0.5
    assert value["totals"]["owned_hardware"] is None
    assert value["lines"][0]["name"] == "pretrain"


def test_a_statement_is_cut_by_account_month_and_period(openbook: Command, runs: Path) -> None:
    words = ("bill", "--root", runs, "--prices", plan_file(runs))
    enter = ("ledger", "add", "--root", runs, "--account", "staff", "--quantity", "2", "--unit", "hours")
    priced = ("--price", "95", "--source", "contract", "--date")
    assert openbook(*enter, *priced, "2026-01-31").code == 0
    by_account = openbook(*words, "--by", "account").out
    assert ["staff", "2", "hours", "$190.00", "$0.0000"] in [line.split() for line in by_account.splitlines()]
    january = json.loads(
        openbook(*words, "--by", "month", "--since", "2026-01", "--until", "2026-01", "--json").out
    )
    assert [(line["name"], line["amount_usd"]) for line in january["lines"]] == [("2026-01", "190")]
    assert openbook(*words, "--by", "stage").out.splitlines()[4].startswith("(no run)")
    assert (
        openbook(*words, "--since", "soon").err == "openbook: --since 'soon' is no day; such as 2026-11-30\n"
    )


def test_what_a_result_cost_from_nothing(openbook: Command, tmp_path: Path) -> None:
    base = Ancestor(role="base", name="pretrain", digest="sha256:0", run_id="base")
    for name, stage, parents, end in (
        ("base", "pretrain", (), "done"),
        ("bad", "zero", (base,), "failed"),
        ("good", "zero", (base,), "done"),
        ("side", "distill", (base,), "done"),
    ):
        folder = tmp_path / name
        run = Run.create(folder, verb="rl", stage=stage, recipe={}, seed=1, parents=parents, run_id=name)
        run.start()
        run.record(Usage(device_microseconds=3_600_000_000))
        run.fail("nan") if end == "failed" else run.finish()
    (tmp_path / "good" / "checkpoint").mkdir()
    words = ("bill", "--root", tmp_path, "--prices", plan_file(tmp_path), "--of")
    for asked in (tmp_path / "good", tmp_path / "good" / "checkpoint", "good"):
        value = json.loads(openbook(*words, asked, "--json").out)
        assert value["lineage"]["total_usd"] == "4.5"
        assert [row["run_id"] for row in value["lineage"]["in_vain"]["rows"]] == ["bad"]
        assert value["totals"]["headline"]["amount_usd"] == "3"
    text = openbook(*words, "good").out
    assert "Other runs in these books, which led elsewhere: 1, $1.50." in text
    refused = openbook(*words, "goof")
    assert refused.code == 2 and "did you mean 'good'?" in refused.err
    assert "give it without runs" in openbook(*words, "good", "--since", "2026-01-01").err


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
