from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbook.tokens.template import INSTRUCTION, Parsed, parse, prompt, response
from openbook.tokens.tokenizer import Tokenizer

PIECES = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", " ", "\n", "7", "x", "<", "</answer"]
)


def test_the_prompt_is_one_sentence_the_question_and_a_colon() -> None:
    assert prompt("a 3. a?") == f"{INSTRUCTION} User: a 3. a? Assistant:"
    assert all(tag in INSTRUCTION for tag in ("<think>", "</think>", "<answer>", "</answer>"))


def test_a_response_is_written_as_it_is_read() -> None:
    assert response("b = seven", "7") == " <think> b = seven </think> <answer> 7 </answer>"
    assert response("", "7") == " <think> </think> <answer> 7 </answer>"
    assert parse(response("", "7")) == Parsed(thinking="", answer="7", well_formed=True, reason="")


@pytest.mark.parametrize(
    "text",
    [
        "<think> b = seven </think> <answer> 7 </answer>",
        "\n <think>b = seven</think><answer>7</answer>\n\n",
        " <think>\nb = seven\n</think>\n\n<answer>\n7\n</answer>",
    ],
)
def test_a_well_formed_text_is_taken_apart(text: str) -> None:
    assert parse(text) == Parsed(thinking="b = seven", answer="7", well_formed=True, reason="")


ORDER = "the tags are not in the order <think> </think> <answer> </answer>"
MALFORMED = {
    "nothing": ("", "", "", "<think> appears 0 times, not once"),
    "no tags": ("7", "", "", "<think> appears 0 times, not once"),
    "no thinking": ("<answer> 7 </answer>", "", "7", "<think> appears 0 times, not once"),
    "thinking never ends": ("<think> b is", "b is", "", "</think> appears 0 times, not once"),
    "no answer": ("<think> b </think> 7", "b", "", "<answer> appears 0 times, not once"),
    "cut off": ("<think> b </think> <answer> 7", "b", "", "</answer> appears 0 times, not once"),
    "two thoughts": (
        "<think> a </think> <think> b </think> <answer> 7 </answer>",
        "a",
        "7",
        "<think> appears 2 times, not once",
    ),
    "two answers": (
        "<think> b </think> <answer> 7 </answer> <answer> 8 </answer>",
        "b",
        "",
        "<answer> appears 2 times, not once",
    ),
    "tag inside the answer": (
        "<think> b </think> <answer> <answer> 7 </answer>",
        "b",
        "",
        "<answer> appears 2 times, not once",
    ),
    "text before": (
        "So <think> b </think> <answer> 7 </answer>",
        "b",
        "7",
        "there is text outside the think and answer blocks",
    ),
    "text between": (
        "<think> b </think> so <answer> 7 </answer>",
        "b",
        "7",
        "there is text outside the think and answer blocks",
    ),
    "text after": (
        "<think> b </think> <answer> 7 </answer> done",
        "b",
        "7",
        "there is text outside the think and answer blocks",
    ),
    "answer first": ("<answer> 7 </answer> <think> b </think>", "b", "7", ORDER),
    "answer inside the thinking": (
        "<think> b <answer> 7 </answer> </think>",
        "b <answer> 7 </answer>",
        "",
        ORDER,
    ),
    "answer in a thought that never ends": (
        "<think> b <answer> 7 </answer>",
        "b <answer> 7 </answer>",
        "7",
        "</think> appears 0 times, not once",
    ),
    "answer closed before it opens": ("<think> b </think> </answer> 7 <answer>", "b", "", ORDER),
    "blocks that overlap": ("<think> b <answer> </think> 7 </answer>", "b <answer>", "", ORDER),
}


@pytest.mark.parametrize("case", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_text_keeps_what_can_be_read_and_says_why(case: tuple[str, str, str, str]) -> None:
    text, thinking, answer, reason = case
    assert parse(text) == Parsed(thinking=thinking, answer=answer, well_formed=False, reason=reason)


@given(text=st.one_of(st.text(), st.lists(PIECES, max_size=14).map("".join)))
def test_parsing_never_raises_and_gives_a_reason_exactly_when_malformed(text: str) -> None:
    parsed = parse(text)
    assert parsed.well_formed == (parsed.reason == "")
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        assert tag not in parsed.answer
        if parsed.well_formed:
            assert text.count(tag) == 1


FLOODS = [
    "<answer>" * 50_000,
    "<think>" + "</think><answer>" * 20_000 + "</answer>" * 20_000 + "x",
    "<answer></answer>" * 20_000 + "x",
    "<think>" + " " * 500_000 + "x",
]


@pytest.mark.parametrize("text", FLOODS, ids=lambda text: text[:20])
def test_a_flood_of_tags_is_malformed_at_once(text: str) -> None:
    start = time.process_time()
    parsed = parse(text)
    assert (parsed.answer, parsed.well_formed) == ("", False)
    assert time.process_time() - start < 0.5


@given(thinking=st.text(), answer=st.text())
def test_what_holds_no_tag_goes_through_response_and_back(thinking: str, answer: str) -> None:
    if any(tag in thinking + answer for tag in ("<think>", "</think>", "<answer>", "</answer>")):
        return
    parsed = parse(response(thinking, answer))
    assert (parsed.thinking, parsed.answer, parsed.well_formed) == (thinking.strip(), answer.strip(), True)


def test_a_response_is_well_formed_behind_the_tokenizer_too(tokenizer: Tokenizer) -> None:
    text = tokenizer.decode(tokenizer.encode(response("b = seven, c = four", "4")))
    assert parse(text) == Parsed(thinking="b = seven, c = four", answer="4", well_formed=True, reason="")
