"""The commands that look: runs, recipes, tasks, checkpoints, plans, the doctor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbook.cli.render import print_table

Command = Callable[..., Any]
V3 = Path(__file__).resolve().parents[2] / "fixtures" / "configs" / "deepseek-v3.json"


def test_a_table_is_aligned_and_numbers_stand_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "n"], [["a", 1], ["long", 100]], right=["n"])
    assert capsys.readouterr().out.splitlines() == [
        "name    n",
        "----  ---",
        "a       1",
        "long  100",
    ]


def test_runs_are_listed_with_those_that_failed(openbook: Command, runs: Path) -> None:
    answer = openbook("runs", "list", "--root", runs)
    assert [line.split()[1:3] for line in answer.out.splitlines()[2:]] == [
        ["pretrain", "done"],
        ["zero", "failed"],
    ]
    listed = json.loads(openbook("runs", "list", "--root", runs, "--json").out)
    assert [one["usage"]["trained_tokens"] for one in listed] == [1000, 1000]


def test_a_run_is_shown_with_the_reason_of_its_end(openbook: Command, runs: Path) -> None:
    answer = openbook("runs", "show", runs / "zero")
    assert "the loss became nan" in answer.out and "2.5" in answer.out
    shown = json.loads(openbook("runs", "show", runs / "zero", "--json").out)
    assert shown["recipe"] == {"stage": "zero"} and shown["seed"] == 7
    assert shown["last_metrics"]["loss"] == 2.5


def test_no_runs_are_no_error(openbook: Command, tmp_path: Path) -> None:
    answer = openbook("runs", "list", "--root", tmp_path)
    assert (answer.code, answer.out) == (0, "") and "no runs below" in answer.err


def test_the_plan_of_v3_gives_the_published_sizes(openbook: Command) -> None:
    planned = json.loads(openbook("plan", V3, "--json").out)
    assert planned["parameters_total"] == 671_026_419_200
    assert planned["parameters_active"] == 37_552_297_472
    assert planned["kv_bytes_per_token"] == 70_272
    assert planned["flops_per_token"] == pytest.approx(250.45e9, rel=1e-4)
    assert planned["sequence_length"] == 4096
    text = openbook("plan", V3).out
    assert "671.0B" in text and "37.6B" in text


def test_a_plan_takes_overrides_and_another_length(openbook: Command) -> None:
    short = json.loads(openbook("plan", V3, "--json", "--sequence-length", "1").out)
    half = json.loads(openbook("plan", V3, "--json", "--set", "num_hidden_layers=30").out)
    whole = json.loads(openbook("plan", V3, "--json").out)
    assert short["flops_per_token"] < whole["flops_per_token"]
    assert half["parameters_total"] < whole["parameters_total"]


def test_a_plan_of_nothing_is_refused(openbook: Command, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    assert "is not JSON" in openbook("plan", tmp_path).err
    assert "there is no file" in openbook("plan", tmp_path / "gone.json").err


def test_recipes_that_are_unsound_are_found_and_named(openbook: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('verb = "rl"\nnonsense = 1\n')
    answer = openbook("recipe", "check", tmp_path / "bad.toml", "--json")
    assert answer.code == 2
    assert "nonsense: unknown key" in json.loads(answer.out)[0]["error"]


def test_problems_are_shown_with_their_answers_and_verified(openbook: Command) -> None:
    shown = json.loads(openbook("tasks", "show", "chain", "-n", "2", "--seed", "3", "--json").out)
    assert [problem["id"] for problem in shown] == ["chain/train/3/0", "chain/train/3/1"]
    right = openbook("tasks", "verify", "chain", shown[1]["answer"], "--seed", "3", "--index", "1")
    assert (right.code, right.out.splitlines()[-1].split(":")[0]) == (0, "correct")
    assert openbook("tasks", "verify", "chain", "no idea", "--seed", "3").code == 1


def test_dials_of_a_family_are_checked_like_a_recipe(openbook: Command) -> None:
    answer = openbook("tasks", "show", "chain", "--set", "max_operation=3")
    assert answer.err == "openbook: max_operation: unknown key; did you mean 'max_operations'?\n"


def test_a_checkpoint_says_what_it_is_and_where_it_comes_from(openbook: Command, checkpoint: Path) -> None:
    shown = json.loads(openbook("checkpoint", "show", checkpoint, "--json").out)
    assert shown["provenance"] == {"run_id": "run-1", "stage": "zero"}
    assert shown["config"]["hidden_size"] == 16
    assert "1 layers of 16, gqa, dense" in openbook("checkpoint", "show", checkpoint).out


def test_a_changed_checkpoint_does_not_verify(openbook: Command, checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    assert openbook("checkpoint", "verify", checkpoint).code == 0
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    answer = openbook("checkpoint", "verify", copy)
    assert answer.code == 2 and "model.safetensors" in answer.err


def test_the_doctor_says_which_device_and_why(openbook: Command, tmp_path: Path) -> None:
    found = json.loads(openbook("doctor", "--root", tmp_path / "not" / "there", "--json").out)
    assert found["device"].startswith(("cpu: ", "cuda: "))
    assert found["disk_free_bytes"] > 0 and found["threads"] >= 1
    assert "python" in openbook("doctor").out


def test_the_doctor_measures_the_machine_and_keeps_what_it_found(
    openbook: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from openbook.kernels import limits, measure
    from openbook.runs.machine_profile import ShapeClass, load_profile

    monkeypatch.setenv("OPENBOOK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(limits, "NUM_TRIES", 1)
    monkeypatch.setattr(measure, "beyond_cache_bytes", lambda: 1 << 20)
    monkeypatch.setattr(limits, "beyond_cache_bytes", lambda: 1 << 20)
    monkeypatch.setattr(measure, "SHAPES", dict.fromkeys(ShapeClass, ((64, 32, 32),)))
    assert "run `openbook doctor --measure`" in openbook("doctor").out
    answer = openbook("doctor", "--measure")
    assert answer.code == 0 and str(tmp_path / "home" / "machine.json") in answer.out
    assert "GFLOP/s" in answer.out and "reading memory" in answer.err
    profile = load_profile()
    assert profile.dispatch_microseconds > 0
    assert f"measured on {profile.measured_on}" in " ".join(openbook("doctor").out.split())
    elsewhere = tmp_path / "elsewhere.json"
    found = json.loads(openbook("doctor", "--measure", "--out", elsewhere, "--json").out)
    assert found["path"] == str(elsewhere) and load_profile(elsewhere).products
    refused = openbook("doctor", "--out", elsewhere)
    assert refused.code == 2 and "--out belongs to --measure" in refused.err
