"""What does not fit is refused before anything is computed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from openbook.errors import UserError
from openbook.model.config import GQAConfig, ModelConfig
from openbook.r1 import fits
from openbook.r1.fits import Load, free_bytes, require_fit

SMALL = ModelConfig(
    vocab_size=400,
    hidden_size=64,
    num_hidden_layers=4,
    num_attention_heads=2,
    intermediate_size=128,
    attention=GQAConfig(num_key_value_heads=1, head_dim=32),
)
CPU = torch.device("cpu")


def test_a_small_model_fits_into_what_is_free() -> None:
    assert free_bytes(CPU) > 0
    require_fit(Load(model=SMALL, tokens_per_batch=4096), CPU)


def test_a_batch_that_is_too_large_is_refused_with_the_nearest_that_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = Load(model=SMALL, tokens_per_batch=65536)
    available = replace(load, tokens_per_batch=16384).memory.total / fits.SHARE_OF_FREE_MEMORY + 1000
    monkeypatch.setattr(fits, "free_bytes", lambda device: int(available))
    with pytest.raises(UserError, match=r"activations .*; tokens_per_batch = 16384 fits"):
        require_fit(load, CPU)


def test_a_model_that_is_too_deep_is_told_the_depth_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = Load(model=replace(SMALL, num_hidden_layers=64), tokens_per_batch=512)
    half = replace(deep, model=replace(SMALL, num_hidden_layers=32))
    available = half.memory.total / fits.SHARE_OF_FREE_MEMORY + 1000
    monkeypatch.setattr(fits, "free_bytes", lambda device: int(available))
    with pytest.raises(UserError, match="num_hidden_layers = 32"):
        require_fit(deep, CPU)


def test_a_reference_costs_its_weights() -> None:
    alone, beside = (Load(model=SMALL, tokens_per_batch=512, num_companions=n).memory for n in (0, 1))
    assert beside.weights == 2 * alone.weights and beside.optimizer == alone.optimizer
