"""The limits: that they are measured once, what they are measured over, and the arithmetic beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from openbook.bench import limits
from openbook.bench.limits import Limits, beyond_cache_bytes, flops_of, last_cache_bytes, torch_threads
from openbook.model.config import GQAConfig, ModelConfig

DENSE = ModelConfig(
    vocab_size=100,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    attention=GQAConfig(num_key_value_heads=2, head_dim=4),
)


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


def test_only_new_tokens_need_the_head() -> None:
    def flops(num_prompt_tokens: int, num_new_tokens: int, context: int = 0) -> int:
        return flops_of(
            DENSE, num_prompt_tokens=num_prompt_tokens, num_new_tokens=num_new_tokens, context=context
        )

    layers = 4 * 8 * 8 + 3 * 8 * 16
    head = 100 * 8
    assert flops(0, 1) == 2 * (layers + head)
    assert flops(1, 0) == 2 * layers
    # Per layer and position 2 heads meet a key and a value of 4 numbers: 2 * 2 * (4 + 4) operations.
    assert flops(0, 1, context=10) - flops(0, 1) == 10 * 2 * 2 * 8
