"""The one training loop: every stage that learns runs in it.

    while steps are left: advance -> report -> save now and then -> stop if asked

What a step is (supervised, policy gradient, reward model) comes in as `advance`; where reports go
and where states are kept comes in as hooks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from openbook.errors import Diverged
from openbook.runs.stop import StopSignal
from openbook.train.report import StepReport
from openbook.train.state import TrainState


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopPlan:
    """How far to go, how often to save, and where."""

    num_steps: int
    save_every: int
    state_folder: Path


def run_loop(
    state: TrainState,
    advance: Callable[[TrainState], StepReport],
    plan: LoopPlan,
    *,
    on_step: Callable[[StepReport], None],
    stop: StopSignal,
    go_on: Callable[[], bool] | None = None,
) -> None:
    """Take steps until `plan.num_steps` are done, or `go_on` (a budget, say) says no.

    Raises Interrupted after saving when a stop was asked for, and Diverged (with the last good
    state kept on disk) when a step's loss is not finite.
    """
    while state.step < plan.num_steps and (go_on is None or go_on()):
        report = advance(state)
        _refuse_divergence(report, plan)
        on_step(report)
        done = state.step == plan.num_steps
        if not done and (stop.requested or state.step % plan.save_every == 0):
            state.save(plan.state_folder)
        if stop.requested and not done:
            raise stop.interruption(
                f"stopped after step {state.step} of {plan.num_steps}", "saved; the same command resumes"
            )


def _refuse_divergence(report: StepReport, plan: LoopPlan) -> None:
    bad = [
        name
        for name, value in report.metrics.items()
        if name in ("loss", "grad_norm") and not math.isfinite(value)
    ]
    if bad:
        saved = (report.step - 1) // plan.save_every * plan.save_every
        kept = (
            f"the last good state, of step {saved}, is in {plan.state_folder}"
            if saved
            else "none was saved yet"
        )
        raise Diverged(
            f"{bad[0]} became {report.metrics[bad[0]]} at step {report.step}",
            f"{kept}; lower the learning rate or raise warmup_steps",
        )
