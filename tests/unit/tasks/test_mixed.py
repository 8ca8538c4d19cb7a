"""A mixture asks its members by turns and sends each answer back to whoever asked."""

from __future__ import annotations

from collections import Counter

import pytest

from openbook.config import parse
from openbook.errors import UserError
from openbook.tasks.mixed import MixedFamily
from openbook.tasks.problem import Split, Submission, verify_all
from openbook.tasks.registry import MixedConfig, make_family

SETTINGS = {
    "kind": "mixed",
    "members": {
        "short": {"kind": "chain", "min_operations": 1, "max_operations": 1},
        "long": {"kind": "chain", "min_operations": 4, "max_operations": 4},
        "numbers": {"kind": "countdown"},
    },
}


@pytest.fixture
def mixture() -> MixedFamily:
    family = make_family(parse(MixedConfig, SETTINGS))
    assert isinstance(family, MixedFamily)
    return family


def test_members_take_turns_under_their_own_names(mixture: MixedFamily) -> None:
    problems = [mixture.problem(3, Split.TRAIN, index) for index in range(12)]
    assert Counter(one.family for one in problems) == {"short": 4, "long": 4, "numbers": 4}
    assert len({one.id for one in problems}) == 12
    assert [one.difficulty for one in problems if one.family == "long"] == [4] * 4
    assert problems[4] == mixture.problem_of("long", 3, Split.TRAIN, 1)


def test_each_answer_is_judged_by_whoever_asked(mixture: MixedFamily) -> None:
    problems = [mixture.problem(3, Split.HELD_OUT, index) for index in range(9)]
    wrong = [Submission(problem=one, answer="no", completion="no") for one in problems]
    right = [Submission(problem=one, answer=one.answer, completion="") for one in problems]
    verdicts = verify_all(mixture, [one for pair in zip(wrong, right, strict=True) for one in pair])
    assert [one.correct for one in verdicts] == [False, True] * 9
    assert mixture.verify(problems[0], problems[0].answer).correct


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="members is empty"):
        parse(MixedConfig, {"kind": "mixed", "members": {}})
