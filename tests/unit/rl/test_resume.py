"""A step that died on its way is done again from the saved state, bit for bit: wherever it died."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import openbook.rl.update
from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.model.transformer import Transformer
from openbook.rl.config import RLConfig
from openbook.rl.step import REFERENCE, Environment, policy_step
from openbook.rl.types import Attempt, Scored
from openbook.runs.stop import StopSignal
from openbook.tasks.problem import Outcome, Problem, Verdict
from openbook.tasks.rewards import RewardParts
from openbook.tokens.renderer import Renderer
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.config import OptimConfig, ScheduleConfig
from openbook.train.loop import LoopPlan, run_loop
from openbook.train.optim import Optimizers
from openbook.train.report import StepReport
from openbook.train.state import TrainState

CONFIG = RLConfig(
    num_steps=4,
    num_problems=4,
    num_generations=2,
    max_tokens=20,
    num_minibatches=4,
    num_iterations=2,
    old_logprobs="trainer",
    dynamic_sampling=True,
    reference_refresh_steps=3,
    optim=OptimConfig(muon_learning_rate=5e-3, adamw_learning_rate=1e-3),
    schedule=ScheduleConfig(warmup_steps=0, decay="none"),
    save_every=2,
)
MakeTiny = Callable[..., Transformer]


class Died(Exception):
    """What a kill is to a test within one process."""


def judge(attempts: Sequence[Attempt]) -> list[Scored]:
    """Reward by the parity of the text's length: many groups of two are equal."""
    verdict = Verdict(outcome=Outcome.CORRECT, reason="")
    parts = [{"accuracy": float(len(one.text) % 2)} for one in attempts]
    return [Scored(verdict=verdict, reward=RewardParts(parts=one, scored=True, reason="")) for one in parts]


@pytest.fixture
def learn(
    make_tiny: MakeTiny, tokenizer: Tokenizer, make_problem: Callable[[str], Problem], tmp_path: Path
) -> Callable[[Path], tuple[dict[str, Tensor], list[StepReport]]]:
    """Run to the end from the newest state in a folder: all tensors after, and the reports of the steps."""
    environment = Environment(
        draw=lambda position, count: [make_problem(f"{n}?") for n in range(position, position + count)],
        scorer=judge,
        renderer=Renderer.ours(tokenizer),
        seed=3,
    )

    def run(folder: Path) -> tuple[dict[str, Tensor], list[StepReport]]:
        model = make_tiny(seed=0)
        state = TrainState(
            model=model,
            optimizers=Optimizers(model, CONFIG.optim),
            companions={REFERENCE: make_tiny(seed=7)},
        )
        state.load(folder)
        engine = Engine(model, EngineConfig(return_experts=True), stop_token_ids=(tokenizer.eos_id,))
        plan = LoopPlan(num_steps=CONFIG.num_steps, save_every=CONFIG.save_every, state_folder=folder)
        reports: list[StepReport] = []
        step = policy_step(CONFIG, environment, engine)
        run_loop(state, step, plan, on_step=reports.append, stop=StopSignal())
        modules = {"model": state.model, **state.companions}
        tensors = {
            f"{name}/{key}": value
            for name, module in modules.items()
            for key, value in module.state_dict().items()
        }
        return tensors | state.optimizers.state_tensors(), reports

    return run


def dies_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int) -> None:
    """The `number`-th call from now on raises."""
    function, calls = getattr(owner, name), iter(range(1, number + 1))

    def call(*args: Any, **named: Any) -> Any:
        if next(calls) == number:
            raise Died
        return function(*args, **named)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize(
    ("owner", "name", "share"),
    [
        (openbook.rl.update, "optimizer_step", 0.6),
        (openbook.rl.update, "optimizer_step", 0.95),
        (Engine, "step", 0.6),
        (Engine, "step", 0.95),
    ],
)
def test_a_step_that_died_while_sampling_or_between_updates_is_repeated_exactly(
    owner: Any,
    name: str,
    share: float,
    learn: Callable[[Path], tuple[dict[str, Tensor], list[StepReport]]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    one_thread: None,
) -> None:
    counted: list[None] = []
    function = getattr(owner, name)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, lambda *args, **named: (counted.append(None), function(*args, **named))[1])
        straight, reports = learn(tmp_path / "straight")
    assert max(report.metrics["generation_batches"] for report in reports) > 1
    with monkeypatch.context() as patch, pytest.raises(Died):
        dies_at(patch, owner, name, int(share * len(counted)))
        learn(tmp_path / "struck")
    assert [path.name for path in (tmp_path / "struck").iterdir()] == ["step-000002"]
    resumed, again = learn(tmp_path / "struck")
    assert [report.metrics for report in again] == [report.metrics for report in reports[2:]]
    assert resumed.keys() == straight.keys()
    assert [key for key, value in straight.items() if not torch.equal(resumed[key], value)] == []
