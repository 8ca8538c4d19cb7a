"""What an answer must be before the reasoning-gym library's own scorer sees it, dataset by dataset.

The library's scorers were written to be lenient, and a policy that is rewarded by them learns the
leniency. Each entry here closes a hole that was found by trying (the tests keep the attacks):
    - EXACT: the scorer evaluates the text (the four marked), takes any text for True, or gives
      full credit to a right beginning; only the exact answer is right, so it is not asked;
    - NUMBERS: the scorer takes the first number in a text, or any first digits, for the whole;
    - SEQUENCES: the scorer accepts NaN and numbers that are off by one;
    - EXPRESSIONS: the scorer evaluates the text, and puzzle24 accepts numbers that were not given;
    - FORMULAS: the scorer evaluates the text through sympy; only harmless tokens may pass;
    - SHAPES: the scorer reads a part of the text; the answer must be shaped like the own one, digit by digit;
    - LOGIC: the scorer reads the first statement of a text and skips what it does not know;
    - FORMS: the scorer ignores what it does not understand, so that an answer can be hidden among
      others, takes NaN for a match, or raises on a text of another form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from openbook.tasks.answers import Number, quote, read_number
from openbook.tasks.formula import formula_fault

EXACT = frozenset(
    [
        *("binary_matrix", "n_queens", "spiral_matrix", "string_insertion"),  # eval()
        *("calendar_arithmetic", "figlet_font", "game_of_life_halting"),
        *("letter_jumble", "spell_backward", "word_sorting"),
    ]
)
NUMBERS: Mapping[str, Fraction] = {"coin_flip": Fraction(1, 1000), "gsm_symbolic": Fraction(0)}
"""With the relative error that is allowed: coin_flip's own answers are rounded."""

SEQUENCES = frozenset(["number_sorting"])
EXPRESSIONS = frozenset(["countdown", "puzzle24"])
SHAPES = frozenset(["time_intervals"])
LOGIC = frozenset(["propositional_logic"])
FORMULAS = frozenset(["intermediate_integration", "polynomial_multiplication", "simple_integration"])

_NUMERAL = r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?"
_WHOLE = r"[0-9]{1,40}"
_GRID = r"[0-9]{1,3}(?:[ \n]+[0-9]{1,3})*"
_TURN = r"[FBUDLRMESfbudlrxyz]w?'?[0-9]{0,2}"
_HANOI = r"Move disk [0-9]{1,3} from Peg [0-9]{1,3} to Peg [0-9]{1,3}"
FORMS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(form)
    for name, form in {
        "advanced_geometry": rf"\(?{_NUMERAL}(?:, ?{_NUMERAL})?\)?\u00b0?",
        "boxnet": r"\[\s*\{[^\x00]*\}\s*\]",
        "complex_arithmetic": r"[-+0-9.ij() ]{1,80}",
        "fraction_simplification": rf"\$?(?:\\d?frac\{{{_WHOLE}\}}\{{{_WHOLE}\}}|{_WHOLE}/{_WHOLE})\$?",
        "game_of_life": r"\[\s*\[[\[\]0-9,\s]*\]\s*\]",
        "kakurasu": _GRID,
        "knights_knaves": r"[A-Z][a-z]+ is an? [a-z]+(?:(?:,| and|, and) [A-Z][a-z]+ is an? [a-z]+)*[.!]?",
        "polynomial_equations": rf"{_NUMERAL}(?:, ?{_NUMERAL})*",
        "prime_factorization": rf"{_WHOLE}(?:\s*\u00d7\s*{_WHOLE})*",
        "quantum_lock": r"[A-Ca-c](?:(?:\s*(?:\u2192|->|,)\s*|\s*)[A-Ca-c])*",
        "rubiks_cube": rf"{_TURN}(?:\s+{_TURN})*",
        "sokoban": r"[UDLRudlr]+",
        "survo": _GRID,
        "tower_of_hanoi": rf"{_HANOI}(?: *\n[ \n]*{_HANOI})*",
    }.items()
}

_HUGE = re.compile(r"(?<![0-9a-z.])[0-9.]+e[+-]?[0-9]{3,}(?![0-9a-z])", re.IGNORECASE)


def form_fault(name: str, own: str, text: str) -> str:
    """Why `text` may not reach the scorer of dataset `name`, whose own answer is `own`; empty when it may."""
    if _HUGE.search(text):
        return f"answer holds an exponent of three digits or more: {quote(text)}"
    if any(char.isdecimal() and not char.isascii() for char in text):
        return f"only ASCII digits are read, got {quote(text)}"
    if name in FORMULAS:
        return formula_fault(text, names=own)
    if name in LOGIC and not _is_logic(text):
        return f"answer is not one statement of logic: {quote(text)}"
    if name in SHAPES and _shape(text) != _shape(own):
        return f"answer is not of the form that was asked for, such as {quote(own)}: {quote(text)}"
    form = FORMS.get(name)
    if form is not None and not form.fullmatch(text):
        return f"answer is not of the form that {name} asks for: {quote(text)}"
    return ""


_CONNECTIVES = "\u2227\u2228\u2192\u2194"  # and, or, implies, equivalent; \u00ac is not
_PART = re.compile(rf"\u00ac*(?:[A-Z]|\((?:x|x[{_CONNECTIVES}]x)\))")
_STATEMENT = re.compile(rf"x(?:[{_CONNECTIVES}]x)?")


def _is_logic(text: str) -> bool:
    """Whether `text` is one statement: innermost parts are replaced by `x` until nothing else is left."""
    if "x" in text:
        return False
    before, rest = "", re.sub(r"[ \n]", "", text)
    while before != rest:
        before, rest = rest, _PART.sub("x", rest)
    return _STATEMENT.fullmatch(rest) is not None


def _shape(text: str) -> str:
    return re.sub("[0-9]{1,9}", "9", text)


def same_text(own: str, text: str) -> bool:
    """Equal but for letter case and the width of spaces, line by line."""
    return _plain(own) == _plain(text)


def number_fault(name: str, own: str, text: str) -> str:
    """Why `text` is not the number `own`, within the error allowed for dataset `name`."""
    given = read_number(text)
    if not isinstance(given, Number):
        return given
    expected = Fraction(own.replace(",", ""))
    if abs(given.value - expected) > NUMBERS[name] * abs(expected):
        return f"expected {own}, got {quote(text)}"
    return ""


def same_sequence(own: str, text: str) -> bool:
    """Whether two lists like `['3.5', '-2']` or `[3.50, -2]` hold the same numbers in the same order."""
    numbers = _sequence(text)
    return numbers is not None and numbers == _sequence(own)


_ITEM = rf"['\"]?({_NUMERAL})['\"]?"
_LIST = re.compile(rf"\[\s*(?:{_ITEM}\s*,\s*)*{_ITEM}\s*\]")


def _sequence(text: str) -> list[Fraction] | None:
    if not _LIST.fullmatch(text.strip()):
        return None
    return [Fraction(numeral) for numeral in re.findall(_NUMERAL, text)]


def _plain(text: str) -> list[str]:
    lines = (re.sub(r"\s*,\s*", ", ", line) for line in text.casefold().strip().splitlines())
    return [" ".join(line.split()) for line in lines]
