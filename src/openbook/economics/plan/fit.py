"""The calibration runs, and what the efficiency model learns from them. No torch.

No other training run is used anywhere in the model. Everything but two figures is measured on components.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openbook.economics.accelerators import Precision, find_accelerator
from openbook.economics.plan.calibration import Calibration
from openbook.economics.plan.goodput import goodput
from openbook.economics.plan.layout import LayoutChoice
from openbook.economics.plan.memory import TrainingShape
from openbook.economics.plan.search import Job, Placement, place
from openbook.economics.plan.utilisation import reference_peak
from openbook.model.architecture import Architecture

OVERHEAD, EXPONENT = "fitted.overhead", "fitted.scale_exponent"


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationRun:
    """A published run with the device-hours that its authors give."""

    name: str
    architecture: Architecture
    tokens: float
    sequence_length: int
    accelerator: str
    num_devices: int
    precision: Precision
    device_hours: float
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What the model says of a run, and what it cost."""

    run: CalibrationRun
    placement: Placement
    hours: float
    mfu: float
    published_mfu: float

    @property
    def error(self) -> float:
        """Predicted over published hours, less one."""
        return self.hours / self.run.device_hours - 1


def batch_tokens(
    architecture: Architecture, tokens: float, sequence_length: int, figures: Calibration
) -> float:
    """Tokens of a step by compute (DeepSeek LLM, arXiv 2401.02954)."""
    flops = architecture.training_flops_per_token(sequence_length).total * tokens
    law: float = figures["batch.coefficient"] * flops ** figures["batch.exponent"]
    return max(law, float(sequence_length))


def predict(run: CalibrationRun, figures: Calibration) -> Outcome:
    """The forecast of a run exactly as a user's would be made, layout and batch included."""
    accelerator = find_accelerator(run.accelerator)
    job = Job(
        architecture=run.architecture,
        shape=TrainingShape(sequence_length=run.sequence_length, precision=run.precision),
        accelerator=accelerator,
        num_devices=run.num_devices,
        batch_tokens=batch_tokens(run.architecture, run.tokens, run.sequence_length, figures),
    )
    placement = place(job, LayoutChoice(), figures)
    useful = goodput(
        run.num_devices,
        figures["goodput.device_mtbf"],
        checkpoint=figures["goodput.checkpoint"],
        restart=figures["goodput.restart"],
    )
    flops = run.architecture.training_flops_per_token(run.sequence_length).total
    peak = reference_peak(accelerator)[1]
    return Outcome(
        run=run,
        placement=placement,
        hours=placement.time.total * run.tokens / 3600 / useful.share,
        mfu=flops / placement.time.total / peak,
        published_mfu=flops * run.tokens / (run.device_hours * 3600 * peak),
    )


def fit(runs: Sequence[CalibrationRun], figures: Calibration) -> Calibration:
    """`figures` with overhead and scale exponent fitted to `runs`: least squares of log hours, with a prior.

    The exponent leans on `prior.scale_exponent`, since most runs have one size; the overhead on nothing.
    """
    bare = figures.changed({OVERHEAD: 1.0, EXPONENT: 0.0}, "without fit")
    ratios = [(math.log(run.num_devices), -math.log(predict(run, bare).error + 1)) for run in runs]
    mean_x = sum(x for x, _ in ratios) / len(ratios)
    mean_y = sum(y for _, y in ratios) / len(ratios)
    weight = (figures["prior.run_spread"] / figures["prior.scale_exponent_spread"]) ** 2
    along = sum((x - mean_x) * (y - mean_y) for x, y in ratios) + weight * figures["prior.scale_exponent"]
    exponent = along / (sum((x - mean_x) ** 2 for x, _ in ratios) + weight)
    names = ", ".join(run.name for run in runs)
    values = {OVERHEAD: math.exp(mean_y - exponent * mean_x), EXPONENT: exponent}
    return figures.changed(values, f"fitted to {names}")


def leave_one_out(runs: Sequence[CalibrationRun], figures: Calibration) -> Mapping[str, Outcome]:
    """Each run as forecast by a model that has not seen it."""
    return {
        run.name: predict(run, fit([other for other in runs if other is not run], figures)) for run in runs
    }
