from __future__ import annotations

import time

import pytest
import torch

from openbook.errors import UserError
from openbook.train.device import Stopwatch, choose_device


def test_auto_takes_a_gpu_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(UserError, match="torch sees no GPU"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
    assert choose_device("cuda").type == "cuda"
    assert choose_device("cpu").type == "cpu"


def test_an_unknown_device_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="use one of auto, cpu, cuda"):
        choose_device("tpu")


def test_each_lap_counts_from_the_one_before() -> None:
    watch = Stopwatch(torch.device("cpu"))
    time.sleep(0.05)
    first, second = watch.lap(trained_tokens=7), watch.lap()
    assert first.device_microseconds >= 50_000
    assert first.cpu_microseconds < first.device_microseconds  # sleeping is no work
    assert second.device_microseconds < first.device_microseconds
    assert (first.trained_tokens, second.trained_tokens) == (7, 0)
    assert first.peak_memory_bytes > 10_000_000
