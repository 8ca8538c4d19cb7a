"""Using a checkpoint: texts, answers, prices, examinations."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


def test_equal_seeds_give_equal_texts(openbook: Command, checkpoint: Path) -> None:
    words = ("generate", checkpoint, "a = 3. a?", "--max-tokens", "8", "-n", "2", "--json")
    first, second = (json.loads(openbook(*words, "--seed", "5").out) for _ in range(2))
    other = json.loads(openbook(*words, "--seed", "6").out)
    assert first["completions"] == second["completions"] != other["completions"]
    assert [one["num_tokens"] for one in first["completions"]] == [8, 8]
    assert first["cost_nano_usd"] > 0


def test_the_text_goes_to_stdout_and_its_price_to_stderr(openbook: Command, checkpoint: Path) -> None:
    answer = openbook("generate", checkpoint, "a = 3. a?", "--max-tokens", "8")
    assert answer.code == 0 and "$" not in answer.out
    assert answer.err.startswith("8 tokens in ") and "$" in answer.err


def test_a_prompt_can_come_from_stdin(
    openbook: Command, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a = 3. a?"))
    answer = openbook("generate", checkpoint, "-", "--max-tokens", "4", "--json")
    assert json.loads(answer.out)["prompt"] == "a = 3. a?"


def test_a_prompt_that_does_not_fit_is_refused_in_one_line(openbook: Command, checkpoint: Path) -> None:
    answer = openbook("generate", checkpoint, "b" * 500)
    assert answer.code == 2 and len(answer.err.splitlines()) == 1


def test_a_talk_goes_on_after_a_question_too_long(
    openbook: Command, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a = 3. a?\n" + "b" * 500 + "\na = 4. a?\n\n"))
    answer = openbook("chat", checkpoint, "--max-tokens", "6")
    assert answer.code == 0
    assert answer.err.count(" tokens in ") == 2 and answer.err.count("openbook: ") == 1
    assert "\033" not in answer.out


def test_an_examination_is_a_run_with_a_scorecard_and_a_price(
    openbook: Command, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "exam"
    dials = ("--set", "num_problems=3", "--set", "num_samples=2", "--set", "max_tokens=4")
    answer = openbook("eval", checkpoint, "--out", out, *dials, "--json")
    assert answer.code == 0, answer.err
    card = json.loads(answer.out)
    assert card["num_problems"] == 3 and card["suite"] == "chain, held out"
    assert len(json.loads((out / "samples.json").read_text())) == 6
    shown = json.loads(openbook("runs", "show", out, "--json").out)
    assert shown["status"] == "done" and shown["usage"]["completion_tokens"] == 24
    assert shown["usage"]["device_microseconds"] > 0
    assert shown["parents"][0]["run_id"] == "run-1"


def test_an_examination_is_printed_with_its_intervals(
    openbook: Command, checkpoint: Path, tmp_path: Path
) -> None:
    dials = ("--set", "num_problems=2", "--set", "num_samples=1", "--set", "max_tokens=4")
    answer = openbook(
        "eval", checkpoint, "--out", tmp_path / "exam", *dials, "--set", "family.max_operations=2"
    )
    assert "accuracy (pass@1)" in answer.out and " .. " in answer.out


def test_what_is_no_checkpoint_is_named(openbook: Command, tmp_path: Path) -> None:
    answer = openbook("generate", tmp_path, "a?")
    assert answer.code == 2 and str(tmp_path) in answer.err
