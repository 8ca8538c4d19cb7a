"""Reinforcement with a curriculum: what it knows is part of the training state."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openbook.config import dump, parse
from openbook.errors import Interrupted, UserError
from openbook.evals.config import EvalConfig
from openbook.model.checkpoint import Checkpoint
from openbook.r1.config import ExamConfig, MachineConfig, ReinforceConfig
from openbook.r1.frame import Frame
from openbook.r1.zero import reinforce_by_rule
from openbook.rl.config import RLConfig
from openbook.rl.curriculum_config import CurriculumConfig
from openbook.runs.progress import Silence
from openbook.runs.run import Run
from openbook.runs.stop import StopSignal
from openbook.tasks.chain import ChainConfig
from openbook.tasks.mixed import MixedFamily
from openbook.tasks.problem import Problem, Split
from openbook.tasks.registry import MixedConfig
from openbook.tasks.rewards import RewardConfig

LEVELS = {f"of_{n}": ChainConfig(min_operations=n, max_operations=n) for n in (1, 2, 3)}
CONFIG = ReinforceConfig(
    machine=MachineConfig(device="cpu", num_threads=1),
    family=MixedConfig(members=LEVELS),
    rl=RLConfig(
        num_steps=6,
        num_problems=2,
        num_generations=4,
        max_tokens=8,
        save_every=100,
        dynamic_sampling=True,
        max_generation_batches=3,
        # An untrained model never gets the form right: its completions differ by the length penalty alone.
        rewards=RewardConfig(length=1.0, length_limit_tokens=8, length_buffer_tokens=8),
    ),
    exam=ExamConfig(family=LEVELS["of_1"], sampling=EvalConfig(num_problems=2, num_samples=1, max_tokens=4)),
    curriculum=CurriculumConfig(decay=0.5),
)
MakeFrame = Callable[..., Frame]
pytestmark = pytest.mark.usefixtures("one_thread")


class StopsAfter(Silence):
    """Watches, and asks for a stop once a step is done."""

    def __init__(self, step: int) -> None:
        self.stop = StopSignal()
        self._step = step

    def advance(self, step: int, metrics: Any) -> None:
        self.stop.requested = self.stop.requested or step == self._step


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The training problems that were asked for, as they come."""
    asked: list[str] = []
    real = MixedFamily.problem_of

    def spy(self: MixedFamily, label: str, seed: int, split: Split, index: int) -> Problem:
        found = real(self, label, seed, split, index)
        asked.append(found.id)
        return found

    monkeypatch.setattr(MixedFamily, "problem_of", spy)
    return asked


def test_a_stopped_curriculum_goes_on_with_the_same_draws_and_weights(
    checkpoint: Checkpoint, make_frame: MakeFrame, tmp_path: Path, drawn: list[str]
) -> None:
    frame = make_frame(folder=tmp_path / "whole")
    whole = reinforce_by_rule(CONFIG, frame, checkpoint)
    straight = list(drawn)
    drawn.clear()
    watcher = StopsAfter(3)
    with pytest.raises(Interrupted, match="stopped after step 3 of 6"):
        reinforce_by_rule(CONFIG, make_frame(progress=watcher, stop=watcher.stop), checkpoint)
    saved = json.loads((make_frame().folder / "state/step-000003/numbers.json").read_text())
    assert saved["notes"]["curriculum"].keys() == LEVELS.keys()
    assert sum(judged for _, judged in saved["notes"]["curriculum"].values()) > 0
    resumed = reinforce_by_rule(CONFIG, make_frame(), checkpoint)
    assert drawn == straight
    assert resumed.digest == whole.digest
    rows = [Run.open(one.folder).metrics() for one in (frame, make_frame())]
    names = [f"{part}_{level}" for part in ("pass_rate", "share") for level in LEVELS]
    kept = [[[row[name] for name in names] for row in run] for run in rows]
    assert kept[0] == kept[1] and len(kept[0]) == 6
    assert any(row["generation_batches"] > 1 for row in rows[0]), "several draws in a step"


def test_what_is_never_solved_is_asked_less_than_what_was_not_seen(
    checkpoint: Checkpoint, make_frame: MakeFrame
) -> None:
    frame = make_frame()
    reinforce_by_rule(CONFIG, frame, checkpoint)
    first, *_, last = Run.open(frame.folder).metrics()
    assert [first[f"share_{level}"] for level in LEVELS] == pytest.approx([1 / 3] * 3)
    assert all(last[f"pass_rate_{level}"] < 0.2 for level in LEVELS), "nothing was ever solved"
    assert sum(last[f"share_{level}"] for level in LEVELS) == pytest.approx(1.0)


def test_without_a_curriculum_members_take_turns(
    checkpoint: Checkpoint, make_frame: MakeFrame, drawn: list[str]
) -> None:
    frame = make_frame()
    plain = replace(
        CONFIG,
        curriculum=None,
        rl=replace(CONFIG.rl, num_steps=1, dynamic_sampling=False, max_generation_batches=10),
    )
    reinforce_by_rule(plain, frame, checkpoint)
    assert [one.partition("/")[0] for one in drawn] == ["of_1", "of_2"]
    assert not any(
        "share_" in name and name.removeprefix("share_") in LEVELS
        for row in Run.open(frame.folder).metrics()
        for name in row
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": {"kind": "chain"}}, "members of a family of kind mixed, not chain"),
        ({"curriculum": {"floor": 0.5}}, "3 levels of a share of at least floor = 0.5 each would be 1.5"),
    ],
)
def test_a_curriculum_without_levels_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(ReinforceConfig, dump(CONFIG) | changes)
