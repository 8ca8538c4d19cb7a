"""Reinforcement by rule: from a checkpoint, with probes unless its time is counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from openbook.evals.config import EvalConfig
from openbook.model.checkpoint import Checkpoint
from openbook.r1.config import ExamConfig, MachineConfig, ReinforceConfig
from openbook.r1.frame import Frame
from openbook.r1.learn import PROBE_EVERY
from openbook.r1.zero import reinforce_by_rule
from openbook.rl.config import RLConfig
from openbook.runs.run import Run
from openbook.tasks.chain import ChainConfig

CHAIN = ChainConfig(min_operations=1, max_operations=2)
CONFIG = ReinforceConfig(
    machine=MachineConfig(device="cpu", num_threads=1),
    family=CHAIN,
    rl=RLConfig(num_steps=PROBE_EVERY, num_problems=1, num_generations=2, max_tokens=4),
    exam=ExamConfig(
        family=CHAIN, harder=CHAIN, sampling=EvalConfig(num_problems=2, num_samples=1, max_tokens=4)
    ),
)


@pytest.mark.parametrize(("budget", "is_probed"), [(0, True), (10**12, False)])
def test_a_stage_with_a_budget_for_learning_is_not_probed(
    budget: int, is_probed: bool, checkpoint: Checkpoint, make_frame: Callable[..., Frame]
) -> None:
    frame = make_frame()
    reinforce_by_rule(CONFIG, frame, checkpoint, budget_device_microseconds=budget)
    rows = Run.open(frame.folder).metrics()
    assert len(rows) == PROBE_EVERY
    assert ("eval_pass_at_1" in rows[-1]) == is_probed
    assert (frame.folder / "scorecards.json").exists(), "every stage is examined at its end"
