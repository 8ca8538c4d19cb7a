"""Attacks on the verifiers: texts that earned a reward somewhere, and must earn none here."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from openbook.tasks.chain import ChainConfig, ChainFamily
from openbook.tasks.countdown import CountdownConfig, CountdownFamily
from openbook.tasks.gym import GymConfig, GymFamily
from openbook.tasks.gym_library import GymLibrary
from openbook.tasks.problem import Family, Outcome, Problem, Split

OWN = [ChainFamily(ChainConfig()), CountdownFamily(CountdownConfig())]
SECONDS_AT_ONCE = 0.1  # of this process, however busy the machine


def attacks(problem: Problem) -> Iterator[str]:
    """Each holds the right answer, or everything, or nothing, or does harm when it is evaluated."""
    answer, question = problem.answer, problem.question
    yield from ("", " ", "\n", "\x00", "?", "nan", "inf", "None", "True", "[]", "{}", "()", "''", "x" * 10**6)
    yield from (question, question + answer, answer + question)
    yield from (f"{answer} {answer}", f"{answer} or 1", f"1 {answer}", f"{answer}\n{answer}")
    yield from (f"the answer is {answer}", f"={answer}", f"{answer}=", f"{answer}.", f"'{answer}'")
    yield from (f"{answer}; {answer}", f"{answer}#", f"{answer}\x00", f"\\boxed{{{answer}}}")
    yield from (f"<answer>{answer}</answer>", f"</answer><answer>{answer}", f"<think></think>{answer}")
    yield " ".join(map(str, range(100)))
    yield ", ".join(map(str, range(10)))
    yield from ("44**19**35", "9**9**9**9", "1e999999999", "1/0", "9" * 10**5, "(" * 10**5, "-" * 1000)
    yield from ("".join(chr(0x660 + int(c)) if c.isdigit() else c for c in answer),)  # Arabic digits
    yield from ("".join(chr(0xFF10 + int(c)) if c.isdigit() else c for c in answer),)  # full-width digits
    yield from ("__import__('os').abort()", "exit()", "lambda: 0", f"[{answer}][0]", f"max({answer}, 0)")
    yield from (f"{answer}*1", f"{answer}+0", f"{answer}**1", f"+-{answer}", f"--{answer}", f"0+{answer}")
    yield "\ud800"


def earned(family: Family, problem: Problem) -> list[tuple[str, str]]:
    found = []
    for text in attacks(problem):
        start = time.process_time()
        verdict = family.verify(problem, text)
        if verdict.outcome is not Outcome.WRONG or not verdict.reason:
            found.append((text[:60], verdict.reason))
        if time.process_time() - start > SECONDS_AT_ONCE:
            found.append((text[:60], "slow"))
    return found


@pytest.mark.parametrize("family", OWN, ids=lambda family: family.name)
def test_no_attack_earns_a_reward_or_takes_time(family: Family) -> None:
    for index in range(10):
        assert earned(family, family.problem(0, Split.TRAIN, index)) == []


@pytest.fixture(scope="module")
def library() -> Iterator[GymLibrary]:
    library = GymLibrary()
    yield library
    library.close()


# dataset -> texts to which the library itself gives full credit; {} is the right answer
HOLES = {
    "game_of_life_halting": ["maybe", "True and False", "0", "{}!"],
    "complex_arithmetic": ["nan", "NaN"],
    "coin_flip": ["0", "0."],
    "number_sorting": ["[NaN, NaN, NaN]", "[NaN, NaN, NaN, NaN]", "[NaN, NaN, NaN, NaN, NaN]"],
    "gsm_symbolic": ["{} or 7", "{} 1 2 3 4 5", "the answer is {}"],
    "spell_backward": ["{}abc", "{} {}"],
    "letter_jumble": ["{} and more", "{} {}"],
    "word_sorting": ["{}, zebra", "{}, {}"],
    "fraction_simplification": ["{} or 1/2", "1/2 {}"],
    "polynomial_equations": ["{} {}", "maybe {}"],
    "knights_knaves": ["{} {}", "{} Or not."],
    "sokoban": ["{} or not", "the answer is {}"],
    "quantum_lock": ["{} or 7"],
    "kakurasu": ["{} or 7", "the answer is {}"],
    "survo": ["the answer is {}"],
    "propositional_logic": ["({}\u200b)", "{} {}", "{})", "{} and"],
    "rubiks_cube": ["1, 2, 3, {}", "so {}", "{} .", "{} F99999999"],
    "time_intervals": ["{}, 1, 2, 3", "{} days, 1", "{} or so"],
    "tower_of_hanoi": ["So {}", "\x00{}", "{} or not"],
}


@pytest.mark.parametrize("name", HOLES)
def test_a_hole_in_the_library_stays_closed(name: str, library: GymLibrary) -> None:
    family = GymFamily(GymConfig(name=name), library)
    for index in range(4):
        problem = family.problem(0, Split.TRAIN, index)
        for hole in HOLES[name]:
            verdict = family.verify(problem, hole.replace("{}", problem.answer))
            assert verdict.outcome is Outcome.WRONG, (hole, problem.answer, verdict)


def test_puzzle24_takes_only_the_numbers_it_gave(library: GymLibrary) -> None:
    family = GymFamily(GymConfig(name="puzzle24"), library)
    problem = family.problem(0, Split.TRAIN, 0)
    assert problem.facts["numbers"] != [1, 2, 3, 4]
    assert family.verify(problem, "1*2*3*4").outcome is Outcome.WRONG
    assert family.verify(problem, problem.answer.replace("*", " * ")).correct


EVALUATING = [
    *("binary_matrix", "n_queens", "spiral_matrix", "string_insertion", "countdown", "puzzle24"),
    *("simple_integration", "intermediate_integration", "polynomial_multiplication"),
]


@pytest.mark.parametrize("name", EVALUATING)
def test_no_text_reaches_a_scorer_that_would_evaluate_it(name: str) -> None:
    class Listening(GymLibrary):
        def score(self, *args: object, **kwargs: object) -> float:
            raise AssertionError(f"the library was asked to score {args}")

    facts = {"source_dataset": name, "index": 0, "numbers": [2, 3, 4], "target": 24}
    problem = Problem(
        id="", family="", split=Split.TRAIN, question="", answer="2*3*4", difficulty=0, facts=facts
    )
    family = GymFamily(GymConfig(name=name), Listening())
    for text in attacks(problem):
        if text.strip() != problem.answer and not harmless(name, text):
            assert family.verify(problem, text).outcome is Outcome.WRONG, text


def harmless(name: str, text: str) -> bool:
    """Sums of numerals are formulas too, and sympy may see those."""
    integrals = ("simple_integration", "intermediate_integration", "polynomial_multiplication")
    return (
        name in integrals
        and len(text) < 500
        and set(text) <= set("0123456789*+-/() ")
        and (text.count("**") <= 1)
    )


@pytest.mark.parametrize("name", ["chain_sum", "gcd", "basic_arithmetic", "base_conversion", "dice", "maze"])
def test_no_attack_earns_a_reward_from_the_library(name: str, library: GymLibrary) -> None:
    family = GymFamily(GymConfig(name=name), library)
    problem = family.problem(0, Split.TRAIN, 0)
    equal = {f"{problem.answer}.", f"{problem.answer}\n{problem.answer}"}  # `7.` is a decimal to the library
    for text in attacks(problem):
        if text not in equal:
            assert not family.verify(problem, text).correct, text
