"""Compare an answer's text with a number, by reading it and never by computing it.

Accepted are an integer, a decimal or a fraction in ASCII digits with an optional sign. Whatever else
comes is a wrong answer with the reason in words: `44**19**35` is not a number, and neither is
`1,000`, `1e3`, `0x10`, a digit of another script or the right number beside other words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from openbook.tasks.problem import Outcome, Verdict

MAX_ANSWER_CHARS = 200
"""Longer texts are not looked at."""

MAX_DIGITS = 40
"""Digits in one numeral: enough for any family here, and far below what makes big integers slow."""

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+|/[0-9]+)?")
_TAG = re.compile(r"</?[A-Za-z_|][^<>\n]{0,40}>")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:[,_' ][0-9]{3})+(?:\.[0-9]+)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A numeral that was read: its exact value and whether it was written as a fraction."""

    value: Fraction
    is_fraction: bool


def correct() -> Verdict:
    return Verdict(outcome=Outcome.CORRECT, reason="correct")


def wrong(reason: str) -> Verdict:
    return Verdict(outcome=Outcome.WRONG, reason=reason)


def quote(text: str, limit: int = 40) -> str:
    """`text` for a one-line reason: quoted, in ASCII, shortened."""
    return ascii(text if len(text) <= limit else text[:limit] + "...")


def text_fault(text: str, max_chars: int = MAX_ANSWER_CHARS) -> str:
    """Why the text of an answer cannot be read at all; empty when it can.

    These faults are common to all families: nothing there, too long, or tags inside the answer.
    """
    if not text.strip():
        return "no answer: the answer is empty"
    if len(text) > max_chars:
        return f"answer is too long: {len(text)} characters, at most {max_chars}"
    if _TAG.search(text):
        return f"a tag inside the answer: {quote(text)}"
    return ""


def read_number(text: str) -> Number | str:
    """The number that `text` is, or why it is none."""
    if fault := text_fault(text):
        return fault
    numeral = text.strip(" \t\r\n")
    if not _NUMBER.fullmatch(numeral):
        return _why_no_number(numeral)
    whole, slash, below = numeral.partition("/")
    if max(len(part) for part in re.split(r"[./]", numeral)) > MAX_DIGITS:
        return f"answer has too many digits: at most {MAX_DIGITS}"
    if not slash:
        return Number(value=Fraction(whole), is_fraction=False)
    if int(below) == 0:
        return "answer is a fraction with denominator 0"
    return Number(value=Fraction(int(whole), int(below)), is_fraction=True)


def verify_number(expected: str, text: str) -> Verdict:
    """Whether `text` is the number `expected`. Never raises on any text.

    Leading zeros, a plus sign and trailing decimal zeros do not matter (`007` is 7), and equal
    fractions are equal (`2/4` is 1/2). Where an integer is expected, `8/2` is wrong: the division
    was left to the reader.
    """
    target = read_number(expected)
    assert isinstance(target, Number), f"the sealed answer {expected!r} is not a number: {target}"
    given = read_number(text)
    if isinstance(given, str):
        return wrong(given)
    if given.is_fraction and target.value.denominator == 1:
        return wrong(f"expected a whole number, got the fraction {quote(text)}")
    if given.value != target.value:
        return wrong(f"expected {expected}, got {quote(text.strip())}")
    return correct()


def _why_no_number(numeral: str) -> str:
    if _THOUSANDS.fullmatch(numeral):
        return f"answer is not a number: thousands separators are not read, got {quote(numeral)}"
    if not numeral.isascii():
        return f"answer is not a number: only ASCII digits are read, got {quote(numeral)}"
    pieces = re.split(r"(?:[\s,;]|\band\b|\bor\b)+", numeral)
    if len(pieces) > 1 and all(_NUMBER.fullmatch(piece) for piece in pieces):
        return f"two answers: {quote(numeral)}" if len(pieces) == 2 else f"many answers: {quote(numeral)}"
    if any(char in "0123456789" for char in numeral):
        return f"expected a number, got {quote(numeral)}"
    return f"answer is not a number: {quote(numeral)}"
