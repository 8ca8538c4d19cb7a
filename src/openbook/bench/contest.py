"""A contest: the same work for several contestants in turn, so that a disturbance hits them all. No torch."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from openbook.bench.measurement import Unit

T = TypeVar("T")
"""What one contestant did in one round: a Timing, or what a benchmark of other work reads its figures off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What one contestant did in one round.

    Seconds count from the start of the work: `first_seconds` to the moment when every sequence has its
    first token (the prompts are read), `seconds` to the end. Of `num_new_tokens`, `num_first_tokens` were
    made by that moment: one a sequence, or more where some wrote while others still read.
    """

    num_prompt_tokens: int
    num_new_tokens: int
    num_first_tokens: int
    first_seconds: float
    seconds: float

    @property
    def prefill_rate(self) -> float:
        """Prompt tokens a second."""
        return self.num_prompt_tokens / self.first_seconds

    @property
    def decode_rate(self) -> float:
        """New tokens a second, over all sequences, once each has its first."""
        return (self.num_new_tokens - self.num_first_tokens) / (self.seconds - self.first_seconds)

    @property
    def decode_milliseconds(self) -> float:
        """Milliseconds a new token, once each sequence has its first."""
        return 1e3 / self.decode_rate

    @property
    def whole_rate(self) -> float:
        """New tokens a second, reading the prompts included."""
        return self.num_new_tokens / self.seconds


Runner = Callable[[int], T]
"""Does the work of one round, which differs from that of the others, and is equal for all contestants."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line(Generic[T]):
    """One figure of a contest: how it is read off a timing, and what the machine could do at most."""

    suffix: str
    """Behind the name of the case: `""`, or `-whole`."""
    unit: Unit
    read: Callable[[T], float]
    limit: float | None = None
    notes: tuple[str, ...] = ()


WARM_UP = -1
"""The round that is not counted: caches fill, memory is got, kernels are chosen."""


def interleave(
    contestants: Mapping[str, Runner[T]],
    *,
    repeats: int,
    on_round: Callable[[int, Mapping[str, T]], None],
) -> dict[str, list[T]]:
    """A B A B ...: after one uncounted round, each contestant `repeats` times, in turn.

    `on_round` hears the number of each counted round and what its contestants did.
    """
    assert repeats >= 1
    for run in contestants.values():
        run(WARM_UP)
    timings: dict[str, list[T]] = {name: [] for name in contestants}
    for number in range(repeats):
        for name, run in contestants.items():
            timings[name].append(run(number))
        on_round(number, {name: done[-1] for name, done in timings.items()})
    return timings


def median(timings: Sequence[T], line: Line[T]) -> float:
    """The median of one figure over the rounds."""
    return statistics.median(line.read(timing) for timing in timings)
