from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from openbook.config import parse as parse_config
from openbook.data.config import CorpusConfig
from openbook.data.corpus import Corpus, Document, Habit, to_example, write_steps
from openbook.errors import UserError
from openbook.tasks.chain import ChainConfig, parse_question
from openbook.tasks.problem import Problem, Split
from openbook.tasks.split import split_of
from openbook.tasks.words import Language, language_of, number_words
from openbook.tokens.template import parse, prompt
from openbook.tokens.tokenizer import Tokenizer

NUM_DOCUMENTS = 2000
CONFIG = CorpusConfig(
    exercises=ChainConfig(min_operations=6, max_operations=8),
    drill_share=0.15,
    worked_share=0.35,
    worked_operations=4,
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
    question="a = 3, b = a + 4, c = b * 2, d = c - 5. d?",
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


def steps_of(habit: Habit, language: Language, switch_share: float = 0.0) -> str:
    return write_steps(PROBLEM, habit, language, switch_share, random.Random(0))


def test_a_full_solution_writes_every_step() -> None:
    assert steps_of(Habit.FULL, Language.ENGLISH) == (
        "b = three + four = seven, c = seven * two = four, d = four - five = nine"
    )


def test_a_sketch_leaves_out_every_second_step_but_never_the_last() -> None:
    assert steps_of(Habit.SKETCH, Language.ENGLISH) == "b = three + four = seven, d = four - five = nine"
    facts = {"variables": ["a", "b", "c"], "values": [3, 7, 4], "operations": [["+", 4], ["*", 2]]}
    shorter = replace(PROBLEM, facts=facts)
    written = write_steps(shorter, Habit.SKETCH, Language.ENGLISH, 0.0, random.Random(0))
    assert written == "c = seven * two = four"


def test_a_direct_answer_writes_no_step() -> None:
    assert steps_of(Habit.DIRECT, Language.ENGLISH) == ""


def test_values_are_written_in_the_language_that_was_asked_for_and_switched_by_chance() -> None:
    spanish = "b = tres + four = siete, c = siete * two = cuatro, d = cuatro - five = nueve"
    assert steps_of(Habit.FULL, Language.SPANISH) == spanish
    assert steps_of(Habit.FULL, Language.ENGLISH, switch_share=1.0) == spanish
    half = steps_of(Habit.FULL, Language.SPANISH, switch_share=0.5)
    assert {language_of(word) for word in number_words(half)} == set(Language)


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
    for document in documents:
        question = document.question
        canonical = question if question.startswith("Tell ") else parse_question(question).canonical
        assert split_of(canonical) is Split.TRAIN, question


def test_every_answer_is_right_and_every_tagged_text_well_formed(documents: list[Document]) -> None:
    for document in documents:
        if document.question.startswith("Tell "):
            continue
        right = str(parse_question(document.question).values(10)[-1])
        parsed = parse(document.response)
        if "<" in document.response:
            assert parsed.well_formed and parsed.answer == right
        else:
            assert document.response == f" {right}"


def kind_of(document: Document) -> str:
    """Told apart by the number of operations, which the three families here do not share, and the steps."""
    if document.question.startswith("Tell "):
        return "courtesy"
    num_operations = len(parse_question(document.question).steps)
    if "<" not in document.response:
        return "untagged"
    thinking = parse(document.response).thinking
    num_steps = thinking.count(",") + 1 if thinking else 0
    if num_operations <= CONFIG.worked_operations:
        assert num_steps == num_operations, "drills and worked examples show every step"
        return "short"
    assert 6 <= num_operations <= 8
    habits = {0: Habit.DIRECT, (num_operations + 1) // 2: Habit.SKETCH, num_operations: Habit.FULL}
    return habits[num_steps]


def test_the_shares_are_about_as_configured(documents: list[Document]) -> None:
    counts = Counter(kind_of(document) for document in documents)
    exercises = 1 - 0.15 - 0.35 - 0.1
    tagged = 0.95
    expected = {
        "courtesy": 0.1,
        "untagged": 0.05 * 0.9,
        "short": (0.15 + 0.35) * tagged,
        Habit.DIRECT: exercises * 0.7 * tagged,
        Habit.SKETCH: exercises * 0.2 * tagged,
        Habit.FULL: exercises * 0.1 * tagged,
    }
    assert counts.keys() == expected.keys()
    for kind, share in expected.items():
        margin = 3.5 * (share * (1 - share) / NUM_DOCUMENTS) ** 0.5
        assert counts[kind] / NUM_DOCUMENTS == pytest.approx(share, abs=margin), kind


def test_a_share_of_nothing_never_occurs_and_a_share_of_all_always_does() -> None:
    everything = {"drill_share": 0.0, "worked_share": 1.0, "courtesy_share": 0.0, "untagged_share": 0.0}
    corpus = Corpus(replace(CONFIG, **everything), seed=1)
    assert {kind_of(corpus.document(index)) for index in range(100)} == {"short"}
    exercises: dict[str, Any] = {**everything, "worked_share": 0.0, "sketch_share": 0.0, "full_share": 1.0}
    corpus = Corpus(replace(CONFIG, **exercises), seed=1)
    assert {kind_of(corpus.document(index)) for index in range(100)} == {Habit.FULL}


def test_drills_have_one_operation() -> None:
    only_drills = {"drill_share": 1.0, "worked_share": 0.0, "courtesy_share": 0.0}
    corpus = Corpus(replace(CONFIG, **only_drills), seed=1)
    assert {len(parse_question(corpus.document(index).question).steps) for index in range(50)} == {1}


def test_shares_of_more_than_everything_are_refused() -> None:
    table = {"exercises": {}, "drill_share": 0.5, "worked_share": 0.4, "courtesy_share": 0.2}
    with pytest.raises(UserError, match="must not add up to more than 1"):
        parse_config(CorpusConfig, table)
    with pytest.raises(UserError, match="must not add up to more than 1"):
        parse_config(CorpusConfig, {"exercises": {}, "sketch_share": 0.6, "full_share": 0.5})


def test_an_example_is_bos_prompt_response_eos_and_only_the_response_counts(tokenizer: Tokenizer) -> None:
    document = Document(question="a = 3. a?", response=" <think> </think> <answer> 3 </answer>")
    example = to_example(tokenizer, document)
    before = tokenizer.encode(prompt("a = 3. a?"))
    after = tokenizer.encode(document.response)
    assert example.token_ids == (tokenizer.bos_id, *before, *after, tokenizer.eos_id)
    assert example.weights == (0.0,) * (1 + len(before)) + (1.0,) * (len(after) + 1)
    weighted = to_example(tokenizer, document, prompt_weight=0.25)
    assert weighted.token_ids == example.token_ids
    assert weighted.weights == (0.25,) * (1 + len(before)) + (1.0,) * (len(after) + 1)
