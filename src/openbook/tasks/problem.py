"""Problem, Submission, Verdict and Family: what is asked, what came back, what was found, and who asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable


class Split(StrEnum):
    """Train and held-out problems never overlap: the split is a function of the question's text."""

    TRAIN = "train"
    HELD_OUT = "held_out"


class Outcome(StrEnum):
    """What a verifier found. Only `correct` and `wrong` are judgements of the answer.

    `unscorable`: the rule came to none; `timed_out`: it took too long; `crashed`: it broke.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    UNSCORABLE = "unscorable"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One question with its sealed answer.

    Example: `Problem(id="chain/held_out/7/12", family="chain", split=Split.HELD_OUT,
    question="a 3, b +4, c *2. c?", answer="4", difficulty=2)`.
    `facts` is what the family's verifier and solution writer need beyond the answer
    (the operations of a chain, the numbers of a Countdown); JSON values only.
    """

    id: str
    family: str
    split: Split
    question: str
    answer: str
    difficulty: int
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """What came back: the answer as it was read, and the whole completion that it was read out of."""

    problem: Problem
    answer: str
    completion: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a verifier found, and why in words."""

    outcome: Outcome
    reason: str
    value: float | None = None
    """What a reward function of the user's said, where one judges: it counts in place of right or wrong."""

    @property
    def correct(self) -> bool:
        return self.outcome is Outcome.CORRECT


class Family(Protocol):
    """A seeded family of problems: the same (seed, split, index) gives the same problem."""

    @property
    def name(self) -> str: ...

    def problem(self, seed: int, split: Split, index: int) -> Problem: ...

    def verify(self, problem: Problem, answer: str) -> Verdict:
        """Judge the text of an answer. Never evaluates it, never raises on any text."""
        ...


@runtime_checkable
class BatchFamily(Protocol):
    """What a family may offer besides: judging many submissions at once, in processes side by side."""

    def verify_many(self, submissions: Sequence[Submission]) -> list[Verdict]:
        """One verdict each, in order: the same that they would get one by one. Never raises on any text."""
        ...


@runtime_checkable
class FiniteFamily(Protocol):
    """What a family may offer besides: how many problems it has, where that is few."""

    def num_problems(self, split: Split) -> int:
        """How many different ones. An index counts on from the first after the last."""
        ...


def verify_all(family: Family, submissions: Sequence[Submission]) -> list[Verdict]:
    """One verdict each, in order; at once where the family can."""
    if isinstance(family, BatchFamily):
        return family.verify_many(submissions)
    return [family.verify(one.problem, one.answer) for one in submissions]
