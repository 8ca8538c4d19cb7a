"""The limits: that they are measured once, and what they are measured over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from openbook.kernels import limits
from openbook.kernels.limits import Limits, beyond_cache_bytes, last_cache_bytes, torch_threads


def test_the_last_cache_is_the_largest_that_the_system_names(tmp_path: Path) -> None:
    for index, size in enumerate(("48K", "2048K", "32M")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    assert last_cache_bytes(tmp_path) == 32 << 20
    assert last_cache_bytes(tmp_path / "nothing") == 64 << 20


def test_a_buffer_beyond_the_cache_takes_no_more_than_a_part_of_free_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "last_cache_bytes", lambda: 1000)
    monkeypatch.setattr(limits, "_free_bytes", lambda unknown: 1_000_000)
    assert beyond_cache_bytes() == 2000
    monkeypatch.setattr(limits, "_free_bytes", lambda unknown: 4000)
    assert beyond_cache_bytes() == 1000


def test_reading_counts_the_faster_of_the_buffers_and_each_is_measured_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, int]] = []

    def read(num_threads: int, num_bytes: int, num_tries: int) -> float:
        asked.append((num_threads, num_bytes))
        return 10.0 if num_bytes > 5 << 20 else 30.0

    monkeypatch.setattr(limits, "_best_read", read)
    monkeypatch.setattr(limits, "beyond_cache_bytes", lambda: 8 << 20)
    found = Limits()
    assert found.read_bandwidth(2, 2 << 20) == 30.0
    assert found.read_bandwidth(2, 6 << 20) == 10.0
    assert found.read_bandwidth(2, 2 << 20) == 30.0
    assert sorted(asked) == [(2, 2 << 20), (2, 6 << 20), (2, 8 << 20)]


def test_the_measuring_itself_gives_figures_that_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "beyond_cache_bytes", lambda: 1 << 20)
    monkeypatch.setattr(limits, "_GEMM_SIZES", (32,))
    found = Limits(num_tries=1)
    assert 1e6 < found.read_bandwidth(1, 1 << 20) < 1e13
    assert 1e4 < found.gemm_rate(1, torch.bfloat16) < 1e15


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
