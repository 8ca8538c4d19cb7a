from __future__ import annotations

import pytest

from openbook.tasks.answers import quote, read_number, verify_number
from openbook.tasks.problem import Outcome


@pytest.mark.parametrize("text", ["7", " 7\n", "+7", "007", "7.0", "7.000", "\t7\r\n"])
def test_the_same_whole_number_may_be_written_in_several_ways(text: str) -> None:
    assert verify_number("7", text).correct


@pytest.mark.parametrize(
    ("expected", "text"), [("1/2", "2/4"), ("1/2", "0.5"), ("0.25", "1/4"), ("-3", "-3"), ("0", "-0")]
)
def test_equal_numbers_are_equal(expected: str, text: str) -> None:
    assert verify_number(expected, text).correct


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no answer: the answer is empty"),
        ("  \n ", "no answer: the answer is empty"),
        ("8", "expected 7, got '8'"),
        ("-7", "expected 7, got '-7'"),
        ("7 8", "two answers: '7 8'"),
        ("7, 8", "two answers: '7, 8'"),
        ("7 or 8", "two answers: '7 or 8'"),
        ("7\n8\n9", "many answers: '7\\n8\\n9'"),
        ("seven", "answer is not a number: 'seven'"),
        ("44**19**35", "expected a number, got '44**19**35'"),
        ("14/2", "expected a whole number, got the fraction '14/2'"),
        ("0/0", "answer is a fraction with denominator 0"),
        ("1,000", "answer is not a number: thousands separators are not read, got '1,000'"),
        ("1_000", "answer is not a number: thousands separators are not read, got '1_000'"),
        ("\u0667", "answer is not a number: only ASCII digits are read, got '\\u0667'"),
        ("\u22127", "answer is not a number: only ASCII digits are read, got '\\u22127'"),
        ("<answer>7</answer>", "a tag inside the answer: '<answer>7</answer>'"),
        ("7</answer>", "a tag inside the answer: '7</answer>'"),
        ("7" * 41, "answer has too many digits: at most 40"),
        ("7" * 201, "answer is too long: 201 characters, at most 200"),
        ("7.", "expected a number, got '7.'"),
        ("7e0", "expected a number, got '7e0'"),
        ("0x7", "expected a number, got '0x7'"),
        ("3+4", "expected a number, got '3+4'"),
        ("(7)", "expected a number, got '(7)'"),
        ("c = 7", "expected a number, got 'c = 7'"),
        ("nan", "answer is not a number: 'nan'"),
    ],
)
def test_a_wrong_answer_says_why(text: str, reason: str) -> None:
    verdict = verify_number("7", text)
    assert (verdict.outcome, verdict.reason) == (Outcome.WRONG, reason)


def test_a_spaced_group_of_three_digits_is_a_thousands_separator_not_two_answers() -> None:
    assert "thousands separators" in verify_number("7000", "7 000").reason


def test_a_sealed_answer_that_is_no_number_is_a_programming_mistake() -> None:
    with pytest.raises(AssertionError, match="sealed answer"):
        verify_number("seven", "7")


def test_a_reason_quotes_in_ascii_and_shortens() -> None:
    assert quote("\u00e9" * 100) == "'" + "\\xe9" * 40 + "...'"
    assert isinstance(read_number("x" * 150), str)
