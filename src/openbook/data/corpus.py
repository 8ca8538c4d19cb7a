"""The base's corpus: what it has seen before any reward, written by a seeded writer.

A base model is no blank page: DeepSeek-V3 had read worked solutions among far more plain ones. The
corpus is that situation in small. It holds drills (tables of single operations), worked examples (whose
question asks for each step), and exercises of the length that RL will ask for, most of them answered at once.
How often an exercise shows its steps is the dial `full_share`.

Steps are written with number words of two languages, mixed, so that a later stage has something to
make consistent. Only questions of the training split are ever written.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from openbook.data.batch import Example
from openbook.data.config import CorpusConfig
from openbook.tasks.chain import MAX_OPERAND, ChainFamily, apply, trace
from openbook.tasks.courtesy import CourtesyConfig, CourtesyFamily
from openbook.tasks.problem import Problem, Split
from openbook.tasks.words import Language, word_for
from openbook.tokens.template import prompt, response
from openbook.tokens.tokenizer import Tokenizer

FACTS_PER_DRILL = 8
DRILL_QUESTION = "Recite."
WORKED_CUE = " Show each step."
"""What a worked example's question ends in. Exercises, and the problems of RL, do not ask for steps."""


class Habit(StrEnum):
    """How a solution is written: at once, with every second step, or with every step."""

    DIRECT = "direct"
    SKETCH = "sketch"
    FULL = "full"


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A question and the text that follows the prompt."""

    question: str
    response: str


class Corpus:
    """An endless, addressable corpus: document `index` is a function of (config, seed, index)."""

    def __init__(self, config: CorpusConfig, *, seed: int) -> None:
        self.config = config
        self.seed = seed
        self._exercises = ChainFamily(config.exercises)
        self._worked = ChainFamily(replace(config.exercises, min_operations=1))
        self._courtesy = CourtesyFamily(CourtesyConfig())

    def document(self, index: int) -> Document:
        rng = random.Random(f"corpus/{self.seed}/{index}")
        kind = rng.random()
        if kind < (limit := self.config.drill_share):
            return self._recital(rng)
        if kind < (limit := limit + self.config.worked_share):
            return self._solved(self._worked, index, Habit.FULL, rng, cue=WORKED_CUE)
        if kind < limit + self.config.courtesy_share:
            return self._reply(index, rng)
        return self._solved(self._exercises, index, self._habit(rng), rng)

    def _habit(self, rng: random.Random) -> Habit:
        sketch, full = self.config.sketch_share, self.config.full_share
        return rng.choices(list(Habit), weights=[1 - sketch - full, sketch, full])[0]

    def _solved(
        self, family: ChainFamily, index: int, habit: Habit, rng: random.Random, cue: str = ""
    ) -> Document:
        problem = family.problem(self.seed, Split.TRAIN, index)
        question = problem.question + cue
        if rng.random() < self.config.untagged_share:
            return Document(question=question, response=f" {problem.answer}")
        thinking = write_steps(problem, habit, self._writer(self._language(rng), rng))
        return Document(question=question, response=response(thinking, problem.answer))

    def _recital(self, rng: random.Random) -> Document:
        """Single operations one after the other: `seven *2 = four, ocho -3 = five`."""
        chains, word = self.config.exercises, self._writer(self._language(rng), rng)
        facts = []
        for _ in range(FACTS_PER_DRILL):
            value, operator = rng.randrange(chains.modulus), rng.choice(chains.operations)
            operand = rng.randint(1, MAX_OPERAND)
            result = apply(operator, value, operand) % chains.modulus
            facts.append(f"{word(value)} {operator}{operand} = {word(result)}")
        return Document(question=DRILL_QUESTION, response=f" {', '.join(facts)}")

    def _language(self, rng: random.Random) -> Language:
        return Language.SPANISH if rng.random() < self.config.spanish_share else Language.ENGLISH

    def _writer(self, language: Language, rng: random.Random) -> Callable[[int], str]:
        """Number words of a document that leans to `language` and switches now and then."""
        other = Language.ENGLISH if language is Language.SPANISH else Language.SPANISH
        return lambda value: word_for(value, other if rng.random() < self.config.switch_share else language)

    def _reply(self, index: int, rng: random.Random) -> Document:
        problem = self._courtesy.problem(self.seed, Split.TRAIN, index)
        replies = self._courtesy.replies(problem, rng)
        text = replies[rng.choice(sorted(replies))]
        return Document(question=problem.question, response=response("", text))


def write_steps(problem: Problem, habit: Habit, word: Callable[[int], str]) -> str:
    """The steps of a chain problem: `a = three, b +4 = siete, c *2 = four`.

    `word` writes a value. A sketch leaves out every second step, counted so that the last one is
    always written; writing nothing is the direct habit.
    """
    values, operations = trace(problem), _operations(problem)
    if habit is Habit.DIRECT:
        return ""
    (first, start), later = values[0], values[1:]
    steps = [f"{first} = {word(start)}"]
    for number, ((name, value), (operator, operand)) in enumerate(
        zip(later, operations, strict=True), start=1
    ):
        if habit is Habit.SKETCH and (len(operations) - number) % 2:
            continue
        steps.append(f"{name} {operator}{operand} = {word(value)}")
    return ", ".join(steps)


def _operations(problem: Problem) -> Sequence[tuple[str, int]]:
    operations = problem.facts["operations"]
    assert isinstance(operations, list)
    return operations


def to_example(tokenizer: Tokenizer, document: Document, *, prompt_weight: float = 0.0) -> Example:
    """BOS, prompt, response, EOS; the loss counts on the response and on EOS."""
    before = [tokenizer.bos_id, *tokenizer.encode(prompt(document.question))]
    after = [*tokenizer.encode(document.response), tokenizer.eos_id]
    return Example.of_reply(before, after, prompt_weight=prompt_weight)
