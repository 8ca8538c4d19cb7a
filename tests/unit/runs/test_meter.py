from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from openbook.runs.meter import Meter
from openbook.runs.usage import Usage


def test_a_meter_loses_nothing_between_threads() -> None:
    meter = Meter()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(meter.record, [Usage(completion_tokens=3, peak_memory_bytes=n) for n in range(500)]))
    assert meter.total == Usage(completion_tokens=1500, peak_memory_bytes=499)
