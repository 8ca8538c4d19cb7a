from __future__ import annotations

import math

import pytest

from openbook.config import parse
from openbook.errors import UserError
from openbook.tasks.problem import Outcome, Verdict
from openbook.tasks.rewards import (
    Observed,
    RewardConfig,
    accuracy_reward,
    format_reward,
    is_judged,
    language_reward,
    length_reward,
    preference_reward,
    verified_reward,
)
from openbook.tasks.words import Language

CORRECT = Verdict(outcome=Outcome.CORRECT, reason="correct")
WRONG = Verdict(outcome=Outcome.WRONG, reason="expected 4, got '5'")
UNSCORABLE = Verdict(outcome=Outcome.UNSCORABLE, reason="tone is a matter of judgement")
TIMED_OUT = Verdict(outcome=Outcome.TIMED_OUT, reason="no reply within 5 seconds")
CRASHED = Verdict(outcome=Outcome.CRASHED, reason="the verifier's process died")
OBSERVED = Observed(well_formed=True, thinking="b is three, c is siete", num_tokens=20)


def test_the_default_is_accuracy_plus_format_with_equal_weight() -> None:
    reward = verified_reward(RewardConfig(), OBSERVED, CORRECT)
    assert (dict(reward.parts), reward.total) == ({"accuracy": 1.0, "format": 1.0}, 2.0)


def test_a_wrong_answer_keeps_the_reward_of_its_format() -> None:
    reward = verified_reward(RewardConfig(), OBSERVED, WRONG)
    assert (dict(reward.parts), reward.total) == ({"accuracy": 0.0, "format": 1.0}, 1.0)
    assert reward.scored and reward.reason == "expected 4, got '5'"


def test_weights_multiply_their_parts() -> None:
    config = RewardConfig(accuracy=2.0, format=0.5, language=0.1)
    reward = verified_reward(config, OBSERVED, CORRECT)
    assert dict(reward.parts) == {"accuracy": 2.0, "format": 0.5, "language": pytest.approx(0.05)}
    assert reward.total == pytest.approx(2.55)


@pytest.mark.parametrize("verdict", [UNSCORABLE, TIMED_OUT, CRASHED])
def test_a_completion_without_a_judgement_is_not_scored_and_has_no_total(verdict: Verdict) -> None:
    reward = verified_reward(RewardConfig(), OBSERVED, verdict)
    assert not reward.scored
    assert reward.reason == f"{verdict.outcome}: {verdict.reason}"
    assert "accuracy" not in reward.parts and reward.parts["format"] == 1.0
    with pytest.raises(AssertionError, match="has no total"):
        _ = reward.total


@pytest.mark.parametrize("verdict", [UNSCORABLE, TIMED_OUT, CRASHED])
def test_no_judgement_has_no_accuracy(verdict: Verdict) -> None:
    assert not is_judged(verdict)
    with pytest.raises(AssertionError, match="no judgement"):
        accuracy_reward(verdict)


def test_accuracy_and_format_are_one_or_zero() -> None:
    assert [accuracy_reward(CORRECT), accuracy_reward(WRONG)] == [1.0, 0.0]
    assert [format_reward(True), format_reward(False)] == [1.0, 0.0]


def test_language_is_the_share_of_number_words_in_the_target_language() -> None:
    thinking = "b is three, c is siete, d is four, e is nine"
    assert language_reward(thinking, Language.ENGLISH) == 0.75
    assert language_reward(thinking, Language.SPANISH) == 0.25


def test_thinking_without_number_words_earns_no_language_reward() -> None:
    assert language_reward("", Language.ENGLISH) == 0.0
    assert language_reward("b = 7, c = 4", Language.ENGLISH) == 0.0


def test_a_value_of_ones_own_takes_the_place_of_accuracy() -> None:
    verdict = Verdict(outcome=Outcome.CORRECT, reason="", value=1.5)
    observed = Observed(well_formed=True, thinking="", num_tokens=3)
    assert verified_reward(RewardConfig(), observed, verdict).parts == {"custom": 1.5, "format": 1.0}
    assert verified_reward(RewardConfig(custom=0.0), observed, verdict).parts == {"format": 1.0}
    late = Verdict(outcome=Outcome.TIMED_OUT, reason="")
    assert not verified_reward(RewardConfig(), observed, late).scored


def test_the_length_penalty_falls_linearly_to_minus_one() -> None:
    lengths = [0, 768, 769, 896, 1024, 5000]
    rewards = [length_reward(length, limit_tokens=1024, buffer_tokens=256) for length in lengths]
    assert rewards == [0.0, 0.0, -1 / 256, -0.5, -1.0, -1.0]


def test_the_length_penalty_is_a_named_part_of_the_total() -> None:
    config = RewardConfig(format=0.0, length=0.5, length_limit_tokens=20, length_buffer_tokens=10)
    reward = verified_reward(config, OBSERVED, CORRECT)
    assert (dict(reward.parts), reward.total) == ({"accuracy": 1.0, "length": -0.5}, 0.5)


def test_a_learned_score_is_a_part_beside_format_and_language() -> None:
    reward = preference_reward(RewardConfig(preference=0.5, language=1.0), OBSERVED, score=-3.0)
    assert dict(reward.parts) == {"preference": -1.5, "format": 1.0, "language": 0.5}
    assert reward.scored and reward.total == 0.0


def test_a_learned_score_that_is_no_number_is_not_scored() -> None:
    for score in (math.nan, math.inf):
        reward = preference_reward(RewardConfig(), OBSERVED, score=score)
        assert not reward.scored and "preference" not in reward.parts


def test_a_length_buffer_longer_than_the_limit_is_a_user_error() -> None:
    with pytest.raises(UserError, match="length_buffer_tokens"):
        parse(RewardConfig, {"length_limit_tokens": 100}, where="reward")


def test_the_target_language_is_read_by_name() -> None:
    assert parse(RewardConfig, {"language_target": "spanish"}).language_target is Language.SPANISH
