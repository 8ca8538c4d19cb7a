"""The engine reads matrices as they are stored; the modules dequantise them. Same log-probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.types import SamplingParams
from openbook.model.config import GQAConfig
from openbook.model.transformer import Transformer
from openbook.quant.formats import WeightFormat
from openbook.quant.modules import quantize_model

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]]
MODELS: dict[str, dict[str, Any]] = {
    "mla, experts": {},
    "mla, wider than a block of fp8": {
        "hidden_size": 160,
        "intermediate_size": 200,
        "num_attention_heads": 4,
        "num_hidden_layers": 1,
    },
    "gqa, tied": {
        "gqa": True,
        "hidden_size": 64,
        "tie_word_embeddings": True,
        "attention": GQAConfig(num_key_value_heads=1, head_dim=32),
        "attention_bias": True,
    },
}


@pytest.mark.parametrize("stored", WeightFormat)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("decode", ["auto", "torch"])
def test_the_engine_samples_from_what_the_quantised_model_computes(
    make_tiny: Callable[..., Transformer], name: str, stored: WeightFormat, decode: Any
) -> None:
    plain = make_tiny(seed=3, vocab_size=64, init_std=0.1, **MODELS[name]).eval()
    model = quantize_model(plain, stored)
    engine = Engine(model, EngineConfig(decode=decode), stop_token_ids=())
    sampled = engine.generate(PROMPTS, SamplingParams(max_tokens=12), num_generations=2, seed=7)
    for completion in [one for group in sampled.completions for one in group]:
        ids = torch.tensor([[*completion.prompt_ids, *completion.token_ids]])
        with torch.no_grad():
            logprobs = model.logits(model(ids).hidden_BTD[0]).log_softmax(-1)
        scored = logprobs[:-1].gather(1, ids[0, 1:, None])[len(completion.prompt_ids) - 1 :, 0]
        torch.testing.assert_close(scored, torch.tensor(completion.logprobs), atol=2e-5, rtol=0)
