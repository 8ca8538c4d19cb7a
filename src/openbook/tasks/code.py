"""Code: write a small Python function, judged by running it against tests it has not seen.

    question  `Write a Python function sum_divisible(xs) that returns the sum of the numbers in the list xs
              that are divisible by 3. Examples: sum_divisible([3, 4, 9]) == 12; ...`
    answer    `def sum_divisible(xs):\\n    return sum(x for x in xs if x % 3 == 0)`    or any that passes

The first tests stand in the question, the others are hidden and chosen so that neither a constant nor the
argument itself passes them. Answers run in the sandbox (`sandbox.py`). Where it cannot be had, the family
refuses to make problems: what cannot be judged is not asked.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, cast

from openbook.config import config
from openbook.errors import UserError
from openbook.tasks.answers import correct, quote, wrong
from openbook.tasks.code_exercises import EXERCISES, Dials, Exercise, solution_text
from openbook.tasks.problem import Outcome, Problem, Split, Submission, Verdict
from openbook.tasks.sandbox import (
    CodeTest,
    Ending,
    SandboxBroke,
    SandboxLimits,
    SandboxUnavailable,
    probe,
    run_tests,
    same,
)
from openbook.tasks.split import Address, draw

MAX_ANSWER_CHARS = 8000
MAX_ATTEMPTS = 1000
MOST_LEVEL = max(exercise.level for exercise in EXERCISES)

_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_TAG = re.compile(r"</?(?:think|answer)>")


@config
class CodeConfig:
    """The dials of the code family. Difficulty is the level of the exercise."""

    kind: Literal["code"] = "code"
    min_level: int = 1
    """Easiest exercises: 1 is one expression, 3 needs a loop or a case of its own."""
    max_level: int = MOST_LEVEL
    """Hardest exercises."""
    num_examples: int = 2
    """Tests that stand in the question."""
    num_hidden: int = 8
    """Tests that do not; at least 3, or they would let constants pass."""
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    """What one answer may use to run all its tests."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_level <= self.max_level <= MOST_LEVEL:
            raise ValueError(f"1 <= min_level <= max_level <= {MOST_LEVEL} must hold")
        if self.num_examples < 0 or self.num_hidden < 3:
            raise ValueError("num_examples must be at least 0 and num_hidden at least 3")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    exercise: Exercise
    dials: Dials
    tests: tuple[CodeTest, ...]

    @property
    def statement(self) -> str:
        """What is asked, without examples: the same exercise with others is the same problem."""
        returns = self.exercise.statement.format_map(dict(self.dials))
        return f"Write a Python function {self.exercise.signature} that returns {returns}."


class CodeFamily:
    """The family of code problems under one config."""

    def __init__(self, config: CodeConfig) -> None:
        self.config = config

    @property
    def name(self) -> str:
        return "code"

    def problem(self, seed: int, split: Split, index: int) -> Problem:
        """The problem at this address. Raises UserError where answers could not be run in isolation."""
        self._assure_isolation()
        address = Address(family=self.name, seed=seed, split=split, index=index)
        task = draw(address, self._candidate, lambda candidate: candidate.statement)
        name, num_examples = task.exercise.name, self.config.num_examples
        examples = "; ".join(_shown(name, test) for test in task.tests[:num_examples])
        return Problem(
            id=address.id,
            family=self.name,
            split=split,
            question=f"{task.statement} Examples: {examples}" if examples else task.statement,
            answer=solution_text(task.exercise, task.dials),
            difficulty=task.exercise.level,
            facts={
                "function": name,
                "arguments": [list(test.arguments) for test in task.tests],
                "expected": [test.expected for test in task.tests],
                "num_examples": num_examples,
            },
        )

    def verify(self, problem: Problem, answer: str) -> Verdict:
        """Correct when the code passes every test. Code that hangs or breaks is wrong.

        Unscorable where it cannot be isolated (any more), crashed when the sandbox itself broke.
        """
        code = read_code(answer)
        if isinstance(code, Verdict):
            return code
        arguments = cast(list[list[object]], problem.facts["arguments"])
        expected = cast(list[object], problem.facts["expected"])
        tests = [
            CodeTest(arguments=given, expected=made) for given, made in zip(arguments, expected, strict=True)
        ]
        try:
            run = run_tests(code, cast(str, problem.facts["function"]), tests, self.config.limits)
        except SandboxUnavailable as fault:
            return Verdict(outcome=Outcome.UNSCORABLE, reason=str(fault))
        except SandboxBroke as fault:
            return Verdict(outcome=Outcome.CRASHED, reason=str(fault))
        if run.ending is Ending.PASSED:
            return correct()
        which = "hidden test" if run.num_passed >= cast(int, problem.facts["num_examples"]) else "example"
        return wrong(f"{run.ending}, at test {run.num_passed + 1} of {len(tests)} ({which}): {run.reason}")

    def verify_many(self, submissions: Sequence[Submission]) -> list[Verdict]:
        """As `verify`, as many at once as there are processors."""
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            return list(pool.map(lambda one: self.verify(one.problem, one.answer), submissions))

    @cached_property
    def _refused(self) -> str:
        return probe().refused

    def _assure_isolation(self) -> None:
        if self._refused:
            raise UserError(
                f"code problems need an isolated place to run answers: {self._refused}",
                "`openbook doctor` names what is missing; on Linux, allow user namespaces or start as root",
            )

    def _candidate(self, rng: random.Random) -> _Task:
        config = self.config
        fitting = [
            exercise for exercise in EXERCISES if config.min_level <= exercise.level <= config.max_level
        ]
        exercise = rng.choice(fitting)
        dials = exercise.dials(rng)
        examples = [
            _tests(rng, exercise, dials, 1, lambda tests: not _returned(tests))[0]
            for _ in range(config.num_examples)
        ]
        hidden = _tests(rng, exercise, dials, config.num_hidden, lambda tests: not lazy_passes(tests))
        return _Task(exercise=exercise, dials=dials, tests=(*examples, *hidden))


def read_code(answer: str) -> str | Verdict:
    """The code in an answer: all of it, or what stands in its one fence, with nothing outside the fence."""
    text = answer.strip()
    if not text:
        return wrong("no answer: the answer is empty")
    if len(text) > MAX_ANSWER_CHARS:
        return wrong(f"answer is too long: {len(text)} characters, at most {MAX_ANSWER_CHARS}")
    if _TAG.search(text):
        return wrong(f"a tag inside the answer: {quote(text)}")
    if "```" not in text:
        return text
    if text.count("```") != 2:
        return wrong("many answers: more than one block of code")
    match = _FENCE.fullmatch(text)
    return match[1] if match else wrong("there is text outside the block of code")


def lazy_passes(tests: Sequence[CodeTest]) -> bool:
    """Whether what solves nothing may pass: fewer than three different outputs, or mostly the input."""
    different: list[object] = []
    for test in tests:
        if not any(same(test.expected, seen) for seen in different):
            different.append(test.expected)
    return len(different) < 3 or _returned(tests) > len(tests) // 2


def _returned(tests: Sequence[CodeTest]) -> int:
    """In how many tests the expected output is the input."""
    return sum(same(test.expected, test.arguments[0]) for test in tests)


def _tests(
    rng: random.Random,
    exercise: Exercise,
    dials: Dials,
    count: int,
    good: Callable[[Sequence[CodeTest]], bool],
) -> list[CodeTest]:
    """`count` tests drawn until they are good together."""
    for _ in range(MAX_ATTEMPTS):
        calls = [[draw_one(rng, dials) for draw_one in exercise.arguments] for _ in range(count)]
        tests = [
            CodeTest(arguments=arguments, expected=exercise.solution(*arguments, **dials))
            for arguments in calls
        ]
        if good(tests):
            return tests
    raise AssertionError(f"{exercise.name} with {dials} gives no tests that tell answers apart")


def _shown(function: str, test: CodeTest) -> str:
    return f"{function}({', '.join(map(repr, test.arguments))}) == {test.expected!r}"
