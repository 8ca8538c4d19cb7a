"""The forecast of one stretch of training: hours, memory, dollars, energy, each with its band. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from openbook.economics.accelerators import Accelerator, Precision, require_precision
from openbook.economics.plan.band import Band, band, spread_terms, total_spread
from openbook.economics.plan.calibration import MOST, Calibration
from openbook.economics.plan.fit import batch_tokens
from openbook.economics.plan.goodput import Goodput, goodput
from openbook.economics.plan.layout import LayoutChoice, check_choice
from openbook.economics.plan.memory import TrainingShape, state_bytes
from openbook.economics.plan.search import MOST_DEVICES, Job, Placement, place
from openbook.economics.plan.utilisation import Utilisation, reference_peak
from openbook.errors import UserError
from openbook.model.architecture import Architecture

BEFORE_FUSED = ("gpt2", "gpt_neo", "gptj", "opt", "bloom", "codegen", "xglm")
"""Families whose models were trained before fused attention was published (May 2022)."""
WITHOUT_FUSED = ("v100",)
"""Devices that the fused kernels do not support: they start with Turing, FlashAttention-2 with Ampere."""
GIVEN_MFU_SPREAD = 0.05
"""A utilisation that the user gives is believed, to a few hundredths."""
MAX_DAYS = 60.0
TOKENS_PER_PARAMETER = 20
TINY_PARAMETERS = 10e6
"""Below it starting a kernel takes longer than most kernels run, which the model of efficiency leaves out."""
IDLE_PIPELINE = 0.2
"""Share of the time in the bubble from which a warning says so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRequest:
    """What is to be trained on what. None leaves the choice to the forecast."""

    architecture: Architecture
    tokens: float
    accelerator: Accelerator
    precision: Precision = Precision.BF16
    sequence_length: int = 4096
    num_devices: int | None = None
    layout: LayoutChoice = field(default_factory=LayoutChoice)
    batch_tokens: float | None = None
    mfu: Utilisation | None = None
    """Over the hours of a whole run, lost ones included: goodput is then not counted again."""
    goodput: float | None = None
    fused_attention: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingForecast:
    """What training takes."""

    request: TrainingRequest
    num_devices: int
    flops: float
    """Counted: causal attention at half, recomputation and multi-token prediction left out."""
    mfu: Utilisation
    placement: Placement
    goodput: Goodput
    hours: Band
    """Device-hours, lost ones included."""
    spread: dict[str, float]
    shape: TrainingShape
    warnings: tuple[str, ...] = ()

    @property
    def days(self) -> Band:
        return self.hours * (1 / (24 * self.num_devices))


def forecast(request: TrainingRequest, figures: Calibration) -> TrainingForecast:
    """The forecast of `request`. Raises UserError for what cannot be: precision, layout, counts."""
    _check(request)
    if request.num_devices is None:
        return _smallest(request, figures)
    return _forecast_on(request.num_devices, request, figures)


def _forecast_on(
    num_devices: int, request: TrainingRequest, figures: Calibration, *, explains: bool = True
) -> TrainingForecast:
    shape, architecture = training_shape(request), request.architecture
    batch = request.batch_tokens or batch_tokens(
        architecture, request.tokens, request.sequence_length, figures
    )
    job = Job(
        architecture=architecture,
        shape=shape,
        accelerator=request.accelerator,
        num_devices=num_devices,
        batch_tokens=batch,
    )
    placement = place(job, request.layout, figures, explains=explains)
    flops = float(architecture.training_flops_per_token(request.sequence_length).total)
    precision, peak = reference_peak(request.accelerator)
    useful = _goodput(request, num_devices, figures)
    mfu = request.mfu or Utilisation(share=min(1.0, flops / placement.time.total / peak), peak=precision)
    if mfu.peak is not precision:
        raise UserError(
            f"an MFU over the {mfu.peak} peak: {request.accelerator.name} is counted over {precision}",
            f"give it over the dense {precision} peak",
        )
    terms = spread_terms(architecture, shape, request.accelerator, num_devices, figures)
    if request.mfu is not None:
        terms = {"given mfu": GIVEN_MFU_SPREAD}
    hours = flops * request.tokens / (peak * mfu.share * 3600) / useful.share
    return TrainingForecast(
        request=request,
        num_devices=num_devices,
        flops=flops * request.tokens,
        mfu=mfu,
        placement=placement,
        goodput=useful,
        hours=band(hours, total_spread(terms)),
        spread=terms,
        shape=shape,
        warnings=_warnings(request, placement, batch),
    )


def training_shape(request: TrainingRequest) -> TrainingShape:
    """With attention in one kernel unless the device or the model's time had none."""
    fused = request.fused_attention
    if fused is None:
        old = request.architecture.model_type in BEFORE_FUSED
        fused = not old and request.accelerator.name not in WITHOUT_FUSED
    return TrainingShape(
        sequence_length=request.sequence_length, precision=request.precision, fused_attention=fused
    )


def _check(request: TrainingRequest) -> None:
    require_precision(request.accelerator, request.precision)
    for name, value in (
        ("--tokens", request.tokens),
        ("--sequence-length", request.sequence_length),
        ("--devices", request.num_devices),
        ("--batch-tokens", request.batch_tokens),
    ):
        if value is not None and not 0 < value < MOST:
            raise UserError(f"{name} {value:g}: not a number above 0 and below {MOST:g}")
    if request.goodput is not None and not 0 < request.goodput <= 1:
        raise UserError(f"a goodput of {request.goodput:g} is none", "give a share above 0 and at most 1")


def _goodput(request: TrainingRequest, num_devices: int, figures: Calibration) -> Goodput:
    found = goodput(
        num_devices,
        figures["goodput.device_mtbf"],
        checkpoint=figures["goodput.checkpoint"],
        restart=figures["goodput.restart"],
    )
    if request.goodput is not None:
        return replace(found, share=request.goodput)
    return replace(found, share=1.0) if request.mfu is not None else found


def _smallest(request: TrainingRequest, figures: Calibration) -> TrainingForecast:
    """On the fewest whole nodes, doubled each time, that hold the model and end within `MAX_DAYS`."""
    asked = request.layout
    shared = (asked.tp or 1) * (asked.pp or 1) * (asked.cp or 1)
    check_choice(replace(asked, ep=None), request.architecture, shared)
    count = math.lcm(request.accelerator.devices_per_node, shared)
    memory, last = request.accelerator.memory_bytes, None
    held = request.architecture.parameters_total * state_bytes(request.precision).total
    while memory is not None and held > memory.value * count:
        count *= 2
    while count <= MOST_DEVICES:
        try:
            last = _forecast_on(count, request, figures, explains=False)
        except UserError:
            if 2 * count > MOST_DEVICES and last is None:
                return _forecast_on(count, request, figures)  # which says why not
        if last is not None and last.days.value <= MAX_DAYS:
            return last
        count *= 2
    if last is None:
        raise UserError(
            f"the model does not train on {MOST_DEVICES:,} x {request.accelerator.name}",
            "name another --accelerator",
        )
    return last


def _warnings(request: TrainingRequest, placement: Placement, batch: float) -> tuple[str, ...]:
    found = list(request.architecture.warnings)
    limit = request.architecture.max_position_embeddings
    if limit is not None and request.sequence_length > limit:
        found.append(
            f"sequences of {request.sequence_length:,} tokens exceed the model's {limit:,} positions"
        )
    if placement.batch_tokens > 1.5 * batch:
        found.append(
            f"so many devices need steps of {placement.batch_tokens:.3g} tokens, beyond the usual {batch:.3g}"
        )
    if placement.time.shares()["bubble"] > IDLE_PIPELINE:
        found.append(
            f"{placement.layout.pp} stages stand idle for want of micro batches in steps of "
            f"{placement.batch_tokens:.3g} tokens: fewer devices cost less"
        )
    if request.architecture.parameters_active < TINY_PARAMETERS and request.mfu is None:
        found.append(
            f"below {TINY_PARAMETERS / 1e6:g}M active parameters most time goes into starting kernels, "
            "which is not counted: the hours are a lower bound"
        )
    if request.accelerator.memory_bytes is None:
        found.append(
            f"the memory of {request.accelerator.name} is not known: whether it fits was not checked"
        )
    return tuple(found)
