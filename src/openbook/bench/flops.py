"""The arithmetic of work, to be set against what the machine could do."""

from __future__ import annotations

from openbook.model.config import ModelConfig
from openbook.model.cost import count


def flops_of(config: ModelConfig, *, num_prompt_tokens: int, num_new_tokens: int, context: int) -> int:
    """Floating-point operations to read prompts and to make new tokens at a mean context of `context`.

    Every prompt token goes through the layers, but only the new tokens need the output head.
    """
    cost = count(config)
    whole = cost.forward_flops_per_token(2 * context).total  # causal: a mean context of half the length
    head = 2 * config.vocab_size * config.hidden_size
    return num_prompt_tokens * (whole - head) + num_new_tokens * whole
