from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from openbook.errors import UserError
from openbook.tasks import code as code_module
from openbook.tasks.code import CodeConfig, CodeFamily, lazy_passes, read_code
from openbook.tasks.code_exercises import EXERCISES
from openbook.tasks.problem import BatchFamily, Outcome, Problem, Split, Submission
from openbook.tasks.sandbox import (
    CodeTest,
    Isolation,
    SandboxBroke,
    SandboxLimits,
    SandboxUnavailable,
    probe,
)
from openbook.tasks.split import split_of

ISOLATION = probe()
isolated = pytest.mark.skipif(not ISOLATION.may_run, reason=ISOLATION.refused)

FAMILY = CodeFamily(CodeConfig())


@pytest.fixture(autouse=True)
def problems_are_made_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_module, "probe", lambda: Isolation(held={}, refused=""))


def problems(count: int, split: Split = Split.TRAIN) -> list[Problem]:
    return [FAMILY.problem(0, split, index) for index in range(count)]


def problem_about(function: str) -> Problem:
    return next(problem for problem in problems(400) if problem.facts["function"] == function)


def calls_of(problem: Problem) -> list[CodeTest]:
    arguments, expected = problem.facts["arguments"], problem.facts["expected"]
    assert isinstance(arguments, list) and isinstance(expected, list)
    return [CodeTest(arguments=given, expected=made) for given, made in zip(arguments, expected, strict=True)]


@isolated
def test_every_exercise_accepts_its_own_solution_at_every_level() -> None:
    seen: dict[object, int] = {}
    for problem in problems(150):
        function = problem.facts["function"]
        if seen.get(function, 0) < 1:
            seen[function] = seen.get(function, 0) + 1
            verdict = FAMILY.verify(problem, problem.answer)
            assert verdict.correct, (problem.answer, verdict)
    assert set(seen) == {exercise.name for exercise in EXERCISES}


def test_an_address_gives_the_same_problem_again_and_another_seed_another() -> None:
    assert problems(5) == problems(5)
    assert FAMILY.problem(1, Split.TRAIN, 0) != FAMILY.problem(0, Split.TRAIN, 0)


def test_train_and_held_out_share_no_statement() -> None:
    statements: dict[Split, set[str]] = {split: set() for split in Split}
    for split in Split:
        for problem in problems(300, split):
            statement = problem.question.partition(" Examples: ")[0]
            assert split_of(statement) is split
            statements[split].add(statement)
    assert not statements[Split.TRAIN] & statements[Split.HELD_OUT]
    assert len(statements[Split.TRAIN]) > 200 and len(statements[Split.HELD_OUT]) > 80


def test_the_question_shows_the_examples_and_hides_the_other_tests() -> None:
    for problem in problems(50):
        tests = calls_of(problem)
        shown = problem.question.partition(" Examples: ")[2].split("; " + str(problem.facts["function"]))
        assert len(tests) == 10 and len(shown) == 2
        assert all(repr(test.expected) in part for test, part in zip(tests[:2], shown, strict=True))


def test_the_level_is_the_difficulty_and_can_be_dialled() -> None:
    for level in (1, 2, 3):
        family = CodeFamily(CodeConfig(min_level=level, max_level=level))
        assert {family.problem(0, Split.TRAIN, index).difficulty for index in range(20)} == {level}
    with pytest.raises(ValueError, match="max_level"):
        CodeConfig(min_level=3, max_level=2)
    with pytest.raises(ValueError, match="num_hidden"):
        CodeConfig(num_hidden=2)


def test_many_examples_and_few_hidden_tests_can_be_had() -> None:
    family = CodeFamily(CodeConfig(num_examples=8, num_hidden=3))
    assert all(len(calls_of(family.problem(0, Split.TRAIN, index))) == 11 for index in range(100))


def test_hidden_tests_let_no_lazy_answer_pass() -> None:
    for problem in problems(200):
        hidden = calls_of(problem)[2:]
        outputs = [test.expected for test in hidden]
        assert all(outputs.count(output) < len(outputs) for output in outputs), "a constant passes"
        assert any(test.expected != test.arguments[0] for test in hidden), "the argument itself passes"


def test_lazy_answers_are_recognised() -> None:
    def tests(pairs: Sequence[tuple[object, object]]) -> list[CodeTest]:
        return [CodeTest(arguments=[given], expected=made) for given, made in pairs]

    assert lazy_passes(tests([(1, 5), (2, 5), (3, 6)]))
    assert lazy_passes(tests([(1, 1), (2, 2), (3, 3)]))
    assert not lazy_passes(tests([(1, 2), (2, 3), (3, 4)]))


@isolated
def test_answers_may_come_plain_or_in_one_fence() -> None:
    problem = problems(1)[0]
    for fence in ("{}", "```python\n{}\n```", "```\n{}```", "\n```py\n{}\n```\n"):
        assert FAMILY.verify(problem, fence.format(problem.answer)).correct


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("x" * 8001, "too long"),
        ("```python\na\n```\n```python\nb\n```", "many answers"),
        ("Here it is: ```python\na\n```", "outside"),
        ("```python\na\n``` That is it.", "outside"),
        ("```python\na", "more than one block"),
        ("# </answer>", "a tag"),
    ],
)
def test_what_is_no_code_alone_is_wrong_without_being_run(answer: str, reason: str) -> None:
    verdict = read_code(answer)
    assert not isinstance(verdict, str) and verdict.outcome is Outcome.WRONG and reason in verdict.reason


def test_comparisons_in_code_are_not_taken_for_tags() -> None:
    assert read_code("def f(a, b, c): return a <b and c> a") == "def f(a, b, c): return a <b and c> a"


@isolated
def test_code_that_hangs_breaks_or_fails_is_wrong_with_the_reason() -> None:
    family = CodeFamily(CodeConfig(limits=SandboxLimits(wall_seconds=0.5)))
    problem = problem_about("sum_divisible")
    for body, reason in (
        ("__import__('time').sleep(9)", "timed_out, at test 1 of 10 (example)"),
        ("bytearray(10**10)", "out_of_memory"),
        ("'x' * 10**6", "too_much_output"),
        ("__import__('os')._exit(0)", "crashed"),
        ("1 / 0", "ZeroDivisionError"),
        ("0", "failed, at test"),
        ("sum(xs", "SyntaxError"),
    ):
        verdict = family.verify(problem, f"def sum_divisible(xs): return {body}")
        assert verdict.outcome is Outcome.WRONG and reason in verdict.reason, verdict


@isolated
def test_an_answer_that_knows_the_examples_only_fails_a_hidden_test() -> None:
    problem = problem_about("sum_divisible")
    pairs = re.findall(r"sum_divisible\((\[[^=]*\])\) == (-?\d+)", problem.question)
    assert len(pairs) == 2
    table = ", ".join(f"{given!r}: {made}" for given, made in pairs)
    answer = f"def sum_divisible(xs): return {{{table}}}.get(str(xs), 0)"
    assert "hidden test" in FAMILY.verify(problem, answer).reason


@isolated
def test_many_are_judged_at_once_as_one_by_one() -> None:
    made = problems(6)
    answers = [problem.answer if place % 2 else "x = 1" for place, problem in enumerate(made)]
    submissions = [
        Submission(problem=problem, answer=answer, completion=answer)
        for problem, answer in zip(made, answers, strict=True)
    ]
    assert isinstance(FAMILY, BatchFamily)
    one_by_one = [FAMILY.verify(one.problem, one.answer) for one in submissions]
    assert FAMILY.verify_many(submissions) == one_by_one
    assert [verdict.correct for verdict in one_by_one] == [False, True] * 3


def test_without_isolation_problems_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_module, "probe", lambda: Isolation(held={}, refused="no user namespace"))
    with pytest.raises(UserError, match=r"no user namespace.*openbook doctor"):
        CodeFamily(CodeConfig()).problem(0, Split.TRAIN, 0)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [(SandboxUnavailable("gone"), Outcome.UNSCORABLE), (SandboxBroke("died"), Outcome.CRASHED)],
)
def test_a_sandbox_that_fails_midway_is_no_judgement(
    fault: Exception, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: object) -> None:
        raise fault

    problem = problems(1)[0]
    monkeypatch.setattr(code_module, "run_tests", failing)
    verdict = FAMILY.verify(problem, problem.answer)
    assert (verdict.outcome, verdict.reason) == (outcome, str(fault))
