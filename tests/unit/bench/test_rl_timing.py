"""What a step took: rates, the share of sampling, memory of this process alone, files that count once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from openbook.bench.rl_timing import StepTiming, StepWatch, installed_bytes, peak_bytes


def test_rates_are_new_tokens_over_the_seconds_of_each() -> None:
    timing = StepTiming(num_new_tokens=60, sampling_seconds=2.0, seconds=6.0, cpu_seconds=12.0, peak_bytes=1)
    assert (timing.rate, timing.cpu_rate, timing.sampling_rate) == (10.0, 5.0, 30.0)


def test_a_watch_counts_sampling_apart_and_forgets_the_step_before() -> None:
    watch = StepWatch()
    for _ in range(2):
        watch.start()
        with watch.sampling():
            time.sleep(0.02)
        with watch.sampling():
            time.sleep(0.01)
        time.sleep(0.01)
        timing = watch.stop(5)
        assert 0.03 <= timing.sampling_seconds < timing.seconds - 0.01 + 1e-3
        assert timing.seconds < 1 and timing.cpu_seconds < timing.seconds


def test_peak_memory_is_that_of_this_process_and_not_what_its_parent_held() -> None:
    held = bytearray(150 << 20)
    code = "from openbook.bench.rl_timing import peak_bytes; print(peak_bytes())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if not Path("/proc/self/status").exists():
        pytest.skip("only getrusage tells here, and it begins with the parent's")
    assert int(child.stdout) < len(held) < peak_bytes()


def test_what_is_required_is_counted_and_each_file_once(tmp_path: Path) -> None:
    alone = installed_bytes("annotated-types")
    assert 1_000 < alone < installed_bytes("pydantic"), "pydantic requires it"
    assert installed_bytes("pydantic", "annotated-types") == installed_bytes("pydantic")
    assert installed_bytes("no-such-distribution") == 0
    (tmp_path / "one.py").write_bytes(b"x" * 100)
    (tmp_path / "one.pyc").write_bytes(b"x" * 100)
    assert installed_bytes("annotated-types", folders=[tmp_path]) == alone + 100
