from __future__ import annotations

from openbook.tasks.words import (
    NUMBER_WORDS,
    Language,
    language_of,
    language_shares,
    number_words,
    value_of,
    word_for,
)


def test_each_language_has_ten_words_and_shares_none() -> None:
    words = [word for language in Language for word in NUMBER_WORDS[language]]
    assert len(words) == len(set(words)) == 20


def test_a_word_leads_back_to_its_value_and_language() -> None:
    for language in Language:
        for value in range(10):
            word = word_for(value, language)
            assert (language_of(word), value_of(word)) == (language, value)


def test_letter_case_does_not_matter_and_other_words_have_no_language() -> None:
    assert language_of("Cuatro") is Language.SPANISH
    assert value_of("SEVEN") == 7
    assert language_of("ten") is None
    assert value_of("") is None


def test_number_words_are_found_as_whole_words_in_order() -> None:
    assert number_words("stone One, dos;tres (four) one1 fone onenot") == ["One", "dos", "tres", "four"]


def test_shares_are_counted_over_number_words_alone() -> None:
    assert language_shares("b is siete, c is four and d is tres, e is uno") == {
        Language.ENGLISH: 0.25,
        Language.SPANISH: 0.75,
    }
    assert set(language_shares("no numbers here").values()) == {0.0}
