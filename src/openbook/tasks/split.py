"""Which split a question belongs to, and how a family draws the problem at one address.

    Address(chain, seed 7, held_out, index 12) -> random numbers -> candidate, candidate, ...
                                        the first whose text hashes into held_out is the problem

The split is a property of the question's own text, never of the seed, so that a held-out problem
cannot turn up in training under another seed. What is hashed is the canonical text: a family maps
questions that differ in appearance only (the letters of a chain, the order of the numbers) to one text.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from openbook.errors import UserError
from openbook.tasks.problem import Family, Problem, Split

Candidate = TypeVar("Candidate")

HELD_OUT_ONE_IN = 10
"""One question in ten is held out."""

MAX_TRIES = 2000
"""Candidates for one address; 2000 misses in a row have a chance of 0.9**2000 < 1e-91 in a large space."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where a problem lives. Example: the id `chain/held_out/7/12` is seed 7, index 12."""

    family: str
    seed: int
    split: Split
    index: int

    @property
    def id(self) -> str:
        return f"{self.family}/{self.split}/{self.seed}/{self.index}"

    def rng(self) -> random.Random:
        """A fresh generator for this address; a string seed is hashed by SHA-512, alike on all machines."""
        return random.Random(self.id)


def split_of(canonical: str) -> Split:
    """The split of a question, from the SHA-256 of its canonical text (letter case and spacing ignored)."""
    text = " ".join(canonical.casefold().split())
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    held_out = int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0
    return Split.HELD_OUT if held_out else Split.TRAIN


def draw(
    address: Address,
    candidate: Callable[[random.Random], Candidate],
    canonical: Callable[[Candidate], str],
) -> Candidate:
    """The first candidate at `address` whose canonical text is of the split asked for.

    Raises UserError when the family's settings leave no such problem.
    """
    rng = address.rng()
    for _ in range(MAX_TRIES):
        found = candidate(rng)
        if split_of(canonical(found)) is address.split:
            return found
    raise UserError(
        f"family {address.family!r} has no {address.split} problem after {MAX_TRIES} draws",
        "widen its settings: too few different questions are possible",
    )


def distinct_problems(family: Family, seed: int, split: Split, count: int) -> list[Problem]:
    """The first `count` problems with different questions, in the order of their index.

    Raises UserError when the family runs dry, which small settings do: a share of correct
    answers over repeated questions would claim more certainty than it has.
    """
    found: dict[str, Problem] = {}
    index = misses = 0
    while len(found) < count:
        problem = family.problem(seed, split, index)
        misses = misses + 1 if problem.question in found else 0
        found.setdefault(problem.question, problem)
        index += 1
        if misses == MAX_TRIES:
            raise UserError(
                f"family {family.name!r} has only about {len(found)} different {split} problems, "
                f"and {count} were asked for",
                "ask for fewer, or widen the family's settings",
            )
    return list(found.values())
