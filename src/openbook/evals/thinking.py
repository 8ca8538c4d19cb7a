"""A plain rule about the text of a completion, the same for every family of problems."""

from __future__ import annotations

import re

from openbook.tasks.words import number_words
from openbook.tokens.numerals import NUMERAL

_STEP_MARK = re.compile(rf"{NUMERAL}|=")


def has_steps(thinking: str) -> bool:
    """Whether thinking holds at least one step: two or more of number words, numerals and equals signs.

    `b = seven` is a step, and so is `7 times 2`; `hmm` is none, and neither is a lone `7`, which may be
    the answer blurted out. The rule sees whether something was worked at, not whether it is right.
    """
    return len(number_words(thinking)) + len(_STEP_MARK.findall(thinking)) >= 2
