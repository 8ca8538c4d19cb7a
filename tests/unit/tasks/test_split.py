from __future__ import annotations

import random

import pytest

from openbook.errors import UserError
from openbook.tasks.chain import ChainConfig, ChainFamily
from openbook.tasks.problem import Split
from openbook.tasks.split import Address, distinct_problems, draw, split_of


def test_one_question_in_ten_is_held_out() -> None:
    held_out = sum(split_of(f"question {number}?") is Split.HELD_OUT for number in range(5000))
    assert 420 <= held_out <= 580


def test_the_split_of_a_question_is_fixed_for_all_time() -> None:
    # a change here would move problems between the splits of runs already made
    held_out = [number for number in range(60) if split_of(f"question {number}?") is Split.HELD_OUT]
    assert held_out == [4, 7, 9, 15, 26, 30, 35]


def test_spacing_and_letter_case_do_not_change_the_split() -> None:
    for number in range(50):
        assert split_of(f"Make {number}  from\n3?") is split_of(f" make {number} from 3? ")


def test_the_id_names_family_split_seed_and_index() -> None:
    address = Address(family="chain", seed=7, split=Split.HELD_OUT, index=12)
    assert address.id == "chain/held_out/7/12"


def test_an_address_gives_the_same_random_numbers_on_every_machine() -> None:
    address = Address(family="chain", seed=7, split=Split.TRAIN, index=0)
    assert [address.rng().randrange(1000) for _ in range(2)] == [address.rng().randrange(1000)] * 2
    assert address.rng().randrange(10**6) == 940792


def test_a_draw_returns_a_candidate_of_the_split_asked_for() -> None:
    for index in range(20):
        address = Address(family="dice", seed=1, split=Split.HELD_OUT, index=index)
        drawn = draw(address, lambda rng: str(rng.randrange(10**6)), str)
        assert split_of(drawn) is Split.HELD_OUT


def test_a_family_without_a_problem_in_the_split_says_what_to_do() -> None:
    empty = Split.HELD_OUT if split_of("only this") is Split.TRAIN else Split.TRAIN
    address = Address(family="tiny", seed=0, split=empty, index=0)

    def candidate(rng: random.Random) -> str:
        return "only this"

    with pytest.raises(UserError, match=r"tiny.*widen its settings"):
        draw(address, candidate, str)


def test_distinct_problems_do_not_repeat_a_question() -> None:
    family = ChainFamily(ChainConfig(min_operations=1, max_operations=1, start_letters=1))
    problems = distinct_problems(family, seed=0, split=Split.HELD_OUT, count=15)
    assert len({problem.question for problem in problems}) == 15
    assert problems == distinct_problems(family, seed=0, split=Split.HELD_OUT, count=15)


def test_asking_for_more_distinct_problems_than_there_are_says_how_many() -> None:
    family = ChainFamily(ChainConfig(min_operations=1, max_operations=1, start_letters=1))
    with pytest.raises(UserError, match=r"only about [0-9]+ different held_out problems"):
        distinct_problems(family, seed=0, split=Split.HELD_OUT, count=200)
