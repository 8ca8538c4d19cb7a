"""Hold the text of a formula against what a formula may contain, before sympy sees it.

sympy's parser hands the text to Python's `eval`. Harmless are numerals, one-letter names, a few functions,
`+ - * / ( )` and powers with a small number as exponent: no strings, no attributes, no comparisons, and
no towers of powers. What is let through can still be slow, so the scorer's time limit holds as well.
"""

from __future__ import annotations

import re

FUNCTIONS = frozenset(
    ["exp", "log", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"]
)
MAX_CHARS = 500
MAX_POWERS = 30

_TOKEN = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?(?![0-9.])|[-+*/()]|[A-Za-z]+| +")
_EXPONENT = r"(?:[0-9]{1,2}(?![0-9.])|\( *-? *[0-9]{1,2} *(?:/ *[0-9]{1,2} *)?\))"
_POWER = re.compile(r"\*\* *" + _EXPONENT + r"(?! *\*\*)")


def formula_fault(text: str, *, names: str) -> str:
    """Why `text` is no harmless formula; empty when it is one. Never raises on any text.

    `names` is a formula whose one-letter names may occur, besides the constant `C`; any other
    letter could stand in for a constant and hide a second answer.
    """
    allowed = FUNCTIONS | {"C"} | set(re.findall(r"\b[A-Za-z]\b", names))
    if len(text) > MAX_CHARS:
        return f"formula is too long: {len(text)} characters, at most {MAX_CHARS}"
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return f"character {text[position]!a} is not allowed here in a formula"
        if match[0].isalpha() and match[0] not in allowed:
            return f"{match[0]!r} is not a name in this formula"
        position = match.end()
    if text.count("**") > MAX_POWERS:
        return f"more than {MAX_POWERS} powers"
    if "**" in _POWER.sub("", text):
        return "powers must have one exponent: a whole number below 100 or a fraction of two such"
    return ""
