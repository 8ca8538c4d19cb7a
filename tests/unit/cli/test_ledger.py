"""`openbook ledger`: what is entered by hand and from files, and what is taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbook.runs.run import Run
from openbook.runs.usage import Usage

Command = Callable[..., Any]


def test_the_table_of_v3_entered_by_hand_gives_its_headline_and_what_it_leaves_out(
    openbook: Command, tmp_path: Path
) -> None:
    """Facts 4.1, 4.5 and B33: 5.576 million of V3, 5.870 with R1, on servers of 51 million."""
    at = ("--root", tmp_path)
    device = ("ledger", "add", "--account", "device", "--unit", "device-hours", "--price", "2", *at)
    for run, stage, hours, parents in (
        ("v3-pretrain", "pretrain", "2,664,000", ()),
        ("v3-long", "context_extension", "119000", ("--parent", "v3-pretrain")),
        ("v3", "post_training", "5000", ("--parent", "v3-long")),
        ("r1", "reasoning_rl", "147336", ("--parent", "v3")),
    ):
        more = ("--source", "V3 report, Table 1", "--date", "2024-12-27", "--run", run, "--stage", stage)
        answer = openbook(*device, "--quantity", hours, *more, *parents)
        assert answer.code == 0, answer.err
    v3 = json.loads(openbook("bill", *at, "--of", "v3", "--json").out)
    assert v3["totals"]["headline"]["amount_usd"] == "5576000"
    bought = (
        "ledger",
        "hardware",
        "add",
        "h800",
        "--count",
        "2048",
        "--price",
        "24902.34375",
        "--life",
        "5y",
    )
    owned = openbook(*bought, "--date", "2024-01-01", "--device", "H800", "--source", "article 2, B33", *at)
    assert owned.code == 0, owned.err
    r1 = json.loads(openbook("bill", *at, "--of", "r1", "--json").out)["totals"]
    assert r1["headline"]["amount_usd"] == "5870672"
    assert r1["owned_hardware"]["amount_usd"] == "51000000"
    assert r1["owned_hardware"]["left_out_by_headline"] == pytest.approx(1 - 5_870_672 / 51e6)
    assert r1["whole_programme"]["amount_nano_usd"] > r1["headline"]["amount_nano_usd"]
    verified = openbook("ledger", "verify", *at)
    assert verified.code == 0 and "adds up" in verified.err


def test_a_mistake_is_taken_back_and_both_stay_in_the_list(openbook: Command, tmp_path: Path) -> None:
    at = ("--root", tmp_path)
    entered = openbook(
        "ledger", "add", "--account", "storage", "--quantity", "100", "--unit", "gigabyte-months",
        "--price", "$0.02", "--source", "list", "--date", "2026-11-01", "--until", "2026-11-30", *at,
    )  # fmt: skip
    assert entered.out == "entry 1: $2.00\n"
    assert (
        openbook("ledger", "reverse", "1", "--note", "paid by another", *at).out
        == "entry 2 takes back entry 1\n"
    )
    listed = json.loads(openbook("ledger", "list", "--json", *at).out)
    assert [(one["number"], one["amount_usd"]) for one in listed] == [(1, "2"), (2, "-2")]
    assert "takes back 1: paid by another" in openbook("ledger", "list", *at).out
    assert "was taken back by entry 2" in openbook("ledger", "reverse", "1", "--note", "x", *at).err
    assert "there is no entry 7" in openbook("ledger", "reverse", "7", "--note", "x", *at).err
    assert "needs its reason" in openbook("ledger", "reverse", "1", "--note", " ", *at).err


def test_the_list_is_cut_by_account_origin_and_day(openbook: Command, tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    rows = [f"2026-{month:02d}-15,staff,1,hour,95,contract" for month in range(1, 13)]
    path.write_text(
        "date,account,quantity,unit,price,source\n" + "\n".join([*rows, "2026-05-01,data,1,item,7,x"])
    )
    at = ("--root", tmp_path)
    assert openbook("ledger", "import", path, *at).out == "13 entries, $1,147.00; 0 were there already\n"
    again = json.loads(openbook("ledger", "import", path, "--json", *at).out)
    assert again == {"num_new": 0, "num_known": 13, "amount_usd": "0"}

    def numbers(*words: str) -> list[int]:
        return [one["number"] for one in json.loads(openbook("ledger", "list", "--json", *words, *at).out)]

    assert numbers("--account", "data") == [13]
    assert numbers("--since", "2026-11") == [11, 12]
    assert numbers("--until", "2026-02") == [1, 2]
    assert numbers("--limit", "2") == [12, 13]
    assert numbers("--origin", "hand") == []
    few = openbook("ledger", "list", "--limit", "2", *at)
    assert few.err == "11 earlier ones; --limit shows more\n"
    assert "did you mean 'hand'?" in openbook("ledger", "list", "--origin", "hands", *at).err


def test_an_export_can_be_imported_into_other_books(openbook: Command, runs: Path, tmp_path: Path) -> None:
    assert openbook("bill", "--root", runs).code == 0
    file, other = tmp_path / "focus.csv", tmp_path / "other.sqlite"
    assert openbook("ledger", "export", "--focus", file, "--root", runs).out == f"{file}\n"
    assert openbook("ledger", "import", file, "--book", other).code == 0
    words = ("bill", "--root", tmp_path / "empty", "--book", other, "--json")
    ours, theirs = (
        json.loads(openbook("bill", "--root", runs, "--json").out),
        json.loads(openbook(*words).out),
    )
    assert theirs["rows"] == ours["rows"] and theirs["lines"] == ours["lines"]
    assert "0 entries, $0.0000; " in openbook("ledger", "import", file, "--root", runs).out


def test_hardware_becomes_days_used_and_idle(openbook: Command, runs: Path) -> None:
    bought = ("ledger", "hardware", "add", "host", "--price", "12000", "--life", "5y", "--source", "a shop")
    answer = openbook(*bought, "--date", "2020-01-01", "--root", runs)
    assert answer.out.splitlines()[-1].split()[-4:] == ["$12,000.00", "$12,000.00", "$12,000.00", "$0.0000"]
    by_account = openbook("bill", "--root", runs, "--by", "account")
    assert "idle devices" in by_account.out and "hardware bought" not in by_account.out
    (one,) = json.loads(openbook("ledger", "hardware", "list", "--json", "--root", runs).out)
    assert (one["cost_usd"], one["value_usd"], one["method"]) == ("12000", "0", "straight-line")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--price", "-1"), "a price of '-1'; a price is not negative"),
        (("--price", "9 EUR"), "'9 EUR' is in 'EUR', and the ledger counts USD only"),
        (("--unit", "token"), "staff is not counted in 'token'; use hour or usd"),
        (("--account", "stuff"), "there is no account 'stuff'; did you mean 'staff'?"),
        (("--quantity", "many"), "--quantity 'many' is no number"),
        (("--date", "tomorrow"), "--date 'tomorrow' is no day"),
        (("--source", ""), "has a price without a source"),
        (("--until", "2025-01-01"), "before it begins"),
        (("--run", "r1"), "run 'r1' is not in ledger"),
        (("--stage", "zero"), "--stage and --parent are about a run"),
        (
            ("--run", "r1", "--stage", "zero", "--parent", "r0"),
            "run 'r0', a parent of 'r1', is not in the ledger",
        ),
    ],
)
def test_what_cannot_be_entered_is_one_line(
    openbook: Command, tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    given = {
        "--account": "staff",
        "--quantity": "1",
        "--unit": "hour",
        "--price": "95",
        "--source": "contract",
        "--date": "2026-01-31",
    } | dict(zip(words[::2], words[1::2], strict=True))
    answer = openbook("ledger", "add", "--root", tmp_path, *(word for pair in given.items() for word in pair))
    assert answer.code == 2 and line in answer.err and answer.err.count("\n") == 1
    assert json.loads(openbook("ledger", "list", "--json", "--root", tmp_path).out) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--life", "soon"), "--life 'soon' is no time; such as 5y"),
        (("--method", "decline"), "there is no method 'decline'; did you mean 'declining'?"),
        (("--method", "declining"), "never reaches"),
        (("--salvage", "99999"), "is worth more at the end than it cost"),
        (("--device", "abacus"), "does not say what an hour of 'abacus' costs"),
    ],
)
def test_hardware_that_cannot_be_is_one_line(
    openbook: Command, tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    given = ("host", "--price", "12000", "--date", "2026-01-01", "--source", "a shop")
    life = () if "--life" in words else ("--life", "5y")
    answer = openbook("ledger", "hardware", "add", *given, *life, *words, "--root", tmp_path)
    assert answer.code == 2 and line in answer.err and answer.err.count("\n") == 1


def test_a_teachers_tokens_are_priced_from_a_list(openbook: Command, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "taught", verb="distill", stage="distill", recipe={}, seed=1, run_id="taught")
    run.start()
    run.record(Usage(completion_tokens=1_000_000, device_microseconds=1))
    run.record(Usage(trained_tokens=10))
    run.finish()
    at = ("--root", tmp_path)
    assert openbook("bill", *at).code == 0
    listed = ("--price", "2.19", "--source", "R1 at launch", "--date", "2025-01-20")
    answer = openbook("ledger", "teacher", "taught", *listed, *at)
    assert answer.code == 0 and answer.out.startswith("entries ")
    by_account = openbook("bill", "--by", "account", *at).out
    assert ["tokens", "of", "a", "teacher", "1.0M", "tokens", "$2.19", "$0.0000"] in map(
        str.split, by_account.splitlines()
    )
    assert "in the books already" in openbook("ledger", "teacher", "taught", *listed, *at).err
