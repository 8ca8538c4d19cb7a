"""Reinforcement killed with SIGKILL at chosen moments within a step, and gone on with: the same bytes.

Every step here is a rollout with groups drawn anew, reused for eight updates. What happens is traced, so that
a moment is hit for certain: in the middle of sampling, between two updates, while a state is saved.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from openbook.runs.journal import RunStatus
from openbook.runs.run import Run

Command = Callable[..., Any]

pytestmark = pytest.mark.timeout(600)

SETTINGS = (
    *("rl.num_minibatches=4", "rl.num_iterations=2", "rl.old_logprobs=trainer", "rl.dynamic_sampling=true"),
    *("rl.max_generation_batches=3", "rl.num_steps=6", "rl.save_every=2", "rl.reference_refresh_steps=3"),
    *("exam.sampling.num_problems=2", "exam.sampling.num_samples=1", "exam.sampling.max_tokens=8"),
)
NUM_UPDATES = 8
"""Of a rollout: 4 minibatches, twice."""
SCRIPT = Path(__file__).with_name("struck.py")
SRC = str(Path(__file__).resolve().parents[2] / "src")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A folder of one run, and the trace beside it."""

    base: Path
    folder: Path

    @property
    def words(self) -> list[str]:
        changes = [word for text in SETTINGS for word in ("--set", text)]
        return ["rl", "tiny", "--from", str(self.base), "--out", str(self.folder), "--seed", "5", *changes]

    @property
    def run(self) -> Run:
        return Run.open(self.folder)

    @property
    def weights(self) -> bytes:
        return (self.folder / "checkpoint" / "model.safetensors").read_bytes()

    @property
    def states(self) -> list[str]:
        return sorted(path.name for path in self.run.state_folder.iterdir())

    def strike(self, number: int) -> list[str]:
        """Go on under a witness that kills at event `number`, or never at 0; the events that came to pass."""
        trace = self.folder.with_name(f"{len(list(self.folder.parent.iterdir()))}.trace")
        command = [sys.executable, str(SCRIPT), str(trace), str(number), *self.words]
        around = os.environ | {"PYTHONPATH": SRC, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=around, capture_output=True, text=True, check=False)
        assert done.returncode == (-signal.SIGKILL if number else 0), done.stderr
        return trace.read_text().splitlines()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, inside: Command) -> Path:
    folder: Path = tmp_path_factory.mktemp("base") / "pretrain"
    assert inside("pretrain", "tiny", "--out", folder).code == 0
    return folder


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, list[str]]:
    """The run that nobody disturbed, and all its events."""
    place = Place(base=base, folder=tmp_path_factory.mktemp("whole") / "run")
    return place, place.strike(0)


@pytest.fixture
def place(base: Path, tmp_path: Path) -> Place:
    return Place(base=base, folder=tmp_path / "run")


def steps_of(events: list[str]) -> list[range]:
    """The events of each step, as numbers from 1: from its first rollout to where it is logged."""
    steps, start = [], 0
    for number, event in enumerate(events, start=1):
        if event == "roll out" and not start:
            start = number
        if event == "log":
            steps.append(range(start, number))
            start = 0
    return steps


def numbers(events: list[str], within: range, event: str) -> list[int]:
    return [number for number in within if events[number - 1] == event]


def in_the_middle_of_sampling(events: list[str]) -> int:
    """Within the last rollout of the last step that drew several times."""
    step = [step for step in steps_of(events) if len(numbers(events, step, "roll out")) > 1][-1]
    rollout = range(numbers(events, step, "roll out")[-1], numbers(events, step, "update")[0])
    sampling = numbers(events, rollout, "sample")
    assert len(sampling) > 2, "a rollout takes several steps of the engine"
    return sampling[len(sampling) // 2]


def between_two_updates(events: list[str]) -> int:
    """Before the sixth of eight updates of step 4: in the second pass over its rollout."""
    return numbers(events, steps_of(events)[3], "update")[5]


def at_the_first_update(events: list[str]) -> int:
    return numbers(events, steps_of(events)[2], "update")[0]


def after_the_last_update_before_its_line(events: list[str]) -> int:
    return steps_of(events)[3].stop


def saving(events: list[str], event: str, which: int) -> int:
    """An event between steps 4 and 5, where the second state is saved."""
    four, five = steps_of(events)[3:5]
    return numbers(events, range(four.stop, five.start), event)[which]


def while_the_first_file_is_to_be_written(events: list[str]) -> int:
    return saving(events, "write", 0)


def while_a_state_is_half_written(events: list[str]) -> int:
    return saving(events, "write", 1)


def before_a_state_is_on_the_disk(events: list[str]) -> int:
    return saving(events, "sync", 0)


def before_the_older_state_is_removed(events: list[str]) -> int:
    return saving(events, "list states", 0)


MOMENTS = (
    in_the_middle_of_sampling,
    between_two_updates,
    while_a_state_is_half_written,
    at_the_first_update,
    after_the_last_update_before_its_line,
    while_the_first_file_is_to_be_written,
    before_a_state_is_on_the_disk,
    before_the_older_state_is_removed,
)
LEFT_BEHIND = {
    while_the_first_file_is_to_be_written: [".draft-000004", "step-000002"],
    while_a_state_is_half_written: [".draft-000004", "step-000002"],
    before_a_state_is_on_the_disk: [".draft-000004", "step-000002"],
    before_the_older_state_is_removed: ["step-000002", "step-000004"],
}
NUM_FAST = 3


def test_the_undisturbed_run_does_what_the_moments_need(whole: tuple[Place, list[str]]) -> None:
    place, events = whole
    steps = steps_of(events)
    assert [len(numbers(events, step, "update")) for step in steps] == [NUM_UPDATES] * 6
    drawn = [len(numbers(events, step, "roll out")) for step in steps]
    assert drawn == [row["generation_batches"] for row in place.run.metrics()]
    assert max(drawn) > 1, "groups without a signal were replaced"
    assert all(row["grad_norm"] > 0 for row in place.run.metrics()), "every step learned"


@pytest.mark.parametrize(
    "moment",
    [
        one if number < NUM_FAST else pytest.param(one, marks=pytest.mark.slow)
        for number, one in enumerate(MOMENTS)
    ],
)
def test_a_run_killed_within_a_step_ends_in_the_very_same_weights(
    moment: Callable[[list[str]], int],
    whole: tuple[Place, list[str]],
    place: Place,
    openbook: Command,
) -> None:
    undisturbed, events = whole
    number = moment(events)
    assert place.strike(number) == events[: number - 1]
    assert place.run.status is RunStatus.KILLED
    assert place.states == LEFT_BEHIND.get(moment, place.states)
    answer = openbook(*place.words)
    assert answer.code == 0, answer.err
    assert place.weights == undisturbed.weights
    assert_equal_metrics(place.run, undisturbed.run)


@pytest.mark.slow
def test_killed_while_learning_then_while_sampling_then_while_saving(
    whole: tuple[Place, list[str]], place: Place, openbook: Command
) -> None:
    undisturbed, events = whole
    steps = steps_of(events)
    sampling = numbers(events, range(steps[3].start, numbers(events, steps[3], "update")[0]), "sample")
    struck = [
        place.strike(numbers(events, steps[2], "update")[-1]),
        place.strike(resumed(events, sampling[1], after_step=2)),
        place.strike(resumed(events, while_a_state_is_half_written(events), after_step=2)),
    ]
    assert [len(numbers(one, range(1, len(one) + 1), "log")) for one in struck] == [2, 1, 2]
    answer = openbook(*place.words)
    assert answer.code == 0, answer.err
    assert len(place.run.attempts) == 4
    assert place.weights == undisturbed.weights
    assert_equal_metrics(place.run, undisturbed.run)


def resumed(events: Sequence[str], number: int, *, after_step: int) -> int:
    """The number of an event in the trace of a run that goes on from the state of `after_step`."""
    steps = steps_of(list(events))
    return number - steps[after_step].start + steps[0].start


def assert_equal_metrics(run: Run, other: Run) -> None:
    told = ("time", "attempt", "usage_lines", "tokens_per_second")
    for row, expected in zip(run.metrics(), other.metrics(), strict=True):
        assert [(key, row[key]) for key in row if key not in told] == [
            (key, expected[key]) for key in expected if key not in told
        ]
