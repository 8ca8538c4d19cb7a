"""The doctor on the command line, and what the progress view says of it while the work goes on."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openbook.cli.live import Bar, Lines
from openbook.runs.run import Run

Command = Callable[..., Any]


def steps(num_steps: int = 40) -> Iterator[tuple[int, dict[str, float]]]:
    """A policy whose reward is gone after step 20, at a gradient that jumped."""
    for step in range(1, num_steps + 1):
        good = step <= 20
        yield step, {"reward": 1.5 if good else 0.1, "kl": 0.1 if good else 3.0, "learning_rate": 0.3}


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    run = Run.create(tmp_path / "story" / "02-zero", verb="rl", stage="zero", recipe={}, seed=0)
    run.start()
    for step, metrics in steps():
        run.log(step, metrics)
    run.finish()
    return run.folder


def test_a_run_is_examined_in_words(openbook: Command, sick: Path) -> None:
    answer = openbook("doctor", sick)
    lines = answer.out.splitlines()
    assert answer.code == 0 and lines[0].endswith("zero  done  40 steps")
    assert lines[1].split()[:2] == ["fault", "rate_too_high:"]
    assert lines[1].index("rate_too_high") == 13 and all(len(line) <= 100 for line in lines)
    assert "seen in  kl up by 2.9" in answer.out and "change   lower optim.muon_learning_rate" in answer.out


def test_a_folder_of_runs_is_examined_run_by_run(openbook: Command, sick: Path) -> None:
    answer = openbook("doctor", sick.parent, "--json")
    (examined,) = json.loads(answer.out)
    assert (examined["stage"], examined["status"], examined["steps"]) == ("zero", "done", 40)
    assert {"name", "severity", "what", "evidence", "mend"} == set(examined["diagnoses"][0])


def test_a_run_is_found_by_its_id_and_a_run_without_findings_says_so(openbook: Command, runs: Path) -> None:
    assert "nothing to say" in openbook("doctor", "pretrain", "--root", runs).out
    answer = openbook("doctor", "nowhere", "--root", runs)
    assert answer.code == 2 and answer.err.startswith("openbook: there is no run 'nowhere'")


def test_a_failed_run_is_diagnosed_by_the_reason_of_its_end(openbook: Command, runs: Path) -> None:
    (examined,) = json.loads(openbook("doctor", runs / "zero", "--json").out)
    assert [one["name"] for one in examined["diagnoses"]] == ["diverged"]


def test_plain_lines_warn_once_as_soon_as_it_shows() -> None:
    stream = io.StringIO()
    lines = Lines(stream, lambda: "", clock=lambda: 0.0)
    lines.start("zero", 40)
    for step, metrics in steps():
        lines.advance(step, metrics)
    warnings = [line for line in stream.getvalue().splitlines() if "fault:" in line or "warning:" in line]
    assert [line.split("  ")[0] for line in warnings] == ["zero 25/40"] * 2
    assert [line.split(":")[1].split()[:3] for line in warnings] == [
        ["the", "learning", "rate"],
        ["the", "policy", "collapsed"],
    ]


def test_a_new_stage_is_watched_anew() -> None:
    stream = io.StringIO()
    lines = Lines(stream, lambda: "", clock=lambda: 0.0)
    for stage in ("zero", "reasoning_rl"):
        lines.start(stage, 40)
        for step, metrics in steps():
            lines.advance(step, metrics)
    assert stream.getvalue().count("the policy collapsed") == 2


def test_a_bar_keeps_warnings_above_it(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar(lambda: "", clock=lambda: 0.0)
    bar.start("zero", 40)
    for step, metrics in steps():
        bar.advance(step, metrics)
    bar.close()
    shown = " ".join(capsys.readouterr().err.split())
    assert shown.count("fault: the policy collapsed") == 1
