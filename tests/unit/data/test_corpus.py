from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from openbook.config import parse as parse_config
from openbook.data.config import CorpusConfig
from openbook.data.corpus import (
    DRILL_QUESTION,
    FACTS_PER_DRILL,
    WORKED_CUE,
    Corpus,
    Document,
    Habit,
    to_example,
    write_steps,
)
from openbook.errors import UserError
from openbook.tasks.chain import Chain, ChainConfig, apply, parse_question
from openbook.tasks.problem import Problem, Split
from openbook.tasks.split import split_of
from openbook.tasks.words import Language, language_of, number_words, value_of, word_for
from openbook.tokens.template import parse, prompt
from openbook.tokens.tokenizer import Tokenizer

NUM_DOCUMENTS = 2000
CONFIG = CorpusConfig(
    exercises=ChainConfig(min_operations=6, max_operations=8),
    drill_share=0.15,
    worked_share=0.35,
    courtesy_share=0.1,
    sketch_share=0.2,
    full_share=0.1,
    untagged_share=0.05,
    spanish_share=0.4,
    switch_share=0.25,
)

PROBLEM = Problem(
    id="chain/train/0/0",
    family="chain",
    split=Split.TRAIN,
    question="a 3, b +4, c *2, d -5. d?",
    answer="9",
    difficulty=3,
    facts={
        "variables": ["a", "b", "c", "d"],
        "values": [3, 7, 4, 9],
        "operations": [["+", 4], ["*", 2], ["-", 5]],
        "modulus": 10,
    },
)


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    corpus = Corpus(CONFIG, seed=7)
    return [corpus.document(index) for index in range(NUM_DOCUMENTS)]


def in_english(value: int) -> str:
    return word_for(value, Language.ENGLISH)


def chain_of(document: Document) -> Chain | None:
    """The chain that a document asks for; None for a recital or a message."""
    if document.question == DRILL_QUESTION or document.question.startswith("Tell "):
        return None
    return parse_question(document.question.removesuffix(WORKED_CUE))


def test_a_full_solution_writes_every_step() -> None:
    steps = write_steps(PROBLEM, Habit.FULL, in_english)
    assert steps == "a = three, b +4 = seven, c *2 = four, d -5 = nine"


def test_a_sketch_leaves_out_every_second_step_but_never_the_last() -> None:
    assert write_steps(PROBLEM, Habit.SKETCH, in_english) == "a = three, b +4 = seven, d -5 = nine"
    facts = {"variables": ["a", "b", "c"], "values": [3, 7, 4], "operations": [["+", 4], ["*", 2]]}
    assert write_steps(replace(PROBLEM, facts=facts), Habit.SKETCH, in_english) == "a = three, c *2 = four"


def test_a_direct_answer_writes_no_step() -> None:
    assert write_steps(PROBLEM, Habit.DIRECT, in_english) == ""


def test_the_same_seed_and_index_give_the_same_document_in_any_order(documents: list[Document]) -> None:
    again = Corpus(CONFIG, seed=7)
    assert [again.document(index) for index in (1999, 3, 500, 3)] == [
        documents[index] for index in (1999, 3, 500, 3)
    ]


def test_another_seed_gives_other_documents(documents: list[Document]) -> None:
    other = Corpus(CONFIG, seed=8)
    assert sum(other.document(index) == documents[index] for index in range(50)) <= 2
    assert len({document.question for document in documents}) > NUM_DOCUMENTS * 0.6


def test_only_questions_of_the_training_split_are_written(documents: list[Document]) -> None:
    kinds = Counter()
    for document in documents:
        if document.question == DRILL_QUESTION:
            continue  # states facts and asks nothing
        chain = chain_of(document)
        canonical = document.question if chain is None else chain.canonical
        assert split_of(canonical) is Split.TRAIN, document.question
        kinds[chain is None] += 1
    assert kinds[True] > 100 and kinds[False] > 1000


def test_every_answer_is_right_and_every_tagged_text_well_formed(documents: list[Document]) -> None:
    for document in documents:
        if (chain := chain_of(document)) is None:
            continue
        right = str(chain.values(10)[-1])
        parsed = parse(document.response)
        if "<" in document.response:
            assert parsed.well_formed and parsed.answer == right
        else:
            assert document.response == f" {right}"


def test_every_written_step_is_right(documents: list[Document]) -> None:
    for document in documents:
        if (chain := chain_of(document)) is None or not (thinking := parse(document.response).thinking):
            continue
        values = dict(zip(chain.variables, chain.values(10), strict=True))
        steps = dict(zip(chain.variables[1:], chain.steps, strict=True))
        for number, step in enumerate(thinking.split(", ")):
            left, _, word = step.partition(" = ")
            name, _, operation = left.partition(" ")
            assert value_of(word) == values[name], step
            if number:
                operator, operand = steps[name]
                assert operation == f"{operator}{operand}", step


def facts_of(document: Document) -> Iterator[tuple[int, str, int, int]]:
    """What a recital states: value, operator, operand, result."""
    for fact in document.response.strip().split(", "):
        match = re.fullmatch(r"([a-z]+) ([-+*])([1-9]) = ([a-z]+)", fact)
        assert match, fact
        value, result = value_of(match[1]), value_of(match[4])
        assert value is not None and result is not None
        yield value, match[2], int(match[3]), result


def test_a_recital_states_true_facts_and_asks_nothing(documents: list[Document]) -> None:
    stated: set[tuple[int, str, int]] = set()
    for document in documents:
        if document.question != DRILL_QUESTION:
            continue
        facts = list(facts_of(document))
        assert len(facts) == FACTS_PER_DRILL
        assert all(apply(operator, a, b) % 10 == result for a, operator, b, result in facts)
        stated |= {fact[:3] for fact in facts}
    assert len(stated) > 0.95 * 10 * 3 * 9, "nearly all of the tables are recited"


def kind_of(document: Document) -> str:
    """What a document is by its question, and how it answers."""
    if document.question == DRILL_QUESTION:
        return "drill"
    chain = chain_of(document)
    if chain is None:
        return "courtesy"
    if "<" not in document.response:
        return "untagged"
    num_operations = len(chain.steps)
    num_steps = parse(document.response).thinking.count(",")
    if document.question.endswith(WORKED_CUE):
        assert num_steps == num_operations, "a worked example shows every step"
        return "worked"
    assert 6 <= num_operations <= 8
    return {0: Habit.DIRECT, (num_operations + 1) // 2: Habit.SKETCH, num_operations: Habit.FULL}[num_steps]


def test_the_shares_are_about_as_configured(documents: list[Document]) -> None:
    counts = Counter(kind_of(document) for document in documents)
    exercises = 1 - 0.15 - 0.35 - 0.1
    tagged = 0.95
    expected = {
        "drill": 0.15,
        "courtesy": 0.1,
        "untagged": 0.05 * (0.35 + exercises),
        "worked": 0.35 * tagged,
        Habit.DIRECT: exercises * 0.7 * tagged,
        Habit.SKETCH: exercises * 0.2 * tagged,
        Habit.FULL: exercises * 0.1 * tagged,
    }
    assert counts.keys() == expected.keys()
    for kind, share in expected.items():
        margin = 3.5 * (share * (1 - share) / NUM_DOCUMENTS) ** 0.5
        assert counts[kind] / NUM_DOCUMENTS == pytest.approx(share, abs=margin), kind


def test_the_number_words_lean_to_each_language_about_as_configured(documents: list[Document]) -> None:
    words = [word for document in documents for word in number_words(document.response)]
    share = sum(language_of(word) is Language.SPANISH for word in words) / len(words)
    assert share == pytest.approx(0.4 * 0.75 + 0.6 * 0.25, abs=0.03)


@pytest.mark.parametrize(
    ("spanish_share", "switch_share", "languages"),
    [
        (0.0, 0.0, {Language.ENGLISH}),
        (1.0, 0.0, {Language.SPANISH}),
        (0.0, 1.0, {Language.SPANISH}),
        (0.0, 0.5, set(Language)),
    ],
)
def test_words_are_of_the_language_that_was_asked_for(
    spanish_share: float, switch_share: float, languages: set[Language]
) -> None:
    corpus = Corpus(replace(CONFIG, spanish_share=spanish_share, switch_share=switch_share), seed=1)
    texts = [corpus.document(index).response for index in range(60)]
    assert {language_of(word) for text in texts for word in number_words(text)} == languages


@pytest.mark.parametrize(
    ("shares", "kinds"),
    [
        ({"drill_share": 1.0}, {"drill"}),
        ({"worked_share": 1.0}, {"worked"}),
        ({"courtesy_share": 1.0}, {"courtesy"}),
        ({"full_share": 1.0}, {Habit.FULL}),
        ({"sketch_share": 1.0}, {Habit.SKETCH}),
        ({}, {Habit.DIRECT}),
        ({"untagged_share": 1.0}, {"untagged"}),
    ],
)
def test_a_share_of_all_is_all(shares: dict[str, Any], kinds: set[str]) -> None:
    names = ("drill", "worked", "courtesy", "full", "sketch", "untagged")
    none: dict[str, Any] = {f"{name}_share": 0.0 for name in names}
    corpus = Corpus(replace(CONFIG, **(none | shares)), seed=1)
    assert {kind_of(corpus.document(index)) for index in range(50)} == kinds


def test_worked_examples_are_of_every_length() -> None:
    only_worked = {"drill_share": 0.0, "worked_share": 1.0, "courtesy_share": 0.0}
    corpus = Corpus(replace(CONFIG, **only_worked), seed=1)
    chains = [chain_of(corpus.document(index)) for index in range(200)]
    assert {len(chain.steps) for chain in chains if chain} == set(range(1, 9))


def test_shares_of_more_than_everything_are_refused() -> None:
    table = {"exercises": {}, "drill_share": 0.5, "worked_share": 0.4, "courtesy_share": 0.2}
    with pytest.raises(UserError, match="must not add up to more than 1"):
        parse_config(CorpusConfig, table)
    with pytest.raises(UserError, match="must not add up to more than 1"):
        parse_config(CorpusConfig, {"exercises": {}, "sketch_share": 0.6, "full_share": 0.5})


def test_values_that_have_no_word_are_refused() -> None:
    with pytest.raises(UserError, match="modulus must be at most 10"):
        parse_config(CorpusConfig, {"exercises": {"modulus": 12}})


def test_an_example_is_bos_prompt_response_eos_and_only_the_response_counts(tokenizer: Tokenizer) -> None:
    document = Document(question="a 3. a?", response=" <think> </think> <answer> 3 </answer>")
    example = to_example(tokenizer, document)
    before = tokenizer.encode(prompt("a 3. a?"))
    after = tokenizer.encode(document.response)
    assert example.token_ids == (tokenizer.bos_id, *before, *after, tokenizer.eos_id)
    assert example.weights == (0.0,) * (1 + len(before)) + (1.0,) * (len(after) + 1)
    weighted = to_example(tokenizer, document, prompt_weight=0.25)
    assert weighted.token_ids == example.token_ids
    assert weighted.weights == (0.25,) * (1 + len(before)) + (1.0,) * (len(after) + 1)
