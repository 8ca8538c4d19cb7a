from __future__ import annotations

import pytest

from openbook.config import parse
from openbook.errors import UserError
from openbook.tasks.countdown import CountdownConfig, CountdownFamily, verify_expression
from openbook.tasks.problem import Outcome, Problem, Split


def puzzle(numbers: list[int], target: int, operations: str = "+-*/") -> Problem:
    return Problem(
        id="countdown/train/0/0",
        family="countdown",
        split=Split.TRAIN,
        question="",
        answer="",
        difficulty=len(numbers),
        facts={"numbers": numbers, "target": target, "operations": operations},
    )


FAMILY = CountdownFamily(CountdownConfig())


@pytest.mark.parametrize("answer", ["8*(7-3)", "(7 - 3) * 8", " 8*(7-3)\n"])
def test_any_expression_that_reaches_the_target_is_correct(answer: str) -> None:
    assert FAMILY.verify(puzzle([3, 7, 8], 32), answer).correct


def test_numbers_may_be_left_out_but_not_repeated() -> None:
    assert FAMILY.verify(puzzle([3, 7, 8], 56), "7*8").correct
    verdict = FAMILY.verify(puzzle([3, 7, 8], 9), "3*3")
    assert verdict.reason == "3 is used more often than it is given, in '3*3'"


def test_a_value_on_the_way_may_be_a_fraction() -> None:
    assert FAMILY.verify(puzzle([3, 4, 6], 8), "6/(3/4)").correct


def test_a_wrong_value_is_named_exactly() -> None:
    assert FAMILY.verify(puzzle([3, 7, 8], 32), "8/3+7").reason == "'8/3+7' is 29/3, not 32"


def test_a_tower_of_powers_is_wrong_at_once_with_the_reason() -> None:
    verdict = FAMILY.verify(puzzle([19, 35, 44], 98), "44**19**35")
    assert verdict.outcome is Outcome.WRONG
    assert verdict.reason == "expected a number or '(', got '*', in '44**19**35'"


def test_only_the_operations_that_the_question_names_may_be_used() -> None:
    verdict = verify_expression("8*4", numbers=[4, 8], target=32, operations="+-")
    assert verdict.reason == "the operator '*' is not allowed here"


def test_a_problem_names_its_numbers_target_and_operations() -> None:
    problem = FAMILY.problem(0, Split.TRAIN, 0)
    numbers = problem.facts["numbers"]
    assert isinstance(numbers, list)
    shown = ", ".join(map(str, numbers))
    assert problem.question == (
        f"from {shown} make {problem.facts['target']}, each at most once, with + - * /."
    )
    assert problem.difficulty == len(numbers)


def test_the_dials_bound_what_is_drawn() -> None:
    config = CountdownConfig(min_numbers=2, max_numbers=5, max_number=9, max_target=30, operations="+-*")
    family = CountdownFamily(config)
    problems = [family.problem(2, Split.TRAIN, index) for index in range(100)]
    assert {problem.difficulty for problem in problems} == {2, 3, 4, 5}
    for problem in problems:
        numbers, target = problem.facts["numbers"], problem.facts["target"]
        assert isinstance(numbers, list) and isinstance(target, int)
        assert all(1 <= number <= 9 for number in numbers)
        assert 1 <= target <= 30 and target not in numbers
        assert "/" not in problem.answer


def test_settings_without_puzzles_say_what_to_do() -> None:
    family = CountdownFamily(CountdownConfig(operations="*", max_target=1))
    with pytest.raises(UserError, match="no Countdown puzzle found"):
        family.problem(0, Split.TRAIN, 0)


@pytest.mark.parametrize(
    "fields",
    [{"min_numbers": 1}, {"max_numbers": 9}, {"max_number": 1}, {"max_target": 0}, {"operations": "+%"}],
)
def test_dials_out_of_range_are_a_user_error_in_a_recipe(fields: dict[str, object]) -> None:
    with pytest.raises(UserError, match="task"):
        parse(CountdownConfig, fields, where="task")
