"""What holds for all tests: no deadline on a shared machine, and `gpu` is skipped where there is none.

And what many of them share: a tokenizer and a network small enough to be made anew for every test.
Torch is imported only by those who ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from openbook.model.config import GQAConfig, MLAConfig, ModelConfig, MoEConfig
from openbook.tokens.template import prompt, response
from openbook.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from openbook.model.transformer import Transformer

settings.register_profile("openbook", deadline=None)
settings.load_profile("openbook")

TINY = ModelConfig(
    vocab_size=320,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=48,
    attention=MLAConfig(
        q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8
    ),
    moe=MoEConfig(n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=16),
    num_nextn_predict_layers=1,
    max_position_embeddings=256,
)
TINY_GQA = replace(
    TINY,
    attention=GQAConfig(num_key_value_heads=1, head_dim=8, qk_norm=True),
    moe=None,
    num_nextn_predict_layers=0,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="torch sees no GPU"))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """About 300 tokens, learned from a few chains."""
    texts = [
        prompt(f"{x} {n}, {y} +4, {z} *2. {z}?") + response(f"{y} +4 = seven, {z} *2 = four", "4")
        for n, (x, y, z) in enumerate(("abc", "bcd", "cde", "def", "efg"))
    ]
    return Tokenizer.train(texts, vocab_size=320)


@pytest.fixture(scope="session")
def make_tiny() -> Callable[..., Transformer]:
    """`make_tiny(seed=0, gqa=False, **changed_fields)`: MLA, experts and one MTP module, or dense GQA."""
    import torch

    from openbook.model.init import initialize
    from openbook.model.transformer import Transformer

    def make(*, seed: int = 0, gqa: bool = False, **fields: Any) -> Transformer:
        config = replace(TINY_GQA if gqa else TINY, **fields)
        model = Transformer(config)
        initialize(model, config, torch.Generator().manual_seed(seed))
        return model.train()

    return make


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The order of a sum depends on the number of threads: bit-for-bit tests use one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
