"""jsonl: problems of your own from a file, judged by a verifier here or by a function of yours.

    {"question": "12 + 30?", "answer": "42"} --> number, text or maths; or my_rewards:reward behind the wall

    def reward(question: str, answer: str, completion: str, given: str, fields: dict) -> float | None

The function declares those arguments that it wants. `answer` is the file's, `completion` all that the model
wrote, `given` the answer as it was read out of it, `fields` the whole object of the line. None means: not
scored. A value beyond `reward_min` and `reward_max` is taken as that limit.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

from openbook.config import config
from openbook.errors import UserError
from openbook.tasks.answers import correct, quote, read_number, text_fault, verify_number, wrong
from openbook.tasks.maths import MathsVerifier, require_library
from openbook.tasks.problem import Outcome, Problem, Split, Submission, Verdict
from openbook.tasks.problem_file import Form, Line, read_lines, refuse_shared
from openbook.tasks.split import HELD_OUT_ONE_IN, split_of
from openbook.tasks.wall import Reply, Wall, WallConfig, as_number

OFFERS = ("question", "answer", "completion", "given", "fields")
MAX_TEXT_CHARS = 4000


@config
class JsonlConfig:
    """Which file, how its lines are read, and who judges."""

    kind: Literal["jsonl"] = "jsonl"
    path: Path
    """JSON lines, one problem each."""
    question_field: str = "question"
    answer_field: str = "answer"
    """May be missing in the file where `reward` judges."""
    verifier: Literal["number", "text", "maths", "none"] = "none"
    """`number`: equal in value; `text`: equal but for letter case and spacing; `maths`: by math-verify."""
    reward: str = ""
    """`module:function` or `file.py:function`: your own judgement, in place of a verifier's."""
    correct_at: float = 1.0
    """From this value of the function on, an answer counts as correct in an examination."""
    reward_min: float = -10.0
    reward_max: float = 10.0
    held_out_path: Path | None = None
    """Problems never trained on; with none, one question in ten of `path`, by a hash of its text."""
    wall: WallConfig = WallConfig()
    """What one call of a reward function or of math-verify may use."""

    def __post_init__(self) -> None:
        if bool(self.reward) == (self.verifier != "none"):
            raise ValueError(
                "either verifier or reward judges; "
                + ("a function can call a verifier itself" if self.reward else "set one of them")
            )
        if self.reward and not all(part.strip() for part in self.reward.rpartition(":")):
            raise ValueError(f"reward must be module:function, not {self.reward!r}")
        limits = (self.reward_min, self.reward_max, self.correct_at)
        if not all(map(math.isfinite, limits)) or not self.reward_min < self.correct_at <= self.reward_max:
            raise ValueError("reward_min, correct_at and reward_max must rise in this order")


class JsonlFamily:
    """Problems from a file, which is read and checked whole. Raises UserError where it cannot be used.

    `reward_digest` is that of the file in which the reward function stands; empty where there is none.
    """

    def __init__(self, config: JsonlConfig) -> None:
        self.config = config
        self._maths = MathsVerifier(config.wall) if config.verifier == "maths" else None
        self._wall = (
            Wall(config.reward, config.wall, offers=OFFERS, search_path=(Path.cwd(),))
            if config.reward
            else None
        )
        self.reward_digest = "" if self._wall is None else self._wall.check().digest
        if self._maths is not None:
            require_library(self._maths)
        self._lines = self._read()

    @property
    def name(self) -> str:
        return f"jsonl/{self.config.path.stem}"

    def num_problems(self, split: Split) -> int:
        return len(self._lines[split])

    def problem(self, seed: int, split: Split, index: int) -> Problem:
        """Every problem once in an order that the seed gives, then all again in another order."""
        lines = self._lines[split]
        epoch, place = divmod(index, len(lines))
        line = lines[_order(len(lines), f"{seed}/{split}/{epoch}")[place]]
        return Problem(
            id=f"{self.name}/{split}/{line.number}",
            family=self.name,
            split=split,
            question=line.question,
            answer=line.answer,
            difficulty=0,
            facts={"line": line.number, "fields": line.fields},
        )

    def verify(self, problem: Problem, answer: str) -> Verdict:
        """As `verify_many`, for a completion that is the answer and nothing else."""
        return self.verify_many([Submission(problem=problem, answer=answer, completion=answer)])[0]

    def verify_many(self, submissions: Sequence[Submission]) -> list[Verdict]:
        """One verdict each, in order, whatever the number of workers."""
        if self._wall is not None:
            replies = self._wall.call([_arguments(one) for one in submissions])
            return [self._verdict(reply) for reply in replies]
        if self._maths is not None:
            return self._maths.verify([(one.problem.answer, one.answer) for one in submissions])
        verify = verify_number if self.config.verifier == "number" else verify_text
        return [verify(one.problem.answer, one.answer) for one in submissions]

    def close(self) -> None:
        """End the workers; a later call starts them again."""
        for behind in (self._wall, self._maths):
            if behind is not None:
                behind.close()

    def _verdict(self, reply: Reply) -> Verdict:
        value = as_number(reply)
        if isinstance(value, Reply):
            return Verdict(outcome=cast(Outcome, value.fault), reason=value.reason)
        limited = min(max(value, self.config.reward_min), self.config.reward_max)
        reason = f"reward {value:g}" + ("" if limited == value else f", taken as {limited:g}")
        outcome = Outcome.CORRECT if limited >= self.config.correct_at else Outcome.WRONG
        return Verdict(outcome=outcome, reason=reason, value=limited)

    def _read(self) -> Mapping[Split, Sequence[Line]]:
        config = self.config
        form = Form(
            question_field=config.question_field,
            answer_field=config.answer_field,
            needs_answer=config.verifier != "none",
        )
        lines = read_lines(config.path, form, self._faults)
        if config.held_out_path is not None:
            held_out = read_lines(config.held_out_path, form, self._faults)
            refuse_shared(config.held_out_path, lines, held_out)
            return {Split.TRAIN: lines, Split.HELD_OUT: held_out}
        parts = {split: [line for line in lines if split_of(line.question) is split] for split in Split}
        for split, part in parts.items():
            if not part:
                raise UserError(
                    f"none of the {len(lines)} questions of {config.path} falls into {split}: "
                    f"by a hash of its text, one in {HELD_OUT_ONE_IN} is held out",
                    "give more problems, or those to hold out in a file of their own, held_out_path",
                )
        return parts

    def _faults(self, answers: Sequence[str]) -> Sequence[str]:
        if self._maths is not None:
            return self._maths.faults(answers)
        if self.config.verifier == "number":
            return [fault if isinstance(fault := read_number(answer), str) else "" for answer in answers]
        return [""] * len(answers)


def verify_text(expected: str, text: str) -> Verdict:
    """Whether two texts are equal but for letter case and spacing. Never raises on any text."""
    if fault := text_fault(text, max(MAX_TEXT_CHARS, 2 * len(expected))):
        return wrong(fault)
    if " ".join(text.casefold().split()) == " ".join(expected.casefold().split()):
        return correct()
    return wrong(f"expected {quote(expected)}, got {quote(text.strip())}")


def _arguments(submission: Submission) -> dict[str, Any]:
    problem = submission.problem
    return {
        "question": problem.question,
        "answer": problem.answer,
        "completion": submission.completion,
        "given": submission.answer,
        "fields": problem.facts["fields"],
    }


@lru_cache(maxsize=8)
def _order(count: int, text: str) -> tuple[int, ...]:
    return tuple(random.Random(f"jsonl/{text}").sample(range(count), count))
