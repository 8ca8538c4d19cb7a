"""Dynamic sampling: groups whose rewards are all equal are replaced by drawing more problems (DAPO 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from openbook.rl.advantage import has_signal
from openbook.rl.types import Group
from openbook.runs.usage import Usage

Sample = Callable[[int, int, int], tuple[list[Group], Usage]]
"""`sample(start, count, number)`: the judged groups of `count` problems from the `start`-th of this step on,
and what they consumed; `number` counts the calls of a step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """What a step sampled, and what of it is learned from."""

    groups: tuple[Group, ...]
    """`num_problems` of them, in the order of drawing."""
    drawn: tuple[Group, ...]
    """All."""
    num_batches: int
    usage: Usage


def sample_groups(sample: Sample, *, num_problems: int, max_batches: int) -> Sampled:
    """Sample until `num_problems` groups have a signal, at most `max_batches` times; 1 takes what comes.

    After the first time as many are drawn as should fill the batch, going by the share with a signal so far.
    What is missing in the end is filled with the first groups that have none.
    """
    drawn: list[Group] = []
    usage, num_batches, count = Usage(), 0, num_problems
    while num_batches < max_batches and count:
        groups, used = sample(len(drawn), count, num_batches)
        drawn += groups
        usage += used
        num_batches += 1
        num_good = sum(map(has_signal, drawn))
        missing = max(0, num_problems - num_good)
        count = min(num_problems, math.ceil(missing * len(drawn) / max(1, num_good)))
    by_signal = sorted(range(len(drawn)), key=lambda index: not has_signal(drawn[index]))
    chosen = sorted(by_signal[:num_problems])
    return Sampled(
        groups=tuple(drawn[index] for index in chosen),
        drawn=tuple(drawn),
        num_batches=num_batches,
        usage=usage,
    )
