"""Measuring this machine: what goes into its profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date as Date

import torch

from openbook.kernels.limits import Limits, beyond_cache_bytes
from openbook.runs.machine import LoadNote, memory_bytes, now, this_machine
from openbook.runs.machine_profile import DtypeName, MachineProfile, ProductRate, ReadRate, ShapeClass

_DTYPES: Mapping[DtypeName, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
Shape = tuple[int, int, int]
"""Rows, width in, width out."""

_LAYERS = ((128, 128), (128, 384), (384, 128))
"""The layers of the nano story's model."""
SHAPES: Mapping[ShapeClass, tuple[Shape, ...]] = {
    ShapeClass.SQUARE: ((1024, 1024, 1024), (2048, 2048, 2048)),
    ShapeClass.SKINNY: tuple((2048, *layer) for layer in _LAYERS),
    ShapeClass.FEW_ROWS: tuple((32, *layer) for layer in _LAYERS),
}


def measure_machine(
    *,
    today: Date,
    limits: Limits | None = None,
    shapes: Mapping[ShapeClass, tuple[Shape, ...]] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> MachineProfile:
    """The profile of the processors of this machine, on one thread and on all; `tell` hears of progress.

    Takes some seconds with the usual shapes. An accelerator beside the processors is not measured.
    """
    machine = this_machine()
    limits = limits or Limits()
    shapes = shapes or SHAPES
    threads = sorted({1, machine.num_cpus})
    before = now()
    products = []
    for shape_class, name, num_threads in _plan(shapes, threads):
        tell(f"{shape_class} products in {name}, {num_threads} thread{'s' if num_threads > 1 else ''}")
        products += [
            ProductRate(
                dtype=name,
                shape_class=shape_class,
                num_threads=num_threads,
                num_rows=shape[0],
                width_in=shape[1],
                width_out=shape[2],
                flops_per_second=limits.product_rate(num_threads, _DTYPES[name], shape),
            )
            for shape in shapes[shape_class]
        ]
    tell("reading memory")
    size = beyond_cache_bytes()
    reads = tuple(
        ReadRate(num_threads=count, bytes_per_second=limits.read_bandwidth(count, size)) for count in threads
    )
    tell("starting operations")
    dispatch, gradient = (limits.dispatch_seconds(with_gradient=whether) for whether in (False, True))
    load = LoadNote.between(before, now(), num_threads=machine.num_cpus)
    return MachineProfile(
        measured_on=today,
        processor=machine.processor,
        num_cpus=machine.num_cpus,
        memory_bytes=memory_bytes(),
        torch=machine.torch,
        products=tuple(products),
        reads=reads,
        dispatch_microseconds=1e6 * dispatch,
        gradient_microseconds=1e6 * gradient,
        load=str(load),
        is_disturbed=load.is_disturbed,
    )


def _plan(
    shapes: Mapping[ShapeClass, tuple[Shape, ...]], threads: list[int]
) -> list[tuple[ShapeClass, DtypeName, int]]:
    return [(shape_class, name, count) for shape_class in shapes for name in _DTYPES for count in threads]
