"""Read and compute `+ - * /` over given numbers: a tokenizer and a recursive-descent parser by hand.

    expression = term   (("+" | "-") term)*
    term       = factor (("*" | "/") factor)*
    factor     = number | "(" expression ")"

The text comes from a model, so nothing of it is ever evaluated by Python. Each numeral must be one of
the given numbers and uses it up, which bounds every value; so `44**19**35` fails at its second star,
`-5` and `2(3)` at their first token that does not fit, and nothing takes long.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

MAX_CHARS = 200
MAX_DEPTH = 20
MAX_DIGITS = 6

_TOKEN = re.compile(r"[0-9]+|[-+*/()]")
_END = "the end"


class _Fault(Exception):
    """The text breaks a rule; the message says which. Never leaves this module."""


def evaluate(text: str, numbers: Sequence[int]) -> Fraction | str:
    """The exact value of `text` over `numbers`, each used at most once, or why it has none.

    Example: `evaluate("(8 - 2) / 4", [2, 4, 8])` is 3/2. Never raises on any text.
    """
    try:
        return _Parser(_tokens(text), numbers).value()
    except _Fault as fault:
        return str(fault)


def _tokens(text: str) -> list[str]:
    if len(text) > MAX_CHARS:
        raise _Fault(f"expression is too long: {len(text)} characters, at most {MAX_CHARS}")
    tokens = []
    position = 0
    while position < len(text):
        if text[position] in " \t\r\n":
            position += 1
            continue
        match = _TOKEN.match(text, position)
        if match is None:
            raise _Fault(f"character {text[position]!a} is not allowed in an expression")
        if len(match[0]) > MAX_DIGITS:
            raise _Fault(f"a numeral has {len(match[0])} digits, at most {MAX_DIGITS}")
        tokens.append(match[0])
        position = match.end()
    if not tokens:
        raise _Fault("no answer: the answer is empty")
    return [*tokens, _END]


class _Parser:
    """One pass over the tokens; `available` counts the numbers not yet used."""

    def __init__(self, tokens: Sequence[str], numbers: Sequence[int]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.given = frozenset(numbers)
        self.available = Counter(numbers)

    def value(self) -> Fraction:
        value = self._expression()
        if self.tokens[self.position] != _END:
            raise _Fault(f"expected an operator, got {self.tokens[self.position]!r}")
        return value

    def _expression(self) -> Fraction:
        value = self._term()
        while (operator := self.tokens[self.position]) in ("+", "-"):
            self.position += 1
            value = value + self._term() if operator == "+" else value - self._term()
        return value

    def _term(self) -> Fraction:
        value = self._factor()
        while (operator := self.tokens[self.position]) in ("*", "/"):
            self.position += 1
            factor = self._factor()
            if operator == "/" and factor == 0:
                raise _Fault("division by zero")
            value = value * factor if operator == "*" else value / factor
        return value

    def _factor(self) -> Fraction:
        token = self.tokens[self.position]
        self.position += 1
        if token.isdigit():
            return self._number(token)
        if token != "(":
            raise _Fault(f"expected a number or '(', got {token if token is _END else repr(token)}")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Fault(f"parentheses are nested deeper than {MAX_DEPTH}")
        value = self._expression()
        if self.tokens[self.position] != ")":
            raise _Fault("a parenthesis is not closed")
        self.position += 1
        self.depth -= 1
        return value

    def _number(self, numeral: str) -> Fraction:
        number = int(numeral)
        if number not in self.given or numeral != str(number):
            raise _Fault(f"{numeral} is not one of the given numbers")
        if self.available[number] == 0:
            raise _Fault(f"{numeral} is used more often than it is given")
        self.available[number] -= 1
        return Fraction(number)
