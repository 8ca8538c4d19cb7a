"""gym/<name>: every dataset of the reasoning-gym library as a family.

    GymConfig(name="chain_sum") -> problem -> verify: common faults, our rules, the library's score
                                                      below full score is wrong, with the score named

The library makes the questions and scores the answers, in a process of its own (`gym_library.py`).
Before it scores, our rules look at the text (`gym_rules.py`): what is evaluated there never leaves here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, cast

from openbook.config import config
from openbook.errors import UserError, nearest
from openbook.tasks import gym_rules as rules
from openbook.tasks.answers import correct, quote, text_fault, wrong
from openbook.tasks.countdown import verify_expression
from openbook.tasks.gym_library import GymItem, GymLibrary, LibraryFault, LibraryTimeout
from openbook.tasks.problem import Outcome, Problem, Split, Verdict
from openbook.tasks.split import Address, draw

PREFIX = "gym/"
MAX_ANSWER_CHARS = 4000
"""Longer answers are wrong at once, unless the right one is more than half as long itself."""


@config
class GymConfig:
    """Which dataset of reasoning-gym, and its own settings."""

    kind: Literal["gym"] = "gym"
    name: str
    """The dataset, such as `chain_sum`; `openbook tasks list` names them all."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The dataset's own settings under the library's names, such as `max_terms`."""
    seconds_to_score: float = 5.0
    """An answer that takes the scorer longer has timed out, which is no judgement."""

    def __post_init__(self) -> None:
        if self.seconds_to_score <= 0:
            raise ValueError("seconds_to_score must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    index: int
    item: GymItem


class GymFamily:
    """One dataset of the library. The dataset is opened when the first problem is asked for."""

    def __init__(self, config: GymConfig, library: GymLibrary) -> None:
        self.config = config
        self.library = library

    @property
    def name(self) -> str:
        return PREFIX + self.config.name

    def problem(self, seed: int, split: Split, index: int) -> Problem:
        """The problem at this address. The library gives no one number for difficulty: it is 0 here.

        Raises UserError when the dataset is unknown, refuses its options or has too few questions.
        """
        address = Address(family=self.name, seed=seed, split=split, index=index)
        drawn = draw(address, self._candidate, lambda candidate: candidate.item.question)
        return Problem(
            id=address.id,
            family=self.name,
            split=split,
            question=drawn.item.question,
            answer=drawn.item.answer,
            difficulty=0,
            facts={"index": drawn.index, **drawn.item.facts},
        )

    def verify(self, problem: Problem, answer: str) -> Verdict:
        """Correct at full score only. An exception in the library is unscorable, a late reply timed out."""
        name = cast(str, problem.facts["source_dataset"])  # in a composite, not the family's own
        own, text = problem.answer.strip(), answer.strip()
        if fault := text_fault(text, max(MAX_ANSWER_CHARS, 2 * len(own))):
            return wrong(fault)
        if text == own:
            return correct()
        if name in rules.EXACT:
            return _verify_exactly(problem, text)
        if name in rules.SEQUENCES:
            return correct() if rules.same_sequence(own, text) else wrong(f"not the sequence: {quote(text)}")
        if name in rules.EXPRESSIONS:
            return _verify_expression(problem, text)
        if name in rules.NUMBERS:
            fault = rules.number_fault(name, own, text)
            return wrong(fault) if fault else correct()
        if fault := rules.form_fault(name, own, text):
            return wrong(fault)
        return self._verify_by_library(problem, text)

    def _verify_by_library(self, problem: Problem, text: str) -> Verdict:
        config = self.config
        index = cast(int, problem.facts["index"])
        try:
            score = self.library.score(config.name, config.options, index, text, config.seconds_to_score)
        except LibraryTimeout as late:
            return Verdict(outcome=Outcome.TIMED_OUT, reason=str(late))
        except LibraryFault as fault:
            return Verdict(outcome=Outcome.UNSCORABLE, reason=f"reasoning-gym failed: {fault}")
        if score >= 1.0:
            return correct()
        return wrong(f"scored {score:g} of 1 by reasoning-gym's {config.name}")

    @cached_property
    def _num_items(self) -> int:
        name = self.config.name
        try:
            known = self.library.names()
            if name not in known:
                raise UserError(f"reasoning-gym has no dataset {name!r}", nearest(name, known))
            return self.library.num_items(name, self.config.options)
        except (LibraryFault, LibraryTimeout) as fault:
            raise UserError(f"reasoning-gym cannot open {name!r}: {fault}", "check its options") from fault

    def _candidate(self, rng: random.Random) -> _Candidate:
        index = rng.randrange(self._num_items)
        try:
            item = self.library.item(self.config.name, self.config.options, index)
        except (LibraryFault, LibraryTimeout) as fault:
            raise UserError(
                f"reasoning-gym cannot make item {index} of {self.config.name!r}: {fault}",
                "check its options",
            ) from fault
        return _Candidate(index=index, item=item)


def gym_names(library: GymLibrary) -> list[str]:
    """`gym/<name>` for every dataset of the library, none of them built."""
    try:
        return [PREFIX + name for name in library.names()]
    except (LibraryFault, LibraryTimeout) as fault:
        raise UserError(f"reasoning-gym cannot be used: {fault}", "pip install reasoning-gym") from fault


def _verify_exactly(problem: Problem, text: str) -> Verdict:
    """The sealed answer, or another of the valid ones where the dataset names them all."""
    valid = cast(list[str], problem.facts.get("valid_answers", [problem.answer]))
    if any(rules.same_text(own, text) for own in valid):
        return correct()
    return wrong(f"not the exact answer: {quote(text)}")


def _verify_expression(problem: Problem, text: str) -> Verdict:
    """By our parser, where the library would use sympy's; all the numbers must be used."""
    numbers = cast(list[int], problem.facts["numbers"])
    target = cast(int, problem.facts.get("target", 24))
    verdict = verify_expression(text, numbers=numbers, target=target, operations="+-*/")
    if verdict.correct and len(re.findall("[0-9]+", text)) != len(numbers):
        return wrong(f"{quote(text)} leaves numbers unused")
    return verdict
