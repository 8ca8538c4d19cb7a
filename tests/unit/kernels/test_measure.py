"""The measuring of the machine: everything that a profile needs is in it, and it is this machine."""

from __future__ import annotations

from datetime import date

import pytest

from openbook.kernels import limits, measure
from openbook.kernels.limits import Limits
from openbook.kernels.measure import SHAPES, measure_machine
from openbook.runs.machine import this_machine
from openbook.runs.machine_profile import ShapeClass

SMALL = {ShapeClass.SQUARE: ((64, 64, 64),), ShapeClass.SKINNY: ((64, 8, 8), (64, 8, 16))}


def test_each_shape_is_measured_in_each_precision_on_one_thread_and_on_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "beyond_cache_bytes", lambda: 1 << 20)
    monkeypatch.setattr(measure, "beyond_cache_bytes", lambda: 1 << 20)
    heard: list[str] = []
    today = date(2026, 11, 24)
    profile = measure_machine(today=today, limits=Limits(num_tries=1), shapes=SMALL, tell=heard.append)
    threads = {1, this_machine().num_cpus}
    assert profile.is_of(this_machine()) and profile.measured_on == today
    assert len(profile.products) == 3 * 2 * len(threads)
    assert {rate.num_threads for rate in profile.reads} == threads
    for dtype in ("fp32", "bf16"):
        for shape_class in SMALL:
            assert 1e5 < profile.product_rate(dtype, shape_class) < 1e15
    assert 0.05 < profile.dispatch_microseconds < 1000
    assert profile.gradient_microseconds > profile.dispatch_microseconds, "a backward pass costs too"
    assert heard[0] == "square products in fp32, 1 thread" and heard[-1] == "starting operations"


def test_the_usual_shapes_have_every_class() -> None:
    assert set(SHAPES) == set(ShapeClass)
    assert all(rows >= 8 * width_in for rows, width_in, _ in SHAPES[ShapeClass.SKINNY][:1])
