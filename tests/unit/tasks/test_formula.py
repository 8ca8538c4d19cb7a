from __future__ import annotations

import time

import pytest

from openbook.tasks.formula import formula_fault


@pytest.mark.parametrize(
    "text",
    [
        "x**2 + C",
        "2*exp(6*x**2 + 3*x - 1) + C",
        "5428*x**6 + 8555*x**5 - 0.5*x",
        "x**(3/2)/3 + x**(-1)",
        "sin(x)*cos(x)",
        "(x + 1)**2",
        "x**2*x**3",
    ],
)
def test_formulas_are_let_through(text: str) -> None:
    assert formula_fault(text, names="x") == ""


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "x.__class__",
        "().__class__",
        "open('f')",
        "eval(x)",
        "lambda: x",
        "x; x",
        "x if x else x",
        "[x for x in x]",
        "x**x**x",
        "9**9**9",
        "9**(9**9)",
        "9**(9)**9",
        "9**999",
        "9** 9 **9",
        "x**-1",
        "x!",
        "factorial(9)",
        "1e9",
        "1.2.3",
        "1" * 13,
        "y + C",
        "x\u00b2",
        "\u0661",
        "x" + "+x" * 300,
        "x**2*" * 31 + "x",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    assert formula_fault(text, names="x") != ""


def test_long_texts_are_read_in_no_time() -> None:
    start = time.process_time()
    for text in ("x" * 10**6, "(" * 500, " " * 500 + "!", "**" * 250, "x**" * 160):
        formula_fault(text, names="x")
    assert time.process_time() - start < 0.5
