"""Two plain rules about the text of a completion, the same for every family of problems."""

from __future__ import annotations

import re

from openbook.tasks.words import number_words

_NUMERAL = r"[0-9]+(?:\.[0-9]+|/[0-9]+)?"
_SIGNED_NUMERAL = re.compile(rf"(?<![\w.)])[+-]{_NUMERAL}|{_NUMERAL}")
_STEP_MARK = re.compile(rf"{_NUMERAL}|=")


def has_steps(thinking: str) -> bool:
    """Whether thinking holds at least one step: two or more of number words, numerals and equals signs.

    `b = seven` is a step, and so is `7 times 2`; `hmm` is none, and neither is a lone `7`, which may be
    the answer blurted out. The rule sees whether something was worked at, not whether it is right.
    """
    return len(number_words(thinking)) + len(_STEP_MARK.findall(thinking)) >= 2


def last_number(text: str) -> str:
    """The last numeral of a text as it stands there; empty when there is none.

    `last_number("so c = 3 - 7 = -4.")` is `"-4"`. A minus sign right after a digit, a letter or a closing
    bracket is a subtraction and not part of the number.
    """
    found = _SIGNED_NUMERAL.findall(text)
    return found[-1] if found else ""
