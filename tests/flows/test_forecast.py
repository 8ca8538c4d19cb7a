"""A forecast is written when work begins, and held against what it took when it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from openbook.economics.local.forecast_file import FORECAST_FILE, read_forecast
from openbook.runs.machine_profile import MachineProfile, ProductRate, ReadRate, ShapeClass, save_profile

Inside = Callable[..., Any]


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a profile, and a folder to work in that holds no runs."""
    monkeypatch.setenv("OPENBOOK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    products = tuple(
        ProductRate(
            dtype="fp32",
            shape_class=shape,
            num_threads=1,
            num_rows=64,
            width_in=64,
            width_out=64,
            flops_per_second=1e11,
        )
        for shape in ShapeClass
    )
    save_profile(
        MachineProfile(
            measured_on=date(2026, 11, 24),
            processor="a processor",
            num_cpus=1,
            memory_bytes=None,
            torch="2",
            products=products,
            reads=(ReadRate(num_threads=1, bytes_per_second=1.6e10),),
            dispatch_microseconds=2.0,
            gradient_microseconds=5.0,
            load="",
            is_disturbed=False,
        )
    )
    return work


def test_a_stage_is_forecast_run_and_compared(measured: Path, inside: Inside) -> None:
    planned = inside("plan", "pretrain/tiny", "--accelerator", "this", "--json")
    assert planned.code == 0, planned.err
    expected = json.loads(planned.out)["forecast"]
    assert expected["basis"]["runs"] == [] and expected["cpu_seconds"]["low"] > 0

    done = inside("pretrain", "tiny", "--out", "out/first")
    assert done.code == 0, done.err
    written = read_forecast(measured / "out/first")
    assert written is not None and written.cpu_seconds.value == pytest.approx(
        expected["cpu_seconds"]["value"]
    )
    assert "forecast: " in done.err and "Forecast $" in done.err

    bill = inside("bill", "--json")
    (compared,) = json.loads(bill.out)["forecasts"].values()
    variance = compared["variance_usd"]
    parts = sum(variance[name] for name in ("price", "tokens", "efficiency", "lost_time"))
    assert variance["forecast"] + parts == pytest.approx(variance["actual"])
    assert variance["price"] == 0 and variance["lost_time"] == 0
    (stage,) = compared["stages"]
    assert stage["tokens"]["trained"] > 0 and stage["cpu_seconds"] > 0


def test_a_second_run_is_forecast_from_the_first_and_nearer(measured: Path, inside: Inside) -> None:
    for name in ("first", "second"):
        done = inside("pretrain", "tiny", "--out", f"out/{name}")
        assert done.code == 0, done.err
    compared = json.loads(inside("bill", "--json").out)["forecasts"]
    first, second = (
        next(one for folder, one in compared.items() if folder.endswith(name)) for name in ("first", "second")
    )
    taught = json.loads((measured / "out/second" / FORECAST_FILE).read_text())["basis"]
    assert len(taught["runs"]) == 1
    stage = second["stages"][0]
    assert stage["forecast_tokens"]["trained"] == stage["tokens"]["trained"], "the same seed reads the same"
    assert first["stages"][0]["forecast_tokens"]["trained"] != stage["tokens"]["trained"]


def test_without_a_profile_and_runs_work_is_done_without_a_forecast(
    measured: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBOOK_HOME", str(measured / "elsewhere"))
    refused = inside("plan", "pretrain/tiny", "--accelerator", "this")
    assert refused.code != 0 and "openbook doctor --measure" in refused.err
    done = inside("pretrain", "tiny", "--out", "out/first")
    assert done.code == 0, done.err
    assert "no forecast: this machine has not been measured" in done.err
    assert not (measured / "out/first" / FORECAST_FILE).exists()


def test_a_dry_run_forecasts_a_stage_from_a_checkpoint(measured: Path, inside: Inside) -> None:
    assert inside("pretrain", "tiny", "--out", "out/base").code == 0
    asked = inside("rl", "tiny", "--from", "out/base", "--dry-run")
    assert asked.code == 0, asked.err
    expected = json.loads(asked.out)["forecast"]
    assert [stage["name"] for stage in expected["stages"]] == ["rl"]
    refused = inside("plan", "rl/tiny")
    assert refused.code != 0 and "--from CHECKPOINT --dry-run" in refused.err
