from __future__ import annotations

import time
from fractions import Fraction

import pytest

from openbook.tasks.arithmetic import evaluate


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", Fraction(8)),
        ("8-2-4", Fraction(2)),
        ("8-(2-4)", Fraction(10)),
        ("8/2/4", Fraction(1)),
        ("8/(2/4)", Fraction(16)),
        ("2+4*8", Fraction(34)),
        ("(2 + 4) * 8", Fraction(48)),
        ("(8-2)/4", Fraction(3, 2)),
        ("2-8", Fraction(-6)),
        ("((((8))))", Fraction(8)),
    ],
)
def test_expressions_have_their_usual_value(text: str, value: Fraction) -> None:
    assert evaluate(text, [2, 4, 8]) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no answer: the answer is empty"),
        ("2**4", "expected a number or '(', got '*'"),
        ("2+", "expected a number or '(', got the end"),
        ("-2+4", "expected a number or '(', got '-'"),
        ("2+-4", "expected a number or '(', got '-'"),
        ("2(4)", "expected an operator, got '('"),
        ("(2)(4)", "expected an operator, got '('"),
        ("2 4", "expected an operator, got '4'"),
        ("2+4)", "expected an operator, got ')'"),
        ("(2+4", "a parenthesis is not closed"),
        ("()", "expected a number or '(', got ')'"),
        ("2/(4-4)", "4 is used more often than it is given"),
        ("2/(8-4-4)", "4 is used more often than it is given"),
        ("2+2", "2 is used more often than it is given"),
        ("2+5", "5 is not one of the given numbers"),
        ("24", "24 is not one of the given numbers"),
        ("02+4", "02 is not one of the given numbers"),
        ("2.0+4", "character '.' is not allowed in an expression"),
        ("2^4", "character '^' is not allowed in an expression"),
        ("2+4=6", "character '=' is not allowed in an expression"),
        ("2\u00d74", "character '\\xd7' is not allowed in an expression"),
        ("\u0662+4", "character '\\u0662' is not allowed in an expression"),
        ("x+2", "character 'x' is not allowed in an expression"),
        ("2,4", "character ',' is not allowed in an expression"),
        ("1" * 7, "a numeral has 7 digits, at most 6"),
        ("(" * 21 + "2" + ")" * 21, "parentheses are nested deeper than 20"),
        ("2" + " " * 200, "expression is too long: 201 characters, at most 200"),
    ],
)
def test_what_breaks_a_rule_says_which(text: str, reason: str) -> None:
    assert evaluate(text, [2, 4, 8]) == reason


def test_dividing_by_zero_is_a_reason_and_not_an_exception() -> None:
    assert evaluate("8/(4-4)", [4, 4, 8]) == "division by zero"


def test_a_tower_of_powers_is_refused_at_once() -> None:
    start = time.process_time()
    assert evaluate("44**19**35", [19, 35, 44]) == "expected a number or '(', got '*'"
    assert time.process_time() - start < 0.1
