"""`--budget`: work stops before it goes over its cap, is saved, says how to go on, and goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbook.ledger.prices import PricePlan
from openbook.ledger.tally import device_cost
from openbook.runs.journal import RunStatus
from openbook.runs.run import Run

Command = Callable[..., Any]

pytestmark = pytest.mark.timeout(600)


def weights(folder: Path) -> bytes:
    return (folder / "checkpoint" / "model.safetensors").read_bytes()


def num_tokens(run: Run) -> int:
    usage = run.usage()
    return usage.trained_tokens + usage.prompt_tokens + usage.completion_tokens


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, inside: Command) -> Path:
    folder: Path = tmp_path_factory.mktemp("whole") / "pretrain"
    assert inside("pretrain", "tiny", "--out", folder, "--seed", 3).code == 0
    return folder


def test_a_stage_stops_at_its_cap_and_goes_on_to_the_same_bits(
    inside: Command, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pretrain"
    words = ("pretrain", "tiny", "--out", folder, "--seed", 3)
    cap = sum(line.usage.trained_tokens for line in Run.open(whole).usage_lines()) // 2
    stopped = inside(*words, "--budget", f"{cap} tokens")
    run = Run.open(folder)
    assert stopped.code == 4, stopped.err
    assert "stopped after step" in stopped.last_line and "is spent" in stopped.last_line
    assert stopped.last_line.endswith(f"go on with: openbook pretrain --resume {folder} --budget MORE")
    assert run.status is RunStatus.INTERRUPTED and "the budget of" in run.reason
    assert 0 < num_tokens(run) <= cap
    assert cap - num_tokens(run) <= 2 * max(line.usage.trained_tokens for line in run.usage_lines())
    before = num_tokens(run)
    again = inside("pretrain", "--resume", folder, "--budget", f"{cap} tokens")
    assert again.code == 4 and num_tokens(Run.open(folder)) == before, (
        "the same cap lets nothing more be done"
    )
    assert len(run.attempts) == len(Run.open(folder).attempts), "and begins nothing"
    assert inside("pretrain", "--resume", folder, "--budget", f"{10 * cap} tokens").code == 0
    assert weights(folder) == weights(whole)


def test_a_story_is_held_to_a_sum_of_money_over_all_its_stages(inside: Command, tmp_path: Path) -> None:
    folder = tmp_path / "story"
    words = ("run", "tiny", "--out", folder, "--seed", 1, "--only", "pretrain", "--only", "zero")
    stopped = inside(*words, "--budget", "$0.000001")
    assert stopped.code == 4 and "the budget of $0.0000010 is spent" in stopped.last_line
    spent = json.loads(inside("bill", "--root", folder, "--json").out)
    assert 0 < spent["total_nano_usd"] <= 1_000 + _dearest_piece(folder)
    assert spent["rows"][-1]["status"] == "interrupted"
    assert (
        spent["totals"]["this_run"]["parts_nano_usd"]["1 run in vain"] == spent["rows"][-1]["amount_nano_usd"]
    )


def _dearest_piece(folder: Path) -> int:
    """What the dearest piece of work below a folder cost: by so much a first one may go over."""
    plan = PricePlan.default()
    lines = [line for run in folder.rglob("manifest.json") for line in Run.open(run.parent).usage_lines()]
    return max(device_cost(plan, "cpu", line.usage.device_microseconds) for line in lines)


def test_an_examination_stops_between_its_batches(inside: Command, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "eval"
    words = ("eval", whole, "--set", "num_problems=64", "--set", "batch_size=1", "--set", "max_tokens=16")
    stopped = inside(*words, "--out", folder, "--budget", "500 tokens")
    run = Run.open(folder)
    assert stopped.code == 4 and "give a higher --budget, or --set num_problems=FEWER" in stopped.last_line
    assert run.status is RunStatus.INTERRUPTED and 0 < num_tokens(run) <= 500


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("10", "has no unit"),
        ("-1h", "is not above zero"),
        ("EUR 5", "is in 'EUR'"),
        ("5 apples", "cannot be counted"),
    ],
)
def test_a_budget_that_is_none_is_refused_before_anything_is_begun(
    inside: Command, tmp_path: Path, budget: str, words: str
) -> None:
    answer = inside("pretrain", "tiny", "--out", tmp_path / "x", "--budget", budget)
    assert answer.code == 2 and words in answer.last_line
    assert not (tmp_path / "x").exists()
