"""Which layout a run takes: the fastest that fits, or the one that was asked for. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from openbook.economics.accelerators import Accelerator
from openbook.economics.plan.calibration import Calibration
from openbook.economics.plan.efficiency import Machine, TokenTime, TokenTimer
from openbook.economics.plan.layout import (
    Layout,
    LayoutChoice,
    Recompute,
    candidates,
    check_choice,
    divisors,
)
from openbook.economics.plan.memory import DeviceMemory, TrainingShape, state_bytes, training_memory
from openbook.errors import UserError
from openbook.model.architecture import Architecture

USABLE_MEMORY = 0.92
"""Of a device's memory: the rest is taken by the driver, communication buffers and fragments."""
MOST_DEVICES = 1 << 17
"""Devices beyond which no layout is looked for when none was asked for."""
MAX_BATCH_GROWTH = 1.5
"""How far many devices may stretch the batch before a layout with less data parallel is preferred."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A model trained in one shape with steps of `batch_tokens` on `num_devices` of a kind."""

    architecture: Architecture
    shape: TrainingShape
    accelerator: Accelerator
    num_devices: int
    batch_tokens: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """A layout with what it holds and how fast it is."""

    layout: Layout
    memory: DeviceMemory
    memory_bytes: float | None
    """What a device has; None where that is not known."""
    time: TokenTime
    batch_tokens: float

    @property
    def fits(self) -> bool:
        return self.memory_bytes is None or self.memory.total <= self.memory_bytes * USABLE_MEMORY


def place(job: Job, choice: LayoutChoice, figures: Calibration, *, explains: bool = True) -> Placement:
    """The fastest layout within `choice` that fits. Raises UserError naming the nearest that does.

    Finding that takes many times as long as finding out that there is none; `explains` leaves it out.
    """
    check_choice(choice, job.architecture, job.num_devices)
    found = _fitting(job, choice, figures)
    if found is not None:
        return found
    if not explains:
        raise UserError("the model does not fit")
    if not choice.is_free:
        nearest = _nearest(job, choice, figures)
        mend = f"the nearest that fits: {_given(nearest.layout)}" if nearest else _more_devices(job, figures)
        raise UserError(f"the layout {_shown(choice)} does not fit: {_shortage(job, choice)}", mend)
    raise UserError(
        f"the model does not train on {job.num_devices:,} x {job.accelerator.name}: {_shortage(job, choice)}",
        _more_devices(job, figures),
    )


def _placements(job: Job, choice: LayoutChoice) -> list[tuple[Layout, DeviceMemory]]:
    memory = job.accelerator.memory_bytes
    limit = float("inf") if memory is None else memory.value * USABLE_MEMORY
    found = []
    layouts = _candidates(job, choice)
    for layout in layouts:
        held = training_memory(job.architecture, job.shape, layout)
        if held.total <= limit:
            found.append((layout, held))
    return found


def _candidates(job: Job, choice: LayoutChoice) -> Iterator[Layout]:
    return candidates(
        job.architecture,
        job.num_devices,
        choice,
        sequence_length=job.shape.sequence_length,
        recomputes=_recomputes(job),
    )


def _recomputes(job: Job) -> list[Recompute]:
    """What may be computed again; before fused attention all was, where memory was short (2205.05198)."""
    if job.shape.fused_attention:
        return list(Recompute)
    held = job.architecture.parameters_total * state_bytes(job.shape.precision).total
    limit = job.accelerator.memory_bytes
    is_short = limit is not None and held > limit.value
    return [Recompute.FULL] if is_short else [Recompute.NONE, Recompute.FULL]


def _fitting(job: Job, choice: LayoutChoice, figures: Calibration) -> Placement | None:
    machine = Machine.of(job.accelerator, job.shape.precision, figures, job.num_devices)
    best: Placement | None = None
    fitting = _placements(job, choice)
    tightest = min((_batch(job, layout) for layout, _ in fitting), default=0.0)
    most = max(tightest, MAX_BATCH_GROWTH * job.batch_tokens)
    for layout, held in fitting:
        batch = _batch(job, layout)
        if batch > most:
            continue
        time = TokenTimer(job.architecture, job.shape, layout, machine, figures).time(batch)
        if best is None or time.total < best.time.total:
            limit = job.accelerator.memory_bytes
            best = Placement(
                layout=layout,
                memory=held,
                memory_bytes=None if limit is None else limit.value,
                time=time,
                batch_tokens=batch,
            )
    return best


def _batch(job: Job, layout: Layout) -> float:
    """Tokens of a step: a whole number of micro batches on each data-parallel rank, at least one."""
    once = float(layout.dp * layout.micro_batch * job.shape.sequence_length)
    return max(1, round(job.batch_tokens / once)) * once


def _nearest(job: Job, choice: LayoutChoice, figures: Calibration) -> Placement | None:
    """The fitting layout with the fewest changes: one field freed at a time, then all."""
    for field in ("recompute", "micro_batch", "zero", "cp", "ep", "pp", "tp"):
        if getattr(choice, field) is not None:
            found = _fitting(job, replace(choice, **{field: None}), figures)
            if found is not None:
                return found
    return _fitting(job, LayoutChoice(), figures)


def _more_devices(job: Job, figures: Calibration) -> str:
    held = job.architecture.parameters_total * state_bytes(job.shape.precision).total
    memory = job.accelerator.memory_bytes
    for count in _larger_counts(job):
        if memory is not None and held > memory.value * count:
            continue
        found = _fitting(replace(job, num_devices=count), LayoutChoice(), figures)
        if found is not None:
            return f"the nearest that fits: --devices {count} with {_given(found.layout)}"
    return "shorten the sequence, or take an accelerator with more memory"


def _larger_counts(job: Job) -> list[int]:
    """More devices than the job has: parts of a node, then whole nodes, each a third or a half more."""
    node = job.accelerator.devices_per_node
    nodes = [node * base << octave for base in (1, 3) for octave in range(MOST_DEVICES.bit_length())]
    return [one for one in sorted({*divisors(node), *nodes}) if job.num_devices < one <= MOST_DEVICES]


def _shortage(job: Job, choice: LayoutChoice) -> str:
    layouts = _candidates(job, choice)
    needs = [training_memory(job.architecture, job.shape, layout).total for layout in layouts]
    limit = job.accelerator.memory_bytes
    has = limit.value / 1e9 if limit else 0.0
    if not needs:
        return "no such division of the devices"
    return f"it takes at least {min(needs) / 1e9:.1f} GB a device of {has:.0f} GB"


def _given(layout: Layout) -> str:
    ep = (f",ep={layout.ep}" if layout.ep > 1 else "") + (f",cp={layout.cp}" if layout.cp > 1 else "")
    return f"tp={layout.tp},pp={layout.pp}{ep},zero={layout.zero},recompute={layout.recompute}"


def _shown(choice: LayoutChoice) -> str:
    names = ("tp", "pp", "ep", "cp", "zero", "micro_batch", "recompute", "schedule")
    return ",".join(f"{name}={getattr(choice, name)}" for name in names if getattr(choice, name) is not None)
