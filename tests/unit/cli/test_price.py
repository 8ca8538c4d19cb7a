from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbook.cli.price import read_moment
from openbook.errors import UserError
from openbook.runs.run import Run
from openbook.runs.usage import Usage

Command = Callable[..., Any]
V3 = Path(__file__).parents[2] / "fixtures" / "configs" / "deepseek-v3.json"


def test_without_a_model_it_shows_lists_and_v3_on_h800(openbook: Command) -> None:
    answer = openbook("price")
    assert answer.code == 0
    assert "deepseek/deepseek-v4-flash" in answer.out
    assert "deepseek-v3 on NVIDIA H800" in answer.out
    assert "stale: rent_usd_per_hour is of 2024-12-27" in answer.out


def test_json_has_every_default_with_source_date_and_mark(openbook: Command) -> None:
    words = [
        "--accelerator",
        "h800",
        "--context",
        "4989",
        "--hit",
        "0.5625",
        "--speed",
        "21",
        "--utilisation",
        "1",
    ]
    found = json.loads(openbook("price", V3, *words, "--json").out)
    assert found["decode"]["tokens_per_second_per_user"] >= 21
    prices = found["usd_per_million"]
    assert 0 < prices["input_cached"] < prices["input_missed"] < prices["output"]
    assert prices["output"] == pytest.approx(2e6 / 3600 / found["decode"]["tokens_per_second_per_device"])
    for name in ("rent_usd_per_hour", "efficiency_gemm", "peak_flops", "efficiency_expert_balance"):
        assert {"value", "unit", "source", "date", "mark", "note", "stale"} == set(found["assumptions"][name])
    assert found["assumptions"]["rent_usd_per_hour"]["stale"]
    assert "utilisation" not in found["assumptions"]
    assert found["margin"] is None and found["capacity"] is None


def test_lists_at_a_moment_and_of_a_vendor(openbook: Command) -> None:
    night = json.loads(openbook("price", "--lists", "--at", "2025-03-01T17:00Z", "--json").out)
    by_model = {offer["model"]: offer["usd_per_million"]["output"] for offer in night["offers"]}
    assert by_model["deepseek-r1"] == "0.55"
    day = json.loads(openbook("price", "--lists", "--at", "2025-03-01T16:00+08:00", "--json").out)
    assert {o["model"]: o["usd_per_million"]["output"] for o in day["offers"]}["deepseek-r1"] == "2.19"
    assert len(json.loads(openbook("price", "--vendor", "deepseek", "--json").out)["offers"]) == 7
    assert "anthropic bills writing" in openbook("price", "--lists").out


def test_a_margin_says_of_what_it_is_one(openbook: Command) -> None:
    words = [
        "--sold-as",
        "deepseek/deepseek-r1",
        "--at",
        "2025-02-28T12:00Z",
        "--cut",
        "0.5",
        "--utilisation",
        "1",
    ]
    text = openbook("price", "deepseek-r1", *words).out
    assert "gross margin, of revenue" in text and "markup, on cost" in text
    margin = json.loads(openbook("price", "deepseek-r1", *words, "--json").out)["margin"]
    assert margin["revenue_usd_per_million"] == pytest.approx(562_100 / 776_000)
    cost = margin["cost_usd_per_million"] / margin["revenue_usd_per_million"]
    assert margin["gross_margin_of_revenue"] == pytest.approx(1 - cost)
    assert margin["markup_on_cost"] == pytest.approx(1 / cost - 1)
    assert margin["break_even_utilisation"] == pytest.approx(cost)
    assert margin["after_cut"]["gross_margin_of_revenue"] == pytest.approx(1 - 2 * cost)


def test_devices_for_users(openbook: Command) -> None:
    found = json.loads(openbook("price", "deepseek-v3", "--users", "1e7:20000:5000", "--json").out)[
        "capacity"
    ]
    assert found["num_devices"] == found["num_prefill_devices"] + found["num_decode_devices"] > 0
    assert "in whole units" in openbook("price", "deepseek-v3", "--users", "1e7:20000:5000").out


def test_a_plot_is_a_picture_file(openbook: Command, tmp_path: Path) -> None:
    file = tmp_path / "cost.svg"
    assert str(file) in openbook("price", "deepseek-v3", "--plot", file).out
    text = file.read_text(encoding="utf-8")
    assert text.startswith("<svg") and "by batch" in text and "by load" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hit", "56"], "hit share is 56"),
        (["--hit", "nan"], "hit share is nan"),
        (["--utilisation", "0"], "utilisation of 0"),
        (["--context", "3000000"], "beyond the model's 163,840"),
        (
            ["--context", "150000", "--layout", "prefill=32,decode=16,redundant=32"],
            "not one sequence of 150,000",
        ),
        (["--speed", "500"], "out of reach"),
        (["--rent", "-1"], "not negative"),
        (["nonsense"], "'nonsense' is no model"),
        (["--accelerator", "h900"], "did you mean 'h800'?"),
        (["--accelerator", "a100-80", "--precision", "fp8"], "cannot compute in fp8"),
        (["--precision", "fp9"], "no precision 'fp9'"),
        (["--layout", "decode=100"], "nearest that fits has"),
        (["--layout", "decoder=8"], "did you mean 'decode'?"),
        (["--layout", "decode=x"], "not a number"),
        (["--at", "yesterday"], "is no time"),
        (["--sold-as", "deepseek"], "names no model"),
        (
            ["--sold-as", "deepseek/deepseek-r1", "--at", "2026-11-01"],
            "no price of deepseek deepseek-r1 holds",
        ),
        (["--cut", "0.5"], "--sold-as"),
        (["--users", "5"], "is not 3 numbers"),
        (["--drafts", "1:1.5"], "acceptance"),
        (["--plot", "cost.png"], "ends in .svg"),
        (["--vendor", "depseek"], "did you mean 'deepseek'?"),
        (["--price-list", "missing.toml"], "cannot be read"),
    ],
)
def test_what_cannot_be_is_one_clear_line(openbook: Command, words: list[str], message: str) -> None:
    answer = openbook("price", *words)
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert message in answer.err


def test_a_price_list_of_the_users_own_replaces_ours(openbook: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[[offers]]\nvendor = "me"\nmodel = "mine"\nvalid_from = 2025-01-01\ninput_missed = 1.0\n'
        'output = 2.0\nchecked = 2025-01-01\nsource = "myself"\nmark = "ours"\n',
        encoding="utf-8",
    )
    text = openbook("price", "--lists", "--price-list", file).out
    assert "me/mine" in text and "deepseek" not in text and "stale" in text


def test_a_run_is_priced_by_its_usage(openbook: Command, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "sampled", verb="run", stage="traces", recipe={"stage": "traces"}, seed=7)
    run.start(device="cpu")
    for prompt, cached, completion in ((1000, 0, 10), (10, 500, 900), (500, 20, 500), (100, 3000, 100)):
        micro = 100 * prompt + cached + 2000 * completion
        run.record(
            Usage(
                prompt_tokens=prompt,
                cached_tokens=cached,
                completion_tokens=completion,
                device_microseconds=micro,
            )
        )
    run.record(Usage(trained_tokens=10_000, completion_tokens=5, device_microseconds=10**9))
    found = json.loads(openbook("price", tmp_path / "sampled", "--json").out)
    times = found["device_seconds_per_token"]
    assert times["prompt"] == pytest.approx(1e-4, rel=1e-4)
    assert times["cached"] == pytest.approx(1e-6, rel=1e-2)
    assert times["completion"] == pytest.approx(2e-3, rel=1e-4)
    assert found["num_works"] == 4
    assert found["offer"]["vendor"] == "openbook"
    assert "output" in openbook("price", tmp_path).out


def test_a_run_that_only_trained_says_how_to_measure(openbook: Command, runs: Path) -> None:
    answer = openbook("price", runs / "zero")
    assert answer.code == 2
    assert "--measured" in answer.err


def test_a_moment_without_a_zone_is_utc() -> None:
    assert read_moment("2025-03-01T17:00") == read_moment("2025-03-02T01:00+08:00")
    with pytest.raises(UserError):
        read_moment("17:00")


def test_a_checkpoint_is_measured_through_the_engine(openbook: Command, checkpoint: Path) -> None:
    found = json.loads(openbook("price", checkpoint, "--measured", "--json").out)
    times = found["device_seconds_per_token"]
    assert 0 <= times["cached"] < times["prompt"] + times["completion"]
    assert times["completion"] > 0
    assert found["num_works"] == 9
    assert found["offer"]["source"].startswith("measured on")
    priced = float(found["offer"]["usd_per_million"]["output"])
    hourly = float(found["usd_per_device_hour"])
    assert priced == pytest.approx(1e6 * times["completion"] * hourly / 3600, abs=1e-6)
