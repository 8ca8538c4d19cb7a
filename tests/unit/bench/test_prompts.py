"""Prompts of random tokens."""

from __future__ import annotations

from openbook.bench.prompts import random_prompts


def prompts(number: int) -> list[list[int]]:
    return random_prompts(number, num_prompts=3, length=20, vocab_size=40)


def test_a_round_gives_all_contestants_the_same_prompts_and_the_next_round_others() -> None:
    assert prompts(0) == prompts(0)
    assert prompts(0) != prompts(1) and prompts(-1) != prompts(1)


def test_prompts_have_their_length_and_no_special_tokens() -> None:
    drawn = prompts(0)
    assert [len(prompt) for prompt in drawn] == [20, 20, 20]
    assert all(16 <= token < 40 for prompt in drawn for token in prompt)
