"""Number words from 0 to 9 in two languages: what a small model can mix up, and a rule can tell apart.

A person's thoughts in two languages at once are hard to read, and R1-Zero's were (DeepSeek-R1 2.3.1).
Here the two languages are the number words of English and Spanish, which share no word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum


class Language(StrEnum):
    """A language that number words are written in."""

    ENGLISH = "english"
    SPANISH = "spanish"


NUMBER_WORDS: Mapping[Language, tuple[str, ...]] = {
    Language.ENGLISH: ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    Language.SPANISH: ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"),
}

_MEANING = {
    word: (language, value) for language, words in NUMBER_WORDS.items() for value, word in enumerate(words)
}
_WORD = re.compile(r"\b[^\W\d_]+\b")


def word_for(value: int, language: Language) -> str:
    """`word_for(4, Language.SPANISH)` is `cuatro`; `value` must be 0 to 9."""
    assert 0 <= value <= 9, f"there are words for 0 to 9 only, not for {value}"
    return NUMBER_WORDS[language][value]


def language_of(word: str) -> Language | None:
    """The language of a number word in any letter case; None for every other word."""
    meaning = _MEANING.get(word.casefold())
    return meaning[0] if meaning else None


def value_of(word: str) -> int | None:
    """What a number word of either language stands for; None for every other word."""
    meaning = _MEANING.get(word.casefold())
    return meaning[1] if meaning else None


def number_words(text: str) -> list[str]:
    """The number words of `text` in their order, as whole words: `stone` holds no `one`."""
    return [word for word in _WORD.findall(text) if word.casefold() in _MEANING]


def language_shares(text: str) -> Mapping[Language, float]:
    """The share of each language among the number words of `text`; all 0 when there are none."""
    found = [language_of(word) for word in number_words(text)]
    return {language: found.count(language) / len(found) if found else 0.0 for language in Language}
