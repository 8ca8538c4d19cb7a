from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from openbook.errors import Diverged, Interrupted
from openbook.runs.stop import StopSignal
from openbook.runs.usage import Usage
from openbook.train.config import OptimConfig
from openbook.train.loop import LoopPlan, run_loop
from openbook.train.optim import Optimizers
from openbook.train.report import StepReport
from openbook.train.state import TrainState

Advance = Callable[[TrainState], StepReport]


def make_state() -> TrainState:
    model = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(model.weight)
    return TrainState(model=model, optimizers=Optimizers(model, OptimConfig()))


def advance(state: TrainState) -> StepReport:
    """Adds one to the weights, so that a saved state shows when it was saved."""
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter += 1
    state.step += 1
    return StepReport(step=state.step, metrics={"loss": 1.0, "grad_norm": 1.0}, usage=Usage())


def saved_step(folder: Path) -> int | None:
    """The step of the saved state; its weights must be of the same step."""
    state = make_state()
    if not state.load(folder):
        return None
    assert float(next(state.model.parameters()).detach()[0, 0]) == state.step
    return state.step


def run(
    folder: Path,
    step: Advance = advance,
    *,
    num_steps: int = 10,
    stop: StopSignal | None = None,
    on_step: Callable[[StepReport], None] = lambda _: None,
    go_on: Callable[[], bool] | None = None,
) -> TrainState:
    state = make_state()
    state.load(folder)
    plan = LoopPlan(num_steps=num_steps, save_every=4, state_folder=folder)
    run_loop(state, step, plan, on_step=on_step, stop=stop or StopSignal(), go_on=go_on)
    return state


def test_every_step_is_reported_once_and_saved_on_schedule(tmp_path: Path) -> None:
    reported: list[int] = []
    saved: list[int | None] = []

    def on_step(report: StepReport) -> None:
        reported.append(report.step)
        saved.append(saved_step(tmp_path))  # as it was before this step's own save

    assert run(tmp_path, on_step=on_step).step == 10
    assert reported == list(range(1, 11))
    assert saved == [None] * 4 + [4] * 4 + [8] * 2
    assert saved_step(tmp_path) == 8  # what comes of the last step is the checkpoint, not a state


def test_a_stop_is_heard_after_the_step_and_saved(tmp_path: Path) -> None:
    stop = StopSignal()
    reported: list[int] = []

    def on_step(report: StepReport) -> None:
        reported.append(report.step)
        stop.requested = report.step == 3

    with pytest.raises(Interrupted, match="stopped after step 3 of 10"):
        run(tmp_path, stop=stop, on_step=on_step)
    assert saved_step(tmp_path) == 3
    stop.requested = False
    assert run(tmp_path, stop=stop, on_step=lambda report: reported.append(report.step)).step == 10
    assert reported == list(range(1, 11))


def test_a_stop_during_the_last_step_lets_the_work_end(tmp_path: Path) -> None:
    stop = StopSignal()
    stop.requested = True
    assert run(tmp_path, stop=stop, num_steps=1).step == 1


def test_a_real_signal_interrupts_the_loop(tmp_path: Path) -> None:
    def on_step(report: StepReport) -> None:
        if report.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with StopSignal() as stop, pytest.raises(Interrupted, match="stopped after step 2 of 10"):
        run(tmp_path, stop=stop, on_step=on_step)
    assert saved_step(tmp_path) == 2


def test_a_budget_ends_the_loop_before_its_last_step(tmp_path: Path) -> None:
    left = iter([True, True, True, False])
    assert run(tmp_path, go_on=lambda: next(left)).step == 3


def test_a_loop_that_is_done_takes_no_step(tmp_path: Path) -> None:
    state = make_state()
    state.step = 10
    plan = LoopPlan(num_steps=10, save_every=1, state_folder=tmp_path)

    def refuse(state: TrainState) -> StepReport:
        raise AssertionError

    run_loop(state, refuse, plan, on_step=lambda _: None, stop=StopSignal())
    assert saved_step(tmp_path) is None


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_or_gradient_that_is_no_number_ends_the_loop_with_the_last_good_state_kept(
    tmp_path: Path, name: str, value: float
) -> None:
    reported: list[int] = []

    def diverge(state: TrainState) -> StepReport:
        report = advance(state)
        if report.step < 8:
            return report
        return StepReport(step=report.step, metrics={**report.metrics, name: value}, usage=Usage())

    with pytest.raises(Diverged, match=f"{name} became {value} at step 8") as error:
        run(tmp_path, diverge, on_step=lambda report: reported.append(report.step))
    assert str(tmp_path) in error.value.mend
    assert reported[-1] == 7
    assert saved_step(tmp_path) == 4


def test_another_metric_may_be_no_number(tmp_path: Path) -> None:
    def odd(state: TrainState) -> StepReport:
        report = advance(state)
        return StepReport(step=report.step, metrics={**report.metrics, "ratio": math.nan}, usage=Usage())

    assert run(tmp_path, odd).step == 10
