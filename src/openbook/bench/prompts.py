"""Prompts of random tokens: the same for all contestants of a round, others in each round. No torch."""

from __future__ import annotations

import random

_FIRST_TOKEN = 16
"""Below it vocabularies keep their special tokens."""


def random_prompts(round_number: int, *, num_prompts: int, length: int, vocab_size: int) -> list[list[int]]:
    """`num_prompts` prompts of `length` tokens each, a function of the round's number."""
    draw = random.Random(f"openbook bench {round_number}")
    tokens = range(_FIRST_TOKEN, vocab_size)
    return [draw.choices(tokens, k=length) for _ in range(num_prompts)]
