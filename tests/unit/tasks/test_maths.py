r"""Maths answers: equal ones are right however written, and what only contains the answer is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from openbook.tasks.maths import MathsVerifier, maths_fault, plain
from openbook.tasks.problem import Outcome
from openbook.tasks.wall import WallConfig

EQUAL = [
    (r"\frac{1}{2}", "0.5"),
    ("0.5", r"$\dfrac{1}{2}$"),
    ("0.5", "1/2"),
    (r"\frac12", "0.5"),
    ("7/2", r"3\frac{1}{2}"),
    (r"2\sqrt{3}", r"\sqrt{12}"),
    ("x+1", "1 + x"),
    ("x^2+2x+1", "(x+1)^2"),
    ("42", r"$\boxed{42}$"),
    ("42", "42."),
    ("42", "x = 42"),
    ("1000", "1,000"),
    ("12", "12 cm"),
    ("12", r"12\text{ cm}"),
    (r"50\%", "0.5"),
    ("(1,2)", r"\left(1, 2\right)"),
    ("1,2", "2, 1"),
    ("1500", r"1.5 \times 10^{3}"),
    ("x=5", "5"),
    (r"\text{Friday}", r"\text{Friday}"),
    (r"\$5", "5"),
]
WRONG = [
    ("4", "5", "not equal"),
    ("4", "", "empty"),
    ("4", "5=4", "expected one number"),
    ("4", "4|5", "expected one number"),
    ("42", "40+2", "expected one number"),
    ("4", "4 5", "expected one number"),
    ("4", "4 or 5", "expected one number"),
    ("4", r"4 \text{ or } 5", "expected one number"),
    ("4", "the answer is 4", "expected one number"),
    ("4", r"2^2", "expected one number"),
    ("4", "$4$ $5$", "many answers"),
    ("4", r"\boxed{4}\boxed{5}", "many answers"),
    ("4", "8/2", "expected a whole number"),
    ("4", r"\frac{8}{2}", "expected a whole number"),
    ("4", "\u0664", "only ASCII digits"),
    ("4", "<answer>4</answer>", "a tag inside"),
    ("x+1", "x+1 or x", "many answers"),
    ("x+1", "x+1, x", "many answers"),
    ("x+1", "x+2=x+1", "an equation"),
    ("x+1", "x+1|x", "bars"),
    ("x+1", "2^{10^{10}}", "too large"),
    ("x+1", "9" * 41, "too large"),
    ("x+1", "x^{99999}", "too large"),
    ("x+1", r"\sum_{i=1}^{10} i", "worked out"),
    ("x+1", "x" * 401, "too long"),
    ("x+1", r"\frac{", ""),
    ("x+1", "\ud800", ""),
    ("x+1", "\x00", ""),
]


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathsVerifier]:
    verifier = MathsVerifier(WallConfig(num_workers=2))
    yield verifier
    verifier.close()


def test_equal_answers_are_right_however_they_are_written(verifier: MathsVerifier) -> None:
    found = verifier.verify(EQUAL)
    assert [pair for pair, verdict in zip(EQUAL, found, strict=True) if not verdict.correct] == []


def test_what_is_not_the_answer_is_wrong_with_a_reason(verifier: MathsVerifier) -> None:
    found = verifier.verify([(gold, text) for gold, text, _ in WRONG])
    for (_, text, reason), verdict in zip(WRONG, found, strict=True):
        assert (verdict.outcome, reason in verdict.reason) == (Outcome.WRONG, True), (text, verdict)


@pytest.mark.parametrize(("gold", "text"), EQUAL[:8])
def test_an_answer_beside_another_earns_nothing(verifier: MathsVerifier, gold: str, text: str) -> None:
    forged = [f"{text}, 17", f"17 {text}", f"{text} or 17", f"17 = {text}", f"{text} | 17", f"{text}\n17"]
    for given, verdict in zip(forged, verifier.verify([(gold, one) for one in forged]), strict=True):
        assert not verdict.correct, given


def test_a_sealed_answer_that_cannot_be_read_is_found_before_it_is_needed(verifier: MathsVerifier) -> None:
    faults = verifier.faults([r"\frac{1}{2}", "", "2^{99999}", "x+1"])
    assert [bool(fault) for fault in faults] == [False, True, True, False]


def test_a_comparison_that_takes_too_long_is_no_judgement() -> None:
    impatient = MathsVerifier(WallConfig(seconds=1e-4, num_workers=1))
    (verdict,) = impatient.verify([("x+1", "x+2")])
    impatient.close()
    assert verdict.outcome is Outcome.TIMED_OUT


def test_wrapping_is_no_part_of_an_answer() -> None:
    for text in (r"$\boxed{7}$", r"\(7\)", "$$7$$", r"\[ 7 \]", " 7. ", r"\boxed{$7$}"):
        assert plain(text) == "7"
    assert maths_fault("7") == ""
