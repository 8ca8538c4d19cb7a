"""Rewards where a rule can judge, and the problems that are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from openbook.r1.judges import observed, rule_judge, training_problems
from openbook.rl.types import Attempt
from openbook.tasks.chain import ChainConfig, ChainFamily
from openbook.tasks.courtesy import CourtesyConfig, CourtesyFamily
from openbook.tasks.problem import Outcome, Problem, Split, Submission, Verdict
from openbook.tasks.rewards import RewardConfig
from openbook.tokens.template import response

AttemptAt = Callable[[Problem, str], Attempt]
FAMILY = ChainFamily(ChainConfig())
ZERO = RewardConfig()
R1 = RewardConfig(language=1.0)


@pytest.mark.parametrize(
    ("thinking", "is_right", "is_well_formed", "rewards", "total"),
    [
        ("b = seven", True, True, ZERO, 2.0),
        ("b = seven", False, True, ZERO, 1.0),
        ("b = seven", False, False, ZERO, 0.0),
        ("b = siete", True, True, R1, 2.0),
        ("b = siete, c = two", True, True, R1, 2.5),
        ("b = seven, c = two", True, True, R1, 3.0),
    ],
)
def test_accuracy_format_and_language_add_up(
    thinking: str,
    is_right: bool,
    is_well_formed: bool,
    rewards: RewardConfig,
    total: float,
    attempt_at: AttemptAt,
) -> None:
    problem = FAMILY.problem(0, Split.TRAIN, 0)
    text = response(thinking, problem.answer if is_right else "no number")
    (found,) = rule_judge(FAMILY, rewards)([attempt_at(problem, text if is_well_formed else "tokens")])
    assert found.reward.scored
    assert found.reward.total == total
    assert found.verdict.correct == is_right


def test_what_no_rule_can_judge_is_not_scored_and_no_error(attempt_at: AttemptAt) -> None:
    courtesy = CourtesyFamily(CourtesyConfig())
    problem = courtesy.problem(0, Split.TRAIN, 0)
    for text in (response("", problem.answer), "", "<think>", "\ud800"):
        (found,) = rule_judge(courtesy, ZERO)([attempt_at(problem, text)])
        assert found.verdict.outcome is Outcome.UNSCORABLE
        assert not found.reward.scored
        assert "unscorable" in found.reward.reason


def test_attempts_are_judged_in_their_order(attempt_at: AttemptAt) -> None:
    problems = [FAMILY.problem(0, Split.TRAIN, index) for index in range(6)]
    right = [index % 3 == 0 for index in range(6)]
    attempts = [
        attempt_at(problem, response("x", problem.answer if is_right else "none"))
        for problem, is_right in zip(problems, right, strict=True)
    ]
    assert [one.verdict.correct for one in rule_judge(FAMILY, ZERO)(attempts)] == right
    assert rule_judge(FAMILY, ZERO)([]) == []


def test_a_family_that_can_judge_many_at_once_is_asked_once(attempt_at: AttemptAt) -> None:
    asked: list[list[Submission]] = []

    class Batched(ChainFamily):
        def verify_many(self, submissions: Sequence[Submission]) -> list[Verdict]:
            asked.append(list(submissions))
            return [
                Verdict(outcome=Outcome.WRONG, reason="", value=float(i)) for i in range(len(submissions))
            ]

    problem = FAMILY.problem(0, Split.TRAIN, 0)
    attempts = [attempt_at(problem, response("x", answer)) for answer in ("1", "2", "3")]
    found = rule_judge(Batched(ChainConfig()), RewardConfig(format=0.0, custom=0.5))(attempts)
    assert [one.reward.total for one in found] == [0.0, 0.5, 1.0]
    assert [[one.answer for one in batch] for batch in asked] == [["1", "2", "3"]]
    assert [one.completion for one in asked[0]] == [attempt.text for attempt in attempts]


def test_a_reward_sees_the_completion_and_not_the_problem(attempt_at: AttemptAt) -> None:
    attempt = attempt_at(FAMILY.problem(0, Split.TRAIN, 0), response("b = seven", "7"))
    seen = observed(attempt)
    assert (seen.well_formed, seen.thinking) == (True, "b = seven")
    assert seen.num_tokens == len(attempt.completion.token_ids)


def test_the_stream_of_problems_is_a_function_of_seed_and_position() -> None:
    draw = training_problems(FAMILY, seed=5)
    whole = draw(0, 12)
    assert draw(0, 5) + draw(5, 7) == whole
    assert [one.split for one in whole] == [Split.TRAIN] * 12
    assert training_problems(FAMILY, seed=6)(0, 12) != whole
