"""Conversations of a person's own: read with care, and written as the model that learns them will meet them.

    {"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}, ...]}
    {"question": ..., "response": ...}          or {"prompt": ..., "completion": ...}: one turn each

    conversation -> the model's own chat template -> Example, whose loss counts on the assistant's words alone

A line of JSON or a row of Parquet each. They are few beside text to pretrain on, and held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openbook.data.batch import Example
from openbook.data.files import LINES, PARQUET, check_unicode, find_files, open_parquet, read_lines, refuse
from openbook.errors import UserError
from openbook.tokens.chat import ChatTemplate, Message, R1Template, Template, chat_ids, quoted
from openbook.tokens.quoting import encode_quoted, quote
from openbook.tokens.tokenizer import TAGS, Tokenizer

PAIRS = (("question", "response"), ("prompt", "completion"))
EXPECTED = (
    'each is {"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}, '
    '{"question": ..., "response": ...} or {"prompt": ..., "completion": ...}'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """Turns of user and assistant, behind a system message where there is one. Its place is for errors."""

    messages: tuple[Message, ...]
    file: Path
    number: int
    unit: str

    def refused(self, what: str, mend: str) -> UserError:
        return UserError(f"{self.file}, {self.unit} {self.number}: {what}", mend)

    @property
    def text(self) -> bytes:
        """What the split between training and held out goes by."""
        return "\0".join(f"{one.role}\0{one.content}" for one in self.messages).encode()


def read_conversations(path: Path) -> list[Conversation]:
    """All conversations of a file, or of the files in a folder. Raises UserError naming file and line."""
    found = [one for file in find_files(path, (LINES, PARQUET)) for one in _read(file)]
    if not found:
        raise UserError(f"{path} is empty", "name a file with at least one conversation")
    return found


def _read(file: Path) -> Iterator[Conversation]:
    rows, unit = (_parquet_rows(file), "row") if file.suffix == PARQUET else (_json_lines(file), "line")
    for number, value in rows:
        messages = tuple(_messages(value, file, number, unit))
        _check_turns(messages, file, number, unit)
        yield Conversation(messages=messages, file=file, number=number, unit=unit)


def _json_lines(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    return ((line.number, line.value) for line in read_lines(file, EXPECTED))


def _parquet_rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    number = 0
    for batch in open_parquet(file, []).iter_batches():
        for value in batch.to_pylist():
            number += 1
            yield number, value


def _messages(value: Mapping[str, Any], file: Path, number: int, unit: str) -> Iterator[Message]:
    if value.get("messages") is not None:
        messages = value["messages"]
        if not isinstance(messages, list):
            refuse(file, number, "messages is no list", EXPECTED, unit=unit)
        pairs = [(one.get("role"), one.get("content")) for one in messages if isinstance(one, Mapping)]
        if len(pairs) < len(messages):
            refuse(file, number, "a message is no object", EXPECTED, unit=unit)
    else:
        names = next((pair for pair in PAIRS if all(value.get(name) is not None for name in pair)), None)
        if names is None:
            keys = ", ".join(map(repr, value)) or "nothing"
            refuse(file, number, f"no conversation (it has {keys})", EXPECTED, unit=unit)
        pairs = [(role, value[name]) for role, name in zip(("user", "assistant"), names, strict=True)]
    for role, content in pairs:
        if not isinstance(role, str) or not isinstance(content, str):
            refuse(file, number, "a message needs a role and a content, both text", EXPECTED, unit=unit)
        check_unicode(file, number, content, unit=unit)
        yield Message(role=role, content=content)


def _check_turns(messages: Sequence[Message], file: Path, number: int, unit: str) -> None:
    """A system message or none, then user and assistant in turn, and the assistant has the last word."""
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    for place, message in enumerate(turns):
        wanted = ("user", "assistant")[place % 2]
        if message.role != wanted:
            what = f"message {len(messages) - len(turns) + place + 1} is by {message.role!r}, not {wanted!r}"
            refuse(file, number, what, "user and assistant take turns, behind one system message", unit=unit)
        if wanted == "assistant" and not message.content.strip():
            refuse(file, number, "the assistant says nothing", "leave the turn out", unit=unit)
    if len(turns) % 2 or not turns:
        refuse(file, number, "the assistant does not answer", "end with an assistant message", unit=unit)


def to_examples(conversation: Conversation, tokenizer: Tokenizer, template: Template) -> list[Example]:
    """A conversation as its model will meet it: mostly one example, whose loss counts on every reply.

    A template that writes earlier turns otherwise than it wrote them at their time (without their thinking,
    say) makes one example a reply. Raises UserError naming the place if the template does not fit.
    """
    if isinstance(template, R1Template):
        return [_single_question(conversation, tokenizer, template)]
    assert isinstance(template, ChatTemplate)
    return list(_turn_by_turn(conversation, tokenizer, template))


def _single_question(conversation: Conversation, tokenizer: Tokenizer, template: R1Template) -> Example:
    """BOS, the R1 prompt, the reply, EOS."""
    roles = [one.role for one in conversation.messages]
    if roles != ["user", "assistant"]:
        raise conversation.refused(
            f"the R1 prompt takes one question and one answer, and here are {len(roles)} messages",
            "keep one user and one assistant message, or start from a model with a chat template",
        )
    question, reply = conversation.messages
    # The prompt ends in a colon; a token of ours takes the blank before it in.
    text = reply.content if reply.content[0].isspace() else f" {reply.content}"
    before = chat_ids(tokenizer, template, [question])
    after = [*encode_quoted(tokenizer, quote(tokenizer, text, keep=frozenset(TAGS))), tokenizer.eos_id]
    return Example.of_reply(before, after)


def _turn_by_turn(
    conversation: Conversation, tokenizer: Tokenizer, template: ChatTemplate
) -> Iterator[Example]:
    messages = quoted(tokenizer, conversation.messages)
    written, token_ids, weights = "", list[int](), list[float]()
    for place, message in enumerate(messages):
        if message.role != "assistant":
            continue
        asked = template.render(messages[:place])
        answered = template.render(messages[: place + 1], add_generation_prompt=False)
        if not answered.startswith(asked):
            raise conversation.refused(
                "the chat template writes a reply otherwise than it asks for one",
                "give this model's conversations without thinking, or use another template",
            )
        if not asked.startswith(written):
            yield _cut_to_weights(token_ids, weights)
            written, token_ids, weights = "", [], []
        before = encode_quoted(tokenizer, asked[len(written) :])
        reply = encode_quoted(tokenizer, answered[len(asked) :])
        ends = [at for at, one in enumerate(reply) if one in tokenizer.stop_ids]
        if not ends:
            raise conversation.refused(
                "the chat template puts no token behind a reply that ends it",
                "a model cannot learn to stop from it; use another template",
            )
        # What the template writes behind the end of a turn, the model is never asked to.
        num_learnt = ends[0] + 1
        token_ids += [*before, *reply]
        weights += [0.0] * len(before) + [1.0] * num_learnt + [0.0] * (len(reply) - num_learnt)
        written = answered
    yield _cut_to_weights(token_ids, weights)


def _cut_to_weights(token_ids: Sequence[int], weights: Sequence[float]) -> Example:
    """Nothing is learnt behind the last token that counts."""
    end = max(at for at, weight in enumerate(weights) if weight) + 1
    return Example(token_ids=tuple(token_ids[:end]), weights=tuple(weights[:end]))
