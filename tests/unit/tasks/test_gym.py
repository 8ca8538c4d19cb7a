from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from openbook.errors import UserError
from openbook.tasks.gym import GymConfig, GymFamily, gym_names
from openbook.tasks.gym_library import GymLibrary, LibraryFault, LibraryTimeout
from openbook.tasks.problem import Outcome, Problem, Split
from openbook.tasks.split import split_of

NEEDS_OPTIONS = {"composite": "it mixes other datasets, which its options must name"}
WITHOUT_OWN_ANSWER = {
    "boxnet": "many plans solve it and the library stores none",
    "rush_hour": "many sequences of moves solve it and the library stores none",
}
CAN_BE_ANY_VALID_CONCLUSION = {
    "propositional_logic": "premises may contradict each other, and then everything follows"
}


@pytest.fixture(scope="module")
def library() -> Iterator[GymLibrary]:
    library = GymLibrary()
    yield library
    library.close()


def family_of(name: str, library: GymLibrary) -> GymFamily:
    return GymFamily(GymConfig(name=name), library)


def problem_of(name: str, own: str, **facts: object) -> Problem:
    return Problem(
        id=f"gym/{name}/train/0/0",
        family=f"gym/{name}",
        split=Split.TRAIN,
        question="",
        answer=own,
        difficulty=0,
        facts={"source_dataset": name, **facts},
    )


def test_every_dataset_makes_a_problem_whose_own_answer_is_scored_correct(library: GymLibrary) -> None:
    failed = {}
    for name in library.names():
        if name in NEEDS_OPTIONS:
            continue
        family = family_of(name, library)
        problem = family.problem(0, Split.TRAIN, 0)
        assert problem.question and split_of(problem.question) is Split.TRAIN
        assert problem.facts["source_dataset"] == name  # our rules go by it
        if name in WITHOUT_OWN_ANSWER:
            assert problem.answer == ""
            continue
        index = problem.facts["index"]
        assert isinstance(index, int)
        score = library.score(name, {}, index, problem.answer, seconds=30.0)
        verdict = family.verify(problem, problem.answer)
        if score != 1.0 or not verdict.correct:
            failed[name] = (score, verdict)
    assert failed == {}


def test_names_are_prefixed_and_the_exceptions_above_exist(library: GymLibrary) -> None:
    names = gym_names(library)
    assert len(names) >= 100 and "gym/chain_sum" in names
    for exceptions in (NEEDS_OPTIONS, WITHOUT_OWN_ANSWER, CAN_BE_ANY_VALID_CONCLUSION):
        assert {f"gym/{name}" for name in exceptions} <= set(names)


def test_the_library_stays_out_of_our_process() -> None:
    code = (
        "import sys; from openbook.tasks.gym import *; library = GymLibrary();"
        "GymFamily(GymConfig(name='gcd'), library).problem(0, Split.TRAIN, 0); library.close();"
        "assert not {'reasoning_gym', 'sympy', 'numpy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=100)


def test_an_address_gives_the_same_problem_in_another_process(library: GymLibrary) -> None:
    other = GymLibrary()
    for name in ("chain_sum", "isomorphic_strings", "gsm_symbolic", "acre"):
        ours, theirs = (
            [family_of(name, used).problem(4, Split.HELD_OUT, index) for index in range(3)]
            for used in (library, other)
        )
        assert ours == theirs
        assert len({problem.question for problem in ours}) > 1
    other.close()


def test_train_and_held_out_questions_never_meet(library: GymLibrary) -> None:
    family = family_of("gcd", library)
    questions = {
        split: {family.problem(seed, split, index).question for seed in range(3) for index in range(10)}
        for split in Split
    }
    assert questions[Split.TRAIN].isdisjoint(questions[Split.HELD_OUT])


def test_options_reach_the_dataset(library: GymLibrary) -> None:
    config = GymConfig(name="chain_sum", options={"min_terms": 2, "max_terms": 2})
    for index in range(5):
        question = GymFamily(config, library).problem(0, Split.TRAIN, index).question
        assert question.count(" + ") + question.count(" - ") == 1


def test_a_composite_names_its_parts_in_its_options(library: GymLibrary) -> None:
    parts = [{"name": name, "weight": 1.0, "config": {}} for name in ("gcd", "lcm")]
    family = GymFamily(GymConfig(name="composite", options={"datasets": parts}), library)
    problems = [family.problem(0, Split.TRAIN, index) for index in range(8)]
    assert len({problem.question.split()[2] for problem in problems}) > 1
    assert all(family.verify(problem, problem.answer).correct for problem in problems)
    assert family.verify(problems[0], "-1").outcome is Outcome.WRONG


def test_our_rules_hold_for_the_parts_of_a_composite(library: GymLibrary) -> None:
    parts = [{"name": "game_of_life_halting", "weight": 1.0, "config": {}}]
    family = GymFamily(GymConfig(name="composite", options={"datasets": parts}), library)
    problem = family.problem(0, Split.TRAIN, 0)
    assert family.verify(problem, "maybe").outcome is Outcome.WRONG


def test_an_unknown_dataset_names_the_nearest(library: GymLibrary) -> None:
    with pytest.raises(UserError, match="did you mean 'chain_sum'"):
        family_of("chain_summ", library).problem(0, Split.TRAIN, 0)


def test_options_that_the_dataset_refuses_are_a_user_error(library: GymLibrary) -> None:
    family = GymFamily(GymConfig(name="chain_sum", options={"max_term": 3}), library)
    with pytest.raises(UserError, match=r"cannot open 'chain_sum'.*max_term.*check its options"):
        family.problem(0, Split.TRAIN, 0)


def test_anything_below_full_score_is_wrong_and_names_the_score(library: GymLibrary) -> None:
    family = family_of("chain_sum", library)
    problem = family.problem(0, Split.TRAIN, 0)
    verdict = family.verify(problem, f"it is {problem.answer}")
    assert verdict.outcome is Outcome.WRONG
    assert verdict.reason.startswith("scored 0.") and verdict.reason.endswith("by reasoning-gym's chain_sum")


def test_another_right_answer_is_correct(library: GymLibrary) -> None:
    family = family_of("shortest_path", library)
    assert (
        family_of("countdown", library)
        .verify(problem_of("countdown", "2*3*4", numbers=[2, 3, 4], target=24), "4*(3*2)")
        .correct
    )
    problem = family.problem(0, Split.TRAIN, 0)
    assert family.verify(problem, f"  {problem.answer}\n").correct


def test_an_exception_in_the_library_is_unscorable_with_the_reason() -> None:
    class Failing(GymLibrary):
        def score(self, *args: object, **kwargs: object) -> float:
            raise LibraryFault("KeyError: 'cells'")

    verdict = family_of("gcd", Failing()).verify(problem_of("gcd", "4", index=0), "5")
    assert verdict.outcome is Outcome.UNSCORABLE
    assert verdict.reason == "reasoning-gym failed: KeyError: 'cells'"


def test_a_late_scorer_is_killed_and_the_next_request_is_served() -> None:
    library = GymLibrary()
    family = GymFamily(GymConfig(name="intermediate_integration", seconds_to_score=0.5), library)
    problem = family.problem(0, Split.TRAIN, 0)
    variable = next(char for char in problem.answer if char in "xXyYzZ")
    slow = "*".join([f"sin(cos({variable})*exp({variable}**99))**99"] * 8)
    start = time.perf_counter()
    verdict = family.verify(problem, slow)
    assert verdict.outcome is Outcome.TIMED_OUT and "0.5 seconds" in verdict.reason
    assert time.perf_counter() - start < 10
    assert library.item("gcd", {}, 3).question
    library.close()


def test_a_worker_that_dies_is_a_fault_and_is_replaced(library: GymLibrary) -> None:
    assert library.item("gcd", {}, 1)
    process = library._workers[0].process
    process.send_signal(signal.SIGSTOP)  # so that it dies in the midst of the request
    threading.Timer(0.2, process.kill).start()
    with pytest.raises(LibraryFault, match="died"):
        library.item("gcd", {}, 1)
    assert library.item("gcd", {}, 1)


def test_a_worker_that_died_between_requests_is_replaced_unnoticed(library: GymLibrary) -> None:
    assert library.item("gcd", {}, 1)
    library._workers[0].process.kill()
    library._workers[0].process.wait()
    assert library.item("gcd", {}, 1)


def test_a_dataset_that_takes_too_long_is_a_timeout() -> None:
    library = GymLibrary(seconds_to_make=0.001)
    library.names()
    with pytest.raises(LibraryTimeout, match=r"0\.001 seconds"):
        library.item("futoshiki", {}, 12345678)
    library.close()
