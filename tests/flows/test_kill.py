"""Real processes, killed or stopped at a random moment of a stage, and the same command again.

Each test draws a seed for its moment and prints it; KILL_SEED=N draws that moment again.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from openbook.ledger.entry import amount_nano_usd
from openbook.ledger.prices import PricePlan
from openbook.r1.pipeline import STAGE_NAMES
from openbook.runs.journal import RunStatus, lost_lines
from openbook.runs.run import MANIFEST_FILE, Run

Command = Callable[..., Any]
Begin = Callable[..., "subprocess.Popen[str]"]
Tale = Any
ToldUntil = Callable[[str], Tale]

pytestmark = pytest.mark.timeout(600)

KINDS = ("pretrain", "zero", "cold_start", "reward_model", "all_scenarios", "distill")
"""A stage of each kind: from nothing, by reward, supervised after sampling, by pairs, by both, a student."""
MOST_DELAY_SECONDS = 0.15
"""A moment lies up to so long after a line of metrics: a step of the tiny story takes about as long."""


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("KILL_SEED", random.randrange(10**6)))
    print(f"KILL_SEED={seed}")
    return random.Random(seed)


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_until_begun(process: subprocess.Popen[str], place: Path, num_rows: int) -> None:
    """Until the stage in `place` is at work and has logged so many steps."""
    while num_lines(place / "journal.jsonl") < 1 or num_lines(place / "metrics.jsonl") < num_rows:
        if process.poll() is not None:
            raise AssertionError(f"the command ended before its moment came: {process.communicate()[1]}")
        time.sleep(0.002)


def strike(begin: Begin, tale: Tale, stage: str, rng: random.Random, num_rows: int) -> None:
    """Kill the whole process group with SIGKILL at a random moment of a stage that logs `num_rows`."""
    process = begin(*tale.words("--only", stage))
    wait_until_begun(process, tale.place(stage), rng.randint(0, num_rows))
    time.sleep(rng.uniform(0, MOST_DELAY_SECONDS))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def killed_within(begin: Begin, told_until: ToldUntil, stage: str, rng: random.Random, num_rows: int) -> Tale:
    """A copy of the story in which this stage was killed at work; a stage that was done first is no such."""
    for _ in range(5):
        tale = told_until(stage)
        strike(begin, tale, stage, rng, num_rows)
        if tale.run(stage).status is not RunStatus.DONE:
            return tale
    raise AssertionError(f"{stage} was done before its kill, five times")


def usage_nano_usd(device_microseconds: int) -> int:
    plan = PricePlan.default()
    price = plan.price("host-device-hour", max(one.valid_from for one in plan.prices))
    seconds = Decimal(device_microseconds).scaleb(-6)
    return amount_nano_usd(seconds, price.price_usd, price.unit)


def billed(inside: Command, tale: Tale, run: Run) -> dict[str, Any]:
    """The line of a run in the bill."""
    answer = inside("bill", "--root", tale.folder, "--verify", "--json")
    assert answer.code == 0, answer.err
    (row,) = [row for row in json.loads(answer.out)["rows"] if row["run_id"] == run.manifest.id]
    return dict(row)


def assert_equal_results(tale: Tale, whole: Tale, stage: str) -> None:
    """What a resumed stage made is what the uninterrupted one made, byte for byte."""
    assert tale.weights(stage) == whole.weights(stage)
    assert len(tale.weights(stage)) == (2 if stage == "reward_model" else 1)
    for name in ("traces.jsonl", "scorecards.json", "samples.json", "courtesy.json", "reward_model.json"):
        assert (tale.place(stage) / name).exists() == (whole.place(stage) / name).exists()
        if (whole.place(stage) / name).exists():
            assert (tale.place(stage) / name).read_bytes() == (whole.place(stage) / name).read_bytes(), name
    for row, other in zip(tale.run(stage).metrics(), whole.run(stage).metrics(), strict=True):
        told = ("time", "attempt", "usage_lines", "tokens_per_second")
        assert [(key, row[key]) for key in row if key not in told] == [
            (key, other[key]) for key in other if key not in told
        ]


def assert_killed_work_is_kept_in_the_books(inside: Command, tale: Tale, stage: str) -> None:
    run = tale.run(stage)
    lines = run.usage_lines()
    lost = lost_lines(run.journal.rewinds)
    row = billed(inside, tale, run)
    assert row["amount_nano_usd"] == usage_nano_usd(run.usage().device_microseconds)
    expected = usage_nano_usd(sum(lines[number].usage.device_microseconds for number in lost))
    assert abs(row["lost_nano_usd"] - expected) <= 1  # rounded within the sum of the run
    killed = {lines[number].attempt for number in lost}
    assert killed <= set(range(1, len(run.attempts))), "what the last attempt did is not lost"


@pytest.mark.parametrize(
    "stage", [stage if stage == "zero" else pytest.param(stage, marks=pytest.mark.slow) for stage in KINDS]
)
def test_a_killed_stage_ends_as_if_it_had_never_been_killed(
    stage: str,
    tale: Tale,
    told_until: ToldUntil,
    begin: Begin,
    openbook: Command,
    inside: Command,
    rng: random.Random,
) -> None:
    num_rows = len(tale.run(stage).metrics())
    struck = killed_within(begin, told_until, stage, rng, num_rows)
    run = struck.run(stage)
    assert run.status is RunStatus.KILLED
    before = run.usage_lines()
    if before:
        row = billed(inside, struck, run)
        assert row["status"] == "killed"
        assert row["amount_nano_usd"] == row["lost_nano_usd"]

    answer = openbook(*struck.words("--only", stage))
    assert answer.code == 0, answer.err
    assert [one.status for one in run.attempts] == [RunStatus.KILLED, RunStatus.DONE]
    assert run.usage_lines()[: len(before)] == before, "what was paid stays in the books"
    assert_equal_results(struck, tale, stage)
    assert_killed_work_is_kept_in_the_books(inside, struck, stage)


@pytest.mark.slow
def test_a_stage_killed_again_and_again_still_arrives(
    tale: Tale, told_until: ToldUntil, begin: Begin, openbook: Command, inside: Command, rng: random.Random
) -> None:
    struck = told_until("pretrain")
    num_rows = len(tale.run("pretrain").metrics())
    for _ in range(3):
        if (struck.place("pretrain") / MANIFEST_FILE).exists() and struck.run("pretrain").status == "done":
            break
        known = struck.place("pretrain") / "journal.jsonl"
        starts = num_lines(known)
        process = begin(*struck.words("--only", "pretrain"))
        while num_lines(known) <= starts:
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(rng.uniform(0, MOST_DELAY_SECONDS * num_rows / 2))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    answer = openbook(*struck.words("--only", "pretrain"))
    assert answer.code == 0, answer.err
    assert len(struck.run("pretrain").attempts) >= 2
    assert_equal_results(struck, tale, "pretrain")
    assert_killed_work_is_kept_in_the_books(inside, struck, "pretrain")


@pytest.mark.slow
def test_a_story_killed_between_stages_is_told_to_its_end(
    tale: Tale, told_until: ToldUntil, begin: Begin, openbook: Command, rng: random.Random
) -> None:
    struck = told_until("reasoning_rl")
    process = begin(*struck.words())
    time.sleep(rng.uniform(4, 10))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    answer = openbook(*struck.words())
    assert answer.code == 0, answer.err
    for stage in STAGE_NAMES:
        assert struck.run(stage).status is RunStatus.DONE
        if stage != "control":  # whose last step depends on the clock
            assert_equal_results(struck, tale, stage)


def stopped_by(number: signal.Signals, process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def stopped_between_steps(
    number: signal.Signals, begin: Begin, told_until: ToldUntil, stage: str, num_rows: int
) -> tuple[Tale, str]:
    """A copy of the story in which this stage was stopped while it learned, and what that said."""
    for _ in range(5):
        tale = told_until(stage)
        process = begin(*tale.words("--only", stage))
        wait_until_begun(process, tale.place(stage), num_rows)
        code, err = stopped_by(number, process)
        if tale.run(stage).reason.startswith("stopped after step"):
            assert code == 130, err
            return tale, err
    raise AssertionError(f"{stage} had learned all before it was stopped, five times")


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("SIGTERM", "pretrain"),
        pytest.param("SIGINT", "zero", marks=pytest.mark.slow),
        pytest.param("SIGTERM", "cold_start", marks=pytest.mark.slow),
        pytest.param("SIGINT", "reward_model", marks=pytest.mark.slow),
    ],
)
def test_a_stopped_stage_is_saved_and_says_how_to_go_on(
    name: str,
    stage: str,
    tale: Tale,
    told_until: ToldUntil,
    begin: Begin,
    openbook: Command,
    rng: random.Random,
) -> None:
    num_steps = len([row for row in tale.run(stage).metrics() if row["step"]])
    num_rows = rng.randint(1, num_steps // 2)
    stopped, err = stopped_between_steps(signal.Signals[name], begin, told_until, stage, num_rows)
    run = stopped.run(stage)
    assert run.status is RunStatus.INTERRUPTED
    resume = f"openbook run --resume {stopped.folder}"
    assert err.splitlines()[-1] == f"openbook: {run.reason}; go on with: {resume}"
    assert "Traceback" not in err
    step = int(run.metrics()[-1]["step"])
    assert run.reason == f"stopped after step {step} of {num_steps}"
    assert [path.name for path in run.state_folder.iterdir()] == [f"step-{step:06d}"]

    answer = openbook(*resume.split()[1:], "--only", stage)
    assert answer.code == 0, answer.err
    assert [one.status for one in run.attempts] == [RunStatus.INTERRUPTED, RunStatus.DONE]
    assert not run.journal.rewinds, "nothing that was saved is done again"
    assert_equal_results(stopped, tale, stage)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once_and_can_still_be_gone_on_with(
    tale: Tale, told_until: ToldUntil, begin: Begin, openbook: Command
) -> None:
    stopped = told_until("pretrain")
    process = begin(*stopped.words("--only", "pretrain"))
    wait_until_begun(process, stopped.place("pretrain"), 0)
    process.send_signal(signal.SIGINT)
    time.sleep(0.01)
    code, err = stopped_by(signal.SIGINT, process)
    assert code == 130, err
    assert "Traceback" not in err
    assert f"openbook run --resume {stopped.folder}" in err.splitlines()[-1]
    assert stopped.run("pretrain").status is RunStatus.INTERRUPTED
    assert openbook(*stopped.words("--only", "pretrain")).code == 0
    assert_equal_results(stopped, tale, "pretrain")
