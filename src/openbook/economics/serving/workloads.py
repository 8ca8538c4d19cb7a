"""Three workloads of different mixes, to measure a sampler's seconds for each kind of token. No torch.

Long prompts, the same again from the cache, and short prompts with long completions. The sampler is given as
a callable, so that a command and a server measure alike.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from openbook.economics.serving.measured import Work
from openbook.errors import UserError
from openbook.runs.usage import Usage

LONG_TOKENS = 512
SHORT_TOKENS = 16
NUM_COMPLETION_TOKENS = 128
NUM_SEQUENCES = 8
NUM_ROUNDS = 3
HOW = f"three workloads of {NUM_SEQUENCES} sequences, {NUM_ROUNDS} rounds after one to warm up"

Sample = Callable[[Sequence[Sequence[int]], int], Usage]
"""Samples up to so many tokens behind each prompt, ends, and says what that consumed."""


def measure_works(
    sample: Sample,
    *,
    vocab_size: int,
    context_tokens: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Work]:
    """The timed works, with new prompts in each round. Tokens are drawn evenly: what they say costs nothing.

    `context_tokens` is the most that a prompt and its completion may have. Raises UserError when that is
    too little to tell prompts and completions apart.
    """
    long = min(LONG_TOKENS, context_tokens - 8)
    short = min(SHORT_TOKENS, context_tokens // 4)
    completion = min(NUM_COMPLETION_TOKENS, context_tokens - short - 1)
    if long <= short or completion < 2:
        raise UserError(f"a context of {context_tokens} tokens is too short to measure in")

    def timed(prompts: Sequence[Sequence[int]], num_tokens: int) -> Work:
        started = clock()
        usage = sample(prompts, num_tokens)
        seconds = clock() - started
        return Work(
            prompt_tokens=usage.prompt_tokens + usage.recomputed_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            device_seconds=seconds,
        )

    def prompts(num_tokens: int, seed: int) -> list[list[int]]:
        draw = random.Random(seed)
        return [[draw.randrange(vocab_size) for _ in range(num_tokens)] for _ in range(NUM_SEQUENCES)]

    works: list[Work] = []
    for number in range(NUM_ROUNDS + 1):
        longs = prompts(long, 2 * number)
        found = [timed(longs, 1), timed(longs, 1), timed(prompts(short, 2 * number + 1), completion)]
        if number:  # the first round compiles, and fills the caches of the machine
            works += found
    return works
