"""Conversations of a person's own: read with care, and written as their model will meet them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openbook.data.batch import Example
from openbook.data.conversations import Conversation, read_conversations, to_examples
from openbook.data.corpus import Document, to_example
from openbook.errors import UserError
from openbook.tokens.chat import ChatTemplate, Message, R1Template, chat_ids
from openbook.tokens.ggml import read_tokenizer
from openbook.tokens.tokenizer import Tokenizer

R1 = R1Template(bos_token="<bos>")
TURNS = [
    {"role": "system", "content": "be short"},
    {"role": "user", "content": "an 1"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "3"},
    {"role": "assistant", "content": "four <|im_end|>"},
]


@pytest.fixture
def foreign(gguf_vocabulary: dict[str, Any]) -> Tokenizer:
    return read_tokenizer(gguf_vocabulary, where="x.gguf")


@pytest.fixture
def chatml(gguf_vocabulary: dict[str, Any]) -> ChatTemplate:
    return chat(gguf_vocabulary["tokenizer.chat_template"])


def chat(source: str) -> ChatTemplate:
    return ChatTemplate(source, special_tokens={}, where="x.gguf")


def talk(*turns: tuple[str, str]) -> Conversation:
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    return Conversation(messages=messages, file=Path("c.jsonl"), number=7, unit="line")


def write_lines(path: Path, *values: Any) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def learnt(example: Example, tokenizer: Tokenizer) -> list[str]:
    """The stretches of an example on which the loss counts, token by token joined."""
    pieces = [""]
    for token_id, weight in zip(example.token_ids, example.weights, strict=True):
        if weight:
            pieces[-1] += tokenizer.token(token_id)
        elif pieces[-1]:
            pieces.append("")
    return [piece for piece in pieces if piece]


def test_three_ways_to_write_a_line_are_read_and_one_file_may_mix_them(tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "a.jsonl",
        {"messages": TURNS},
        {"question": "q", "response": "r", "source": "elsewhere"},
        {"prompt": "p", "completion": "c"},
    )
    found = read_conversations(file)
    assert [(one.role, one.content) for one in found[0].messages] == [tuple(one.values()) for one in TURNS]
    assert [[one.content for one in each.messages] for each in found[1:]] == [["q", "r"], ["p", "c"]]
    assert [one.number for one in found] == [1, 2, 3]


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    rows = [{"messages": TURNS, "question": None}, {"messages": TURNS[:3], "question": None}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [len(one.messages) for one in read_conversations(tmp_path)] == [5, 3]
    rows[1]["messages"] = TURNS[:2]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet, row 2: the assistant does not answer"):
        read_conversations(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("hello", "line 2: str where an object belongs"),
        ({"question": "a"}, r"line 2: no conversation \(it has 'question'\)"),
        ({}, r"line 2: no conversation \(it has nothing\)"),
        ({"messages": "hi"}, "line 2: messages is no list"),
        ({"messages": ["hi"]}, "line 2: a message is no object"),
        ({"messages": [{"role": "user"}]}, "line 2: a message needs a role and a content"),
        ({"messages": []}, "line 2: the assistant does not answer"),
        ({"messages": TURNS[:2]}, "line 2: the assistant does not answer"),
        ({"messages": TURNS[2:3]}, "line 2: message 1 is by 'assistant', not 'user'"),
        ({"messages": [*TURNS[:2], TURNS[1]]}, "line 2: message 3 is by 'user', not 'assistant'"),
        ({"messages": [TURNS[1], {"role": "tool", "content": "x"}]}, "line 2: message 2 is by 'tool'"),
        ({"prompt": "p", "completion": " "}, "line 2: the assistant says nothing"),
        ({"prompt": "p", "completion": 3}, "line 2: a message needs a role and a content"),
    ],
)
def test_a_line_that_is_no_conversation_is_named_with_the_mend(
    value: Any, message: str, tmp_path: Path
) -> None:
    file = write_lines(tmp_path / "a.jsonl", {"prompt": "p", "completion": "c"}, value)
    with pytest.raises(UserError, match=message) as refusal:
        read_conversations(tmp_path)
    assert str(file) in refusal.value.what and refusal.value.mend


def test_a_single_question_is_written_as_the_stages_of_the_story_write_it(tokenizer: Tokenizer) -> None:
    reply = " <think> b +4 = seven </think> <answer> 7 </answer>"
    (example,) = to_examples(talk(("user", "a 3, b +4. b?"), ("assistant", reply)), tokenizer, R1)
    assert example == to_example(tokenizer, Document(question="a 3, b +4. b?", response=reply))
    (other,) = to_examples(talk(("user", "a 3, b +4. b?"), ("assistant", reply.strip())), tokenizer, R1)
    assert other == example, "the blank behind the colon is ours to put"


def test_nothing_that_a_person_wrote_ends_a_reply_of_ours(tokenizer: Tokenizer) -> None:
    (example,) = to_examples(talk(("user", "say <eos>"), ("assistant", "<eos> 7")), tokenizer, R1)
    assert example.token_ids.count(tokenizer.eos_id) == 1


@pytest.mark.parametrize("roles", [("system", "user", "assistant"), ("user", "assistant") * 2])
def test_the_r1_prompt_refuses_what_it_cannot_say(roles: tuple[str, ...], tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=rf"c\.jsonl, line 7: the R1 prompt takes one.*{len(roles)} messages"):
        to_examples(talk(*((role, "x") for role in roles)), tokenizer, R1)


def test_the_loss_counts_on_what_the_assistant_says_and_on_the_end_of_its_turn(
    foreign: Tokenizer, chatml: ChatTemplate
) -> None:
    (example,) = to_examples(talk(*(tuple(one.values()) for one in TURNS)), foreign, chatml)
    assert learnt(example, foreign) == ["two<|im_end|>", "four\u0120<|im_end|><|im_end|>"]
    assert example.weights[-1] == 1.0, "nothing is kept behind the last token that counts"
    # The last but one end is letters that the assistant wrote, not the token.
    assert example.token_ids.count(foreign.eos_id) == 5


def test_what_is_trained_begins_with_what_sampling_will_be_given(
    foreign: Tokenizer, chatml: ChatTemplate
) -> None:
    conversation = talk(("user", "an 1"), ("assistant", "two"), ("user", "3"), ("assistant", "four"))
    (example,) = to_examples(conversation, foreign, chatml)
    for turn in (1, 3):
        asked = chat_ids(foreign, chatml, conversation.messages[:turn])
        assert list(example.token_ids[: len(asked)]) == asked
        assert example.weights[len(asked)] == 1.0 and example.weights[len(asked) - 1] == 0.0


def test_a_template_that_rewrites_earlier_turns_makes_an_example_a_reply(foreign: Tokenizer) -> None:
    forgetful = chat(
        "{% for one in messages %}<|im_start|>{{ one.role }}\n"
        "{{ one.content if loop.last else one.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    turns = (("user", "1"), ("assistant", "hm</think>2"), ("user", "3"), ("assistant", "so</think>4"))
    first, second = to_examples(talk(*turns), foreign, forgetful)
    assert learnt(first, foreign) == ["hm</think>2<|im_end|>"]
    assert learnt(second, foreign) == ["so</think>4<|im_end|>"]
    asked = chat_ids(foreign, forgetful, [Message(role=role, content=text) for role, text in turns[:3]])
    assert list(second.token_ids[: len(asked)]) == asked


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "{% for one in messages %}{{ one.content }}{% endfor %}{{ '!' if add_generation_prompt }}",
            "line 7: the chat template writes a reply otherwise than it asks for one",
        ),
        (
            "{% for one in messages %}{{ one.content }}{% endfor %}",
            "line 7: the chat template puts no token behind a reply",
        ),
    ],
)
def test_a_template_from_which_no_reply_can_be_learnt_is_refused(
    source: str, message: str, foreign: Tokenizer
) -> None:
    with pytest.raises(UserError, match=message):
        to_examples(talk(("user", "1"), ("assistant", "2")), foreign, chat(source))
