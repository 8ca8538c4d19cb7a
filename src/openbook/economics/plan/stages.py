"""From the stages of a recipe to device-hours and dollars, one by one and together. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from openbook.economics.accelerators import Accelerator, Precision
from openbook.economics.plan.band import Band, band
from openbook.economics.plan.calibration import Calibration
from openbook.economics.plan.cost import Cost, cost
from openbook.economics.plan.decode import DecodeRate, decode_rate, generation_hours, prefill_hours
from openbook.economics.plan.layout import parse_layout
from openbook.economics.plan.plan import TrainingForecast, TrainingRequest, forecast
from openbook.economics.plan.recipe import (
    DistillationStage,
    HoursStage,
    PlanConfig,
    RLStage,
    ServingStage,
    TrainingStage,
)
from openbook.economics.plan.utilisation import Utilisation, reference_peak
from openbook.model.architecture import Architecture

FORWARD_SHARE = 0.35
"""MFU of forward passes over whole sequences: prefill of day 6 (fact sheet 5.3), 35 % of the BF16 peak."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageForecast:
    """One stage: its device-hours by part, and what they cost."""

    kind: str
    name: str
    parts: dict[str, Band]
    """Device-hours by part: training, or rollouts, scores, updates and idle, or prefill and decode."""
    hours: Band
    cost: Cost
    other_usd: float = 0.0
    """Paid beside the devices: the verifier's hosts."""
    training: TrainingForecast | None = None
    decode: DecodeRate | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workplace:
    """What all stages of a plan share."""

    architecture: Architecture
    accelerator: Accelerator
    precision: Precision
    num_devices: int | None
    figures: Calibration
    read_model: Callable[[str], Architecture]
    """Reads another model that a stage names."""


def forecast_stages(plan: PlanConfig, workplace: Workplace) -> tuple[StageForecast, ...]:
    """Each stage of `plan` in order. Raises UserError for a stage that cannot be."""
    return tuple(_stage(stage, workplace) for stage in plan.stages)


def total(
    stages: Sequence[StageForecast], accelerator: Accelerator, figures: Calibration
) -> tuple[Band, Cost]:
    """All stages together; their errors are taken to go the same way, so the ends of the bands add."""
    hours = sum((stage.hours for stage in stages), Band(value=0.0, low=0.0, high=0.0))
    return hours, cost(hours, accelerator, figures)


def _stage(
    stage: TrainingStage | HoursStage | RLStage | DistillationStage | ServingStage, at: Workplace
) -> StageForecast:
    if isinstance(stage, TrainingStage):
        return _training(stage, at)
    if isinstance(stage, HoursStage):
        known = band(stage.device_hours, 0.0)
        return _made(stage.kind, stage.name, {"known": known}, at, note=stage.source)
    if isinstance(stage, RLStage):
        return _reinforcement(stage, at)
    if isinstance(stage, DistillationStage):
        return _distillation(stage, at)
    return _serving(stage, at)


def _made(kind: str, name: str, parts: dict[str, Band], at: Workplace, *, note: str = "") -> StageForecast:
    hours = sum(parts.values(), Band(value=0.0, low=0.0, high=0.0))
    return StageForecast(
        kind=kind,
        name=name or kind.replace("_", " "),
        parts=parts,
        hours=hours,
        cost=cost(hours, at.accelerator, at.figures),
        note=note,
    )


def _training(stage: TrainingStage, at: Workplace) -> StageForecast:
    peak = reference_peak(at.accelerator)[0]
    found = forecast(
        TrainingRequest(
            architecture=at.architecture,
            tokens=stage.tokens * stage.epochs,
            accelerator=at.accelerator,
            precision=stage.precision or at.precision,
            sequence_length=stage.sequence_length,
            num_devices=stage.devices or at.num_devices,
            layout=parse_layout(stage.layout),
            batch_tokens=stage.batch_tokens,
            mfu=None if stage.mfu is None else Utilisation(share=stage.mfu, peak=peak),
        ),
        at.figures,
    )
    return replace(_made(stage.kind, stage.name, {"training": found.hours}, at), training=found)


def _reinforcement(stage: RLStage, at: Workplace) -> StageForecast:
    """Rollouts by decode, log-probabilities at 2 N_mm each, updates at 6 N_mm; what waits is held too."""
    length = stage.prompt_tokens + stage.completion_tokens
    context = stage.prompt_tokens + stage.completion_tokens // 2
    rate = decode_rate(at.architecture, at.accelerator, at.precision, context, at.figures)
    seen = stage.rollouts * length
    spread = at.figures["spread.decode"]
    scores = prefill_hours(at.architecture, at.accelerator, seen * stage.score_passes, length, FORWARD_SHARE)
    training = None
    parts = {
        "rollouts": band(generation_hours(stage.rollouts * stage.completion_tokens, rate), spread),
        "scores": band(scores, spread),
    }
    if stage.update_epochs:
        training = forecast(
            TrainingRequest(
                architecture=at.architecture,
                tokens=seen * stage.update_epochs,
                accelerator=at.accelerator,
                precision=at.precision,
                sequence_length=length,
                num_devices=stage.devices or at.num_devices,
            ),
            at.figures,
        )
        parts["updates"] = training.hours
    busy = sum(parts.values(), Band(value=0.0, low=0.0, high=0.0))
    parts["idle"] = busy * (stage.idle_share / (1 - stage.idle_share))
    verifier = stage.rollouts * stage.verifier_seconds / 3600
    made = _made(stage.kind, stage.name, parts, at, note=f"verifier: {verifier:,.0f} host hours apart")
    return replace(made, training=training, decode=rate, other_usd=verifier * stage.verifier_usd_per_hour)


def _distillation(stage: DistillationStage, at: Workplace) -> StageForecast:
    """Teacher generation and 6 N_student for each token and epoch."""
    teacher = at.architecture if stage.teacher is None else at.read_model(stage.teacher)
    student = at.read_model(stage.student)
    rate = decode_rate(teacher, at.accelerator, at.precision, stage.sequence_length // 2 or 1, at.figures)
    found = forecast(
        TrainingRequest(
            architecture=student,
            tokens=stage.tokens * stage.epochs,
            accelerator=at.accelerator,
            precision=at.precision,
            sequence_length=stage.sequence_length,
            num_devices=stage.devices,
        ),
        at.figures,
    )
    written = generation_hours(stage.tokens / stage.kept_share, rate)
    parts = {"teacher": band(written, at.figures["spread.decode"]), "student": found.hours}
    return replace(_made(stage.kind, stage.name, parts, at), training=found, decode=rate)


def _serving(stage: ServingStage, at: Workplace) -> StageForecast:
    rate = decode_rate(at.architecture, at.accelerator, at.precision, stage.context, at.figures)
    missed = stage.input_tokens * (1 - stage.cached_share)
    spread = at.figures["spread.decode"]
    prefill = prefill_hours(at.architecture, at.accelerator, missed, stage.context, FORWARD_SHARE)
    parts = {
        "prefill": band(prefill, spread),
        "decode": band(generation_hours(stage.output_tokens, rate), spread),
    }
    busy = sum(parts.values(), Band(value=0.0, low=0.0, high=0.0))
    if stage.busy_share < 1:
        parts["idle"] = busy * (1 / stage.busy_share - 1)
    return replace(_made(stage.kind, stage.name, parts, at), decode=rate)
