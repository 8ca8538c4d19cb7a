from __future__ import annotations

from collections.abc import Sequence

import pytest

from openbook.economics.serving.measured import split_times
from openbook.economics.serving.workloads import NUM_ROUNDS, measure_works
from openbook.errors import UserError
from openbook.runs.usage import Usage


class Sampler:
    """Takes 1 ms a computed token, 0.01 ms a cached one, 5 ms a sampled one, and remembers prompts."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seen: set[tuple[int, ...]] = set()

    def __call__(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> Usage:
        cached = sum(len(prompt) - 16 for prompt in prompts if tuple(prompt) in self.seen)
        computed = sum(map(len, prompts)) - cached
        completion = len(prompts) * num_tokens
        self.seen |= set(map(tuple, prompts))
        self.now += 1e-3 * computed + 1e-5 * cached + 5e-3 * completion
        return Usage(prompt_tokens=computed, cached_tokens=cached, completion_tokens=completion)


@pytest.mark.parametrize("context", [64, 512, 8192])
def test_the_seconds_of_a_sampler_are_found_whatever_its_context(context: int) -> None:
    sampler = Sampler()
    works = measure_works(sampler, vocab_size=1000, context_tokens=context, clock=lambda: sampler.now)
    assert len(works) == 3 * NUM_ROUNDS
    times = split_times(works)
    assert times.prompt_seconds == pytest.approx(1e-3)
    assert times.cached_seconds == pytest.approx(1e-5, rel=1e-3)
    assert times.completion_seconds == pytest.approx(5e-3)
    assert times.unexplained < 1e-9


def test_a_context_too_short_to_measure_in_is_refused() -> None:
    with pytest.raises(UserError, match="10 tokens is too short"):
        measure_works(Sampler(), vocab_size=10, context_tokens=10)
