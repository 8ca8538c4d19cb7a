"""The math-verify library, as the one function that `maths.MathsVerifier` runs behind the wall.

Never imported by the rest of openbook: the library takes a second to import, its parser and sympy can hang or
fill the memory (Math-Verify issues 63 and 65), and its own time limits do not hold for all of that. They are
off here; the wall's hold.
"""

from __future__ import annotations

import logging

import math_verify

logging.disable()  # it warns that its limits are off, and of every text that it cannot read


def compare(gold: str, text: str) -> str:
    """Empty where `text` equals `gold`, both LaTeX without dollar signs; else why it is wrong.

    ValueError where `gold` cannot be read: then there is nothing to compare with.
    """
    expected = _read(gold)
    if not expected:
        raise ValueError(f"the answer {gold!r} of the problem cannot be read")
    try:
        given = _read(text)
    except Exception as error:  # whatever its parser makes of a model's text, the text is to blame
        return f"cannot be read: {type(error).__name__}"
    if not given:
        return "cannot be read as mathematics"
    equal = math_verify.verify(expected, given, timeout_seconds=None, raise_on_error=True)
    return "" if equal else "not equal"


def _read(text: str) -> list[object]:
    # the options that only help to find an answer in prose are left out: it has been found
    reading = [math_verify.LatexExtractionConfig(boxed_match_priority=-1)]
    return list(math_verify.parse(f"${text}$", reading, parsing_timeout=None, raise_on_error=True))


# What the first comparisons import, compile and learn is done once for each worker, and not in every fork.
for own, other in (
    (r"\frac{1}{2}", "0.5"),
    (r"2\sqrt{3}", r"\sqrt{12}"),
    (r"x^{2}+1=y", "(x-1)(x+1)"),
    ("1,2", "(1,2]"),
):
    compare(own, other)
