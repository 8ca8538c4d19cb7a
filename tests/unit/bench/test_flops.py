"""The arithmetic beside the limits."""

from __future__ import annotations

from openbook.bench.flops import flops_of
from openbook.model.config import GQAConfig, ModelConfig

DENSE = ModelConfig(
    vocab_size=100,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    attention=GQAConfig(num_key_value_heads=2, head_dim=4),
)


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
