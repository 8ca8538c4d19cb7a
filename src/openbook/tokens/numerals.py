"""Numerals in running text."""

from __future__ import annotations

import re

NUMERAL = r"[0-9]+(?:\.[0-9]+|/[0-9]+)?"
_SIGNED_NUMERAL = re.compile(rf"(?<![\w.)])[+-]{NUMERAL}|{NUMERAL}")


def last_number(text: str) -> str:
    """The last numeral of a text as it stands there; empty when there is none.

    `last_number("so c = 3 - 7 = -4.")` is `"-4"`. A minus sign right after a digit, a letter or a closing
    bracket is a subtraction and not part of the number.
    """
    found = _SIGNED_NUMERAL.findall(text)
    return found[-1] if found else ""
