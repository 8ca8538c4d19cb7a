"""Countdown: reach a target from a few numbers, each used at most once, with + - * /.

    question `from 3, 7, 8 make 32, each at most once, with + - * /.`
    answer   `8*(7-3)`        one of possibly many: any expression that keeps the rules is correct

Finding a solution takes search, checking one takes a parser: the task on which small models first
showed R1-Zero's search by themselves.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from openbook.config import config
from openbook.errors import UserError
from openbook.tasks.answers import correct, quote, text_fault, wrong
from openbook.tasks.arithmetic import evaluate
from openbook.tasks.problem import Problem, Split, Verdict
from openbook.tasks.split import Address, draw

OPERATORS = "+-*/"
MAX_ATTEMPTS = 10_000
_SUM, _PRODUCT, _NUMBER = 1, 2, 3  # how tightly an expression binds


@config
class CountdownConfig:
    """The dials of Countdown. Difficulty is how many numbers are given."""

    kind: Literal["countdown"] = "countdown"
    min_numbers: int = 3
    """Fewest numbers given."""
    max_numbers: int = 4
    """Most numbers given."""
    max_number: int = 20
    """Numbers are drawn from 1 to this, repeats allowed."""
    max_target: int = 100
    """Targets are whole numbers from 1 to this, and none of the numbers given."""
    operations: str = OPERATORS
    """Which of + - * / the sealed solution may use; the question names them, any may be used."""

    def __post_init__(self) -> None:
        if not 2 <= self.min_numbers <= self.max_numbers <= 8:
            raise ValueError("2 <= min_numbers <= max_numbers <= 8 must hold")
        if not 2 <= self.max_number <= 9999:
            raise ValueError("max_number must be 2 to 9999")
        if not 1 <= self.max_target <= 99999:
            raise ValueError("max_target must be 1 to 99999")
        if not self.operations or set(self.operations) - set(OPERATORS):
            raise ValueError(f"operations must be some of {OPERATORS}, not {self.operations!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Puzzle:
    """Numbers in the order shown, the target, and the solution the target was made from."""

    numbers: tuple[int, ...]
    target: int
    solution: str

    @property
    def canonical(self) -> str:
        """The same for every order of the numbers."""
        return f"{self.target} from {sorted(self.numbers)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Expression:
    value: int
    text: str
    binding: int


class CountdownFamily:
    """The family of Countdown puzzles under one config."""

    def __init__(self, config: CountdownConfig) -> None:
        self.config = config

    @property
    def name(self) -> str:
        return "countdown"

    def problem(self, seed: int, split: Split, index: int) -> Problem:
        """The problem at this address. Raises UserError when the settings allow too few puzzles."""
        address = Address(family=self.name, seed=seed, split=split, index=index)
        puzzle = draw(address, self._candidate, lambda candidate: candidate.canonical)
        given = ", ".join(map(str, puzzle.numbers))
        allowed = " ".join(self.config.operations)
        return Problem(
            id=address.id,
            family=self.name,
            split=split,
            question=f"from {given} make {puzzle.target}, each at most once, with {allowed}.",
            answer=puzzle.solution,
            difficulty=len(puzzle.numbers),
            facts={
                "numbers": list(puzzle.numbers),
                "target": puzzle.target,
                "operations": self.config.operations,
            },
        )

    def verify(self, problem: Problem, answer: str) -> Verdict:
        """Correct when `answer` is an expression over the given numbers whose exact value is the target."""
        return verify_expression(
            answer,
            numbers=cast(list[int], problem.facts["numbers"]),
            target=cast(int, problem.facts["target"]),
            operations=cast(str, problem.facts["operations"]),
        )

    def _candidate(self, rng: random.Random) -> Puzzle:
        config = self.config
        for _ in range(MAX_ATTEMPTS):
            count = rng.randint(config.min_numbers, config.max_numbers)
            numbers = tuple(rng.randint(1, config.max_number) for _ in range(count))
            made = _combine(rng, numbers, config.operations)
            if made is not None and made.value <= config.max_target and made.value not in numbers:
                return Puzzle(numbers=numbers, target=made.value, solution=made.text)
        raise UserError(
            f"no Countdown puzzle found in {MAX_ATTEMPTS} attempts",
            "raise max_target or allow more operations",
        )


def verify_expression(answer: str, *, numbers: Sequence[int], target: int, operations: str) -> Verdict:
    """Whether `answer` reaches `target` by the rules. Never raises on any text."""
    if fault := text_fault(answer):
        return wrong(fault)
    value = evaluate(answer, numbers)
    if isinstance(value, str):
        return wrong(f"{value}, in {quote(answer)}")
    for operator in OPERATORS:
        if operator in answer and operator not in operations:
            return wrong(f"the operator {operator!r} is not allowed here")
    if value != target:
        return wrong(f"{quote(answer)} is {value}, not {target}")
    return correct()


def _combine(rng: random.Random, numbers: Sequence[int], operations: str) -> _Expression | None:
    """All the numbers joined in a random order by random operations, every value a positive integer."""
    pool = [_Expression(value=number, text=str(number), binding=_NUMBER) for number in numbers]
    while len(pool) > 1:
        left, right = (pool.pop(rng.randrange(len(pool))) for _ in range(2))
        fitting = [operator for operator in operations if _fits(operator, left.value, right.value)]
        if not fitting:
            return None
        pool.append(_join(rng.choice(fitting), left, right))
    return pool[0]


def _fits(operator: str, left: int, right: int) -> bool:
    """Whether the result is a positive integer; `* 1` and `/ 1` are left out as idle steps."""
    if operator == "-":
        return left > right
    if operator == "*":
        return left > 1 and right > 1
    if operator == "/":
        return right > 1 and left % right == 0
    return True


def _join(operator: str, left: _Expression, right: _Expression) -> _Expression:
    """`left operator right` with the parentheses it needs and no others."""
    binding = _SUM if operator in "+-" else _PRODUCT
    left_text = f"({left.text})" if left.binding < binding else left.text
    # a - (b + c) and a / (b * c) need theirs even among equals; a + (b - c) and a * (b / c) do not
    right_binds = right.binding > binding or (right.binding == binding and operator in "+*")
    right_text = right.text if right_binds else f"({right.text})"
    value = {"+": left.value + right.value, "-": left.value - right.value, "*": left.value * right.value}
    return _Expression(
        value=left.value // right.value if operator == "/" else value[operator],
        text=f"{left_text}{operator}{right_text}",
        binding=binding,
    )
