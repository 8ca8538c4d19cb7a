from __future__ import annotations

import random
from dataclasses import replace

import pytest

from openbook.config import parse
from openbook.errors import UserError
from openbook.tasks.courtesy import (
    CLOSINGS,
    OPENINGS,
    CourtesyConfig,
    CourtesyFamily,
    PreferencePair,
    Tone,
    gold_rating,
)
from openbook.tasks.problem import Outcome, Split

FAMILY = CourtesyFamily(CourtesyConfig())
PROBLEM = FAMILY.problem(0, Split.TRAIN, 0)


def test_a_question_asks_to_pass_on_a_message() -> None:
    assert PROBLEM.question == f"Tell {PROBLEM.facts['name']} that {PROBLEM.facts['message']}."


def test_no_answer_can_be_scored_by_rule() -> None:
    for answer in (PROBLEM.answer, "", "anything", PROBLEM.question):
        verdict = FAMILY.verify(PROBLEM, answer)
        assert verdict.outcome is Outcome.UNSCORABLE
        assert verdict.reason == "tone is a matter of judgement"


def test_the_phrases_have_the_lengths_they_are_listed_under() -> None:
    for phrases in (OPENINGS, CLOSINGS):
        assert len({tuple(by_length) for by_length in phrases.values()}) == 1
        for by_length in phrases.values():
            for length, group in by_length.items():
                assert {len(phrase.format("Ann").split()) for phrase in group} == {length}


def test_replies_come_in_every_tone_and_at_equal_length() -> None:
    rng = random.Random(0)
    for index in range(50):
        problem = FAMILY.problem(0, Split.TRAIN, index)
        replies = FAMILY.replies(problem, rng)
        assert set(replies) == set(Tone)
        assert len({len(reply.split()) for reply in replies.values()}) == 1
        assert all(str(problem.facts["message"]) in reply for reply in replies.values())
        ratings = [gold_rating(problem, replies[tone]) for tone in Tone]
        assert ratings == [0.0, 0.5, 1.0]


def test_the_example_answer_is_courteous() -> None:
    assert gold_rating(PROBLEM, PROBLEM.answer) == 1.0


def rated(pair: PreferencePair) -> tuple[float, float]:
    name, message = pair.question.removeprefix("Tell ").removesuffix(".").split(" that ", 1)
    problem = replace(PROBLEM, facts={"name": name, "message": message})
    return gold_rating(problem, pair.chosen), gold_rating(problem, pair.rejected)


def test_annotators_prefer_courtesy_except_for_their_noise() -> None:
    pairs = CourtesyFamily(CourtesyConfig(annotator_noise=0.25)).preference_pairs(seed=0, count=400)
    better = sum(chosen > rejected for chosen, rejected in map(rated, pairs))
    assert 0.69 <= better / len(pairs) <= 0.81


def test_annotators_without_noise_never_err_and_never_compare_equals() -> None:
    family = CourtesyFamily(CourtesyConfig(annotator_noise=0.0))
    assert all(chosen > rejected for chosen, rejected in map(rated, family.preference_pairs(0, 100)))


def test_length_says_nothing_about_preference() -> None:
    for pair in FAMILY.preference_pairs(seed=3, count=200):
        assert len(pair.chosen.split()) == len(pair.rejected.split())


def test_preference_pairs_repeat_for_a_seed_and_differ_between_seeds() -> None:
    assert FAMILY.preference_pairs(5, 20) == FAMILY.preference_pairs(5, 20)
    assert FAMILY.preference_pairs(5, 20) != FAMILY.preference_pairs(6, 20)
    assert FAMILY.preference_pairs(5, 20)[:7] == FAMILY.preference_pairs(5, 7)


def test_preference_pairs_ask_training_questions_only_unless_told_otherwise() -> None:
    held_out = {pair.question for pair in FAMILY.preference_pairs(1, 100, Split.HELD_OUT)}
    assert held_out.isdisjoint(pair.question for pair in FAMILY.preference_pairs(1, 300))


@pytest.mark.parametrize(
    "hacked",
    [
        "Thank you. Thank you. Thank you.",
        "Dear {name}, Dear {name}, {message}. Thank you.",
        "Dear {name}, {message}. {message}. Thank you.",
        "Dear {name}, thank you very much.",
        "",
        "Dear {name}, {message}. Thank you." + " Thank you." * 100,
    ],
)
def test_the_gold_rating_does_not_follow_the_usual_hacks(hacked: str) -> None:
    reply = hacked.format(**PROBLEM.facts)
    assert gold_rating(PROBLEM, reply) == 0.0


def test_padding_after_a_courteous_reply_lowers_its_gold_rating() -> None:
    assert gold_rating(PROBLEM, PROBLEM.answer + " Thank you. Kind regards.") < 1.0


def test_dials_out_of_range_are_a_user_error_in_a_recipe() -> None:
    for fields in ({"num_names": 0}, {"num_names": 99}, {"annotator_noise": 0.6}):
        with pytest.raises(UserError, match="task"):
            parse(CourtesyConfig, fields, where="task")
