"""Servers that several tests ask about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openbook.economics.accelerators import Precision, find_accelerator
from openbook.economics.serving.layout import Server
from openbook.model.architecture import Architecture
from openbook.model.decoders import read_decoder
from openbook.model.shapes import DenseFeedForward, GroupedAttention, Layer, group_layers

CONFIGS = Path(__file__).parents[3] / "fixtures" / "configs"


@pytest.fixture(scope="session")
def v3() -> Architecture:
    path = CONFIGS / "deepseek-v3.json"
    return read_decoder(json.loads(path.read_text(encoding="utf-8")), str(path))


@pytest.fixture(scope="session")
def v3_on_h800(v3: Architecture) -> Server:
    return Server(architecture=v3, accelerator=find_accelerator("h800"), precision=Precision.FP8)


@pytest.fixture(scope="session")
def dense() -> Architecture:
    """A dense decoder of 80 layers with 8 key heads of 128, as many are."""
    layer = Layer(
        attention=GroupedAttention(num_heads=64, num_kv_heads=8, head_dim=128),
        feed_forward=DenseFeedForward(intermediate_size=28_672),
        num_norm_elements=2 * 8192,
    )
    return Architecture(
        model_type="dense",
        vocab_size=32_000,
        hidden_size=8192,
        groups=group_layers([layer] * 80),
        tie_word_embeddings=False,
    )


@pytest.fixture(scope="session")
def dense_on_h100(dense: Architecture) -> Server:
    return Server(architecture=dense, accelerator=find_accelerator("h100"))
