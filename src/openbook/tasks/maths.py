r"""Maths answers: `\frac{1}{2}` is 0.5, `2\sqrt{3}` is `\sqrt{12}`, by the math-verify library behind a wall.

    answer --our rules--> wrong with a reason, or --wall--> math-verify --> correct, wrong, or no judgement

Our rules come first, because the library looks for an answer in whatever it is given: it takes `5=4` for 4
and computes `40+2` where 42 is asked. Where the sealed answer is a number, a number has to be given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from openbook.errors import UserError
from openbook.tasks.answers import Number, correct, quote, read_number, text_fault, wrong
from openbook.tasks.problem import Outcome, Verdict
from openbook.tasks.wall import Wall, WallConfig

MAX_MATHS_CHARS = 400

_NUMERAL = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,40})(?:\.[0-9]{0,40})?"
_FRACTION = rf"(?:\\frac\{{[+-]?{_NUMERAL}\}}\{{{_NUMERAL}\}}|\\frac[0-9][0-9]|{_NUMERAL}/{_NUMERAL})"
_UNIT = r"(?:\\text\{[^{}0-9=|]{1,20}\}|\^\{?\\circ\}?|[A-Za-z]{1,12})"
_POWER_OF_TEN = r"\s*\\(?:times|cdot)\s*10\^(?:\{-?[0-9]{1,2}\}|[0-9])"
_ONE_NUMBER = re.compile(
    rf"(?:[A-Za-z]\s*=\s*)?\\?\$?[+-]?\s*(?:{_NUMERAL}\s*{_FRACTION}|{_FRACTION}|{_NUMERAL}|\.[0-9]{{1,40}})"
    rf"(?:{_POWER_OF_TEN})?\s*(?:\\?%|{_UNIT})?"
)
_NAMED = re.compile(r"[A-Za-z](?:\([a-z]\))?\s*=")
_SEPARATORS = re.compile(
    r"[,;\n]|\\(?:text|mathrm)\{\s*(?:or|and)\s*\}|\b(?:or|and)\b|\\q?quad|\\pm|\\mp|\\cup"
)
_LONG = re.compile(r"[0-9]{41}")
_HUGE = re.compile(r"(?:\^|\*\*)\s*[{(]*\s*[+-]?\s*[0-9]{4}|[0-9][eE][+-]?[0-9]{3}|[0-9]{3,}\s*!|!\s*!")
_TOWER = re.compile(r"(?:\^|\*\*)[^,;=+-]{0,40}(?:\^|\*\*)")
_ENDLESS = re.compile(r"\\(?:sum|prod|int|lim|binom|bigcup|bigcap|begin|input|def|newcommand)(?![A-Za-z])")
_WRAPPED = re.compile(r"\\boxed\{(.*)\}|\$+(.*?)\$+|\\\((.*)\\\)|\\\[(.*)\\\]", re.DOTALL)
_SPACES = re.compile(r"\\[,!;: ]|~|\\left\b|\\right\b")


class MathsVerifier:
    """Compares answers with sealed ones, many at once. The workers start on first use."""

    def __init__(self, config: WallConfig) -> None:
        self.wall = Wall("openbook.tasks.maths_library:compare", config, offers=("gold", "text"))

    def verify(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """A verdict for each pair of a sealed answer and a given one. Never raises on any text."""
        verdicts = [_by_rule(gold, text) for gold, text in pairs]
        asked = [index for index, verdict in enumerate(verdicts) if verdict is None]
        calls = [{"gold": plain(pairs[index][0]), "text": plain(pairs[index][1])} for index in asked]
        for index, reply in zip(asked, self.wall.call(calls), strict=True):
            gold, text = pairs[index]
            if reply.fault is not None:
                verdicts[index] = Verdict(outcome=reply.fault, reason=reply.reason)
            elif reply.value == "":
                verdicts[index] = correct()
            else:
                verdicts[index] = wrong(f"{reply.value}: expected {quote(gold)}, got {quote(text)}")
        return [verdict for verdict in verdicts if verdict is not None]

    def faults(self, golds: Sequence[str]) -> list[str]:
        """Why each sealed answer would be no use, empty where it is fine. Raises UserError."""
        fixed = [maths_fault(gold) for gold in golds]
        asked = [gold for gold, fault in zip(golds, fixed, strict=True) if not fault]
        replies = iter(self.wall.call([{"gold": plain(gold), "text": plain(gold)} for gold in asked]))
        return [fault or self._fault_of(next(replies).fault) for fault in fixed]

    def close(self) -> None:
        self.wall.close()

    def _fault_of(self, fault: Outcome | None) -> str:
        return "" if fault is None else f"math-verify cannot read it ({fault})"


def plain(text: str) -> str:
    r"""The answer itself: without dollar signs, `\boxed`, thin spaces and a full stop at the end."""
    text = text.strip()
    while (found := _WRAPPED.fullmatch(text)) is not None:
        text = next(group for group in found.groups() if group is not None).strip()
    text = _SPACES.sub(" ", text).replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
    return " ".join(text.removesuffix(".").split())


def maths_fault(text: str) -> str:
    """Why a text is not looked at: empty, long, or of a kind that takes for ever. Empty where it is."""
    if fault := text_fault(text, MAX_MATHS_CHARS):
        return fault
    if any(char.isdecimal() and not char.isascii() for char in text):
        return f"only ASCII digits are read, got {quote(text)}"
    if _LONG.search(text) or _HUGE.search(text) or _TOWER.search(text):
        return f"a number in it is too large: {quote(text)}"
    if _ENDLESS.search(text):
        return f"sums, integrals and the like are to be worked out: {quote(text)}"
    return ""


def _by_rule(gold: str, text: str) -> Verdict | None:
    """A verdict that needs no library; None where it is needed."""
    if fault := maths_fault(text):
        return wrong(fault)
    own, given = plain(gold), plain(text)
    if "$" in given or r"\boxed" in given:
        return wrong(f"many answers: {quote(text)}")
    if own == given:
        return correct()
    if _ONE_NUMBER.fullmatch(own):
        if not _ONE_NUMBER.fullmatch(given):
            return wrong(f"expected one number, got {quote(text)}")
        return _fraction_for_whole(own, given)
    if _SEPARATORS.search(given) and not _SEPARATORS.search(own):
        return wrong(f"many answers: {quote(text)}")
    if given.count("=") > own.count("=") and not (given.count("=") == 1 and _NAMED.match(given)):
        return wrong(f"an equation where an answer is wanted: {quote(text)}")
    if given.count("|") > own.count("|"):
        return wrong(f"bars that the answer does not have: {quote(text)}")
    return None


def _fraction_for_whole(own: str, given: str) -> Verdict | None:
    target = read_number(own)
    is_whole = isinstance(target, Number) and target.value.denominator == 1
    if is_whole and ("/" in given or r"\frac" in given):
        return wrong(f"expected a whole number, got the fraction {quote(given)}")
    return None


def require_library(verifier: MathsVerifier) -> None:
    """Raises UserError when math-verify cannot be used here."""
    try:
        verifier.wall.check()
    except UserError as error:
        raise UserError(f"maths answers need math-verify: {error.what}", "pip install math-verify") from error
