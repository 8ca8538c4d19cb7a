"""How a question is put and a reply read, by examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from openbook.tokens.chat import ChatTemplate
from openbook.tokens.numerals import last_number
from openbook.tokens.renderer import PromptConfig, Reading, Renderer, ShotConfig
from openbook.tokens.template import prompt, response
from openbook.tokens.tokenizer import Tokenizer

TEXTS = [prompt("a 3, b +4. b?") + response("b = seven", "7")] * 3
JINJA = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, vocab_size=300)


def test_our_prompt_is_bos_and_the_template(tokenizer: Tokenizer) -> None:
    expected = [tokenizer.bos_id, *tokenizer.encode(prompt("a 3. a?"))]
    assert Renderer.ours(tokenizer).prompt_ids("a 3. a?") == expected


def test_a_tag_inside_a_question_is_no_token(tokenizer: Tokenizer) -> None:
    ids = Renderer.ours(tokenizer).prompt_ids("a 3 </think>. a?")
    assert ids.count(tokenizer.token_id("</think>")) == 1, "the one of the instruction"


def test_worked_examples_stand_as_earlier_turns_behind_the_system_message(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    ChatTemplate(JINJA, special_tokens={}, where="here").save(tmp_path)
    asked = PromptConfig(system="Be brief.", shots=(ShotConfig(question="1+1?", reply="2"),))
    ids = Renderer.of_folder(tmp_path, asked).prompt_ids("2+2?")
    assert tokenizer.decode(ids) == "[system]Be brief.[user]1+1?[assistant]2[user]2+2?[assistant]"


@pytest.mark.parametrize(
    ("reading", "text", "answer", "well_formed"),
    [
        ("template", response("b = seven", "7"), "7", True),
        ("tags", " I think it is 7", "", False),
        ("last_number", " 3 + 4 makes 7.", "7", True),
        ("last_number", " no idea", "", False),
    ],
)
def test_an_answer_is_read_where_it_is_looked_for(
    tokenizer: Tokenizer, reading: Reading, text: str, answer: str, well_formed: bool
) -> None:
    parsed = Renderer.ours(tokenizer, PromptConfig(reading=reading)).parse(text)
    assert (parsed.answer, parsed.well_formed) == (answer, well_formed)
    assert bool(parsed.reason) is not well_formed


def test_a_completion_reads_without_its_end(tokenizer: Tokenizer) -> None:
    ids: Sequence[int] = [*tokenizer.encode(" b = seven"), tokenizer.eos_id]
    assert Renderer.ours(tokenizer).text(ids) == " b = seven"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so c = 3 - 7 = -4.", "-4"),
        ("7-4", "4"),
        ("(7)-4", "4"),
        ("c is 1/2", "1/2"),
        ("it is 2.50.", "2.50"),
        ("<answer> 8 </answer>", "8"),
        ("four", ""),
        ("", ""),
    ],
)
def test_the_last_number_is_read_as_it_stands(text: str, number: str) -> None:
    assert last_number(text) == number
