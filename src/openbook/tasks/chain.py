"""Chain arithmetic: `a 3, b +4, c *2. c?`, strictly in order, modulo 10.

    question `a 3, b +4, c *2. c?`           a is 3, b is a + 4, c is b * 2: what is c?
    trace    (a, 3) (b, 7) (c, 4)            7 * 2 = 14, and 14 modulo 10 is 4
    answer   4

Each variable depends on the one before it, so no step can be skipped and every step can be
checked: the smallest problem on which thinking longer pays. The dials are the fields of ChainConfig.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from openbook.config import config
from openbook.errors import UserError
from openbook.tasks.answers import verify_number
from openbook.tasks.problem import Problem, Split, Verdict
from openbook.tasks.split import Address, draw

LETTERS = string.ascii_lowercase
OPERATORS = "+-*"
MAX_OPERAND = 9


@config
class ChainConfig:
    """The dials of chain arithmetic. Difficulty is the number of operations."""

    kind: Literal["chain"] = "chain"
    min_operations: int = 2
    """Shortest chain, in operations; a chain of n operations has n + 1 variables."""
    max_operations: int = 6
    """Longest chain, in operations."""
    modulus: int = 10
    """Values are kept in 0 .. modulus - 1; 10 keeps every value one digit."""
    operations: str = OPERATORS
    """Which of + - * occur, each as likely as the others."""
    start_letters: int = 8
    """How many different first letters occur, from `a` on; 1 lets every chain begin with `a`."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_operations <= self.max_operations:
            raise ValueError("min_operations must be at least 1 and at most max_operations")
        if self.modulus < 2:
            raise ValueError("modulus must be at least 2")
        if not self.operations or set(self.operations) - set(OPERATORS):
            raise ValueError(f"operations must be some of {OPERATORS}, not {self.operations!r}")
        if self.start_letters < 1 or self.start_letters + self.max_operations > len(LETTERS):
            raise ValueError("start_letters must be at least 1, and with max_operations at most 26")


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """What a question says: `a 3, b +4. b?` has start_letter `a`, first 3, steps `(("+", 4),)`."""

    start_letter: str
    first: int
    steps: tuple[tuple[str, int], ...]

    @property
    def variables(self) -> tuple[str, ...]:
        start = LETTERS.index(self.start_letter)
        return tuple(LETTERS[start : start + len(self.steps) + 1])

    @property
    def question(self) -> str:
        names = self.variables
        lines = [f"{names[0]} {self.first}"]
        for name, (operator, operand) in zip(names[1:], self.steps, strict=True):
            lines.append(f"{name} {operator}{operand}")
        return f"{', '.join(lines)}. {names[-1]}?"

    @property
    def canonical(self) -> str:
        """The question with its letters renamed to begin at `a`: the same problem, whatever its letters."""
        return Chain(start_letter="a", first=self.first, steps=self.steps).question

    def values(self, modulus: int) -> tuple[int, ...]:
        """The value of each variable, in 0 .. modulus - 1."""
        values = [self.first % modulus]
        for operator, operand in self.steps:
            values.append(apply(operator, values[-1], operand) % modulus)
        return tuple(values)


def apply(operator: str, value: int, operand: int) -> int:
    """`value operator operand` before the modulus."""
    if operator == "+":
        return value + operand
    if operator == "-":
        return value - operand
    assert operator == "*", f"unknown operator {operator!r}"
    return value * operand


class ChainFamily:
    """The family of chains under one config."""

    def __init__(self, config: ChainConfig) -> None:
        self.config = config

    @property
    def name(self) -> str:
        return "chain"

    def problem(self, seed: int, split: Split, index: int) -> Problem:
        """The problem at this address. Raises UserError when the settings allow too few questions."""
        address = Address(family=self.name, seed=seed, split=split, index=index)
        chain = draw(address, self._candidate, lambda candidate: candidate.canonical)
        values = chain.values(self.config.modulus)
        return Problem(
            id=address.id,
            family=self.name,
            split=split,
            question=chain.question,
            answer=str(values[-1]),
            difficulty=len(chain.steps),
            facts={
                "variables": list(chain.variables),
                "values": list(values),
                "operations": [list(step) for step in chain.steps],
                "modulus": self.config.modulus,
            },
        )

    def verify(self, problem: Problem, answer: str) -> Verdict:
        """Correct when the answer is the sealed number, written as one numeral."""
        return verify_number(problem.answer, answer)

    def _candidate(self, rng: random.Random) -> Chain:
        config = self.config
        num_operations = rng.randint(config.min_operations, config.max_operations)
        return Chain(
            start_letter=LETTERS[rng.randrange(config.start_letters)],
            first=rng.randrange(min(10, config.modulus)),
            steps=tuple(
                (rng.choice(config.operations), rng.randint(1, MAX_OPERAND)) for _ in range(num_operations)
            ),
        )


def trace(problem: Problem) -> list[tuple[str, int]]:
    """The steps of a chain problem: each variable with its value, in order."""
    facts = cast(Mapping[str, list[object]], problem.facts)
    pairs = zip(facts["variables"], facts["values"], strict=True)
    return [(cast(str, variable), cast(int, value)) for variable, value in pairs]


_FIRST = re.compile(r"([a-z]) ([0-9]{1,9})")
_STEP = re.compile(r"([a-z]) ([-+*])([0-9]{1,9})")


def parse_question(text: str) -> Chain:
    """Read a chain question back; `parse_question(chain.question) == chain`.

    Raises UserError for any other text, naming the part that does not fit.
    """
    body, dot, asked = text.strip().partition(". ")
    parts = body.split(", ")
    first = _FIRST.fullmatch(parts[0])
    if not (dot and first):
        raise _no_chain(text, "it must begin like `a 3` and end like `. c?`")
    steps = []
    name = first[1]
    for part in parts[1:]:
        step = _STEP.fullmatch(part)
        if step is None or ord(step[1]) != ord(name) + 1:
            raise _no_chain(text, f"{part!r} does not continue from {name!r}")
        name = step[1]
        steps.append((step[2], int(step[3])))
    if asked != f"{name}?":
        raise _no_chain(text, f"it must ask for its last variable, {name!r}")
    return Chain(start_letter=first[1], first=int(first[2]), steps=tuple(steps))


def _no_chain(text: str, why: str) -> UserError:
    return UserError(f"not a chain question: {text[:80]!r}", why)
