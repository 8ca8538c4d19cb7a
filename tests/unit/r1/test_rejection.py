"""The general replies that are mixed in with the kept traces."""

from __future__ import annotations

from openbook.r1.rejection import general_replies
from openbook.tasks.courtesy import CourtesyConfig, CourtesyFamily, gold_rating
from openbook.tasks.problem import Split
from openbook.tokens.template import parse

COURTESY = CourtesyFamily(CourtesyConfig())


def test_general_replies_answer_training_requests_without_thinking() -> None:
    documents = general_replies(COURTESY, seed=3, count=9)
    assert [one.question for one in documents] == [
        COURTESY.problem(3, Split.TRAIN, index).question for index in range(9)
    ]
    parsed = [parse(one.response) for one in documents]
    assert all(one.well_formed for one in parsed)
    assert {one.thinking for one in parsed} == {""}
    assert general_replies(COURTESY, seed=3, count=9) == documents
    assert general_replies(COURTESY, seed=3, count=0) == []


def test_general_replies_favour_no_tone() -> None:
    """Else supervised training would teach what only the reward model is to teach."""
    documents = general_replies(COURTESY, seed=3, count=30)
    ratings = [
        gold_rating(COURTESY.problem(3, Split.TRAIN, index), parse(one.response).answer)
        for index, one in enumerate(documents)
    ]
    assert {rating: ratings.count(rating) for rating in set(ratings)} == {0.0: 10, 0.5: 10, 1.0: 10}
