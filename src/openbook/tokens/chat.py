"""Chat templates: how a conversation becomes the text, and then the ids, that a model was trained on.

Ours is the R1 prompt of `template`, for single questions. A model from elsewhere brings its own as a Jinja
program (`tokenizer.chat_template` of a GGUF file, `chat_template` of a public folder). A program from outside
runs in Jinja's sandbox and may write only so much; the dialect is the one of the transformers library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, Protocol

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from openbook.errors import UserError
from openbook.tokens.quoting import encode_quoted, quote
from openbook.tokens.special import read_object, token_text
from openbook.tokens.template import Parsed, parse, prompt
from openbook.tokens.tokenizer import Tokenizer

MAX_RENDERED_CHARACTERS = 1 << 22
"""More than the longest context holds; a template that writes more is broken or malicious."""

FILE_NAME = "chat_template.jinja"
_CONFIG_NAME = "tokenizer_config.json"
_THINK, _END_THINK = "<think>", "</think>"
_LARGEST_POWER = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn of a conversation. `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


class Template(Protocol):
    """What a conversation looks like to a model, and how its reply is taken apart."""

    def render(self, messages: Sequence[Message]) -> str:
        """The text up to where the model's reply begins, its special tokens by name."""
        ...

    def parse(self, text: str) -> Parsed:
        """Thinking and answer of a reply; never raises."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class R1Template:
    """The prompt of our own training: the last question alone, since training never shows an earlier one."""

    bos_token: str

    def render(self, messages: Sequence[Message]) -> str:
        return self.bos_token + prompt(messages[-1].content)

    def parse(self, text: str) -> Parsed:
        return parse(text)


class ChatTemplate:
    """The Jinja program of a model from elsewhere."""

    def __init__(self, source: str, *, special_tokens: Mapping[str, str], where: str) -> None:
        """`special_tokens` are `bos_token`, `eos_token` and such by name. UserError if it does not parse."""
        self.source = source
        self._special_tokens, self._where = dict(special_tokens), where
        try:
            self._program = _environment().from_string(source)
        except Exception as error:  # a program from outside may break the compiler in any way
            raise UserError(f"{where}: the chat template does not parse: {error}") from error

    @classmethod
    def load(cls, folder: Path) -> ChatTemplate | None:
        """The template of a public folder: `chat_template.jinja`, or the entry in `tokenizer_config.json`."""
        config = read_object(folder / _CONFIG_NAME)
        path = folder / FILE_NAME
        source = path.read_text(encoding="utf-8") if path.is_file() else config.get("chat_template")
        if isinstance(source, list):
            # Several templates by name; the one without a purpose is called default.
            named = {one.get("name"): one.get("template") for one in source if isinstance(one, Mapping)}
            source = named.get("default")
        if source is None:
            return None
        if not isinstance(source, str):
            raise UserError(f"{folder / _CONFIG_NAME}: chat_template has to be a string", "restore the file")
        texts = {name: token_text(entry) for name, entry in config.items() if name.endswith("_token")}
        special_tokens = {name: text for name, text in texts.items() if text is not None}
        return cls(source, special_tokens=special_tokens, where=str(folder))

    @classmethod
    def of_tokenizer(cls, source: str, tokenizer: Tokenizer, *, where: str) -> ChatTemplate:
        """A template whose special tokens are those of `tokenizer`, as in a GGUF file."""
        roles = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id}
        special_tokens = {f"{role}_token": tokenizer.token(number) for role, number in roles.items()}
        return cls(source, special_tokens=special_tokens, where=where)

    def save(self, folder: Path) -> Path:
        """Write `chat_template.jinja` into `folder`, where we and others find it."""
        path = folder / FILE_NAME
        path.write_text(self.source, encoding="utf-8")
        return path

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """As Template says; without `add_generation_prompt` the text ends with the last message.

        UserError with the template's reason if it refuses the conversation.
        """
        variables = {
            **self._special_tokens,
            "messages": [{"role": one.role, "content": one.content} for one in messages],
            "add_generation_prompt": add_generation_prompt,
        }
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._program.generate(variables):
                size += len(piece)
                if size > MAX_RENDERED_CHARACTERS:
                    raise SecurityError(f"it writes more than {MAX_RENDERED_CHARACTERS} characters")
                pieces.append(piece)
        except Exception as error:  # nor is there anything that it may not raise when it runs
            raise UserError(f"{self._where}: the chat template failed: {error}") from error
        return "".join(pieces)

    def parse(self, text: str) -> Parsed:
        """Thinking is what stands before `</think>`, whether the reply or the template opened it."""
        if _END_THINK not in text:
            thinks = text.lstrip().startswith(_THINK)
            return Parsed(
                thinking=text.lstrip().removeprefix(_THINK).strip() if thinks else "",
                answer="" if thinks else text.strip(),
                well_formed=not thinks,
                reason=f"{_THINK} is never closed" if thinks else "",
            )
        thinking, _, answer = text.rpartition(_END_THINK)
        return Parsed(
            thinking=thinking.strip().removeprefix(_THINK).strip(),
            answer=answer.strip(),
            well_formed=True,
            reason="",
        )


def chat_ids(tokenizer: Tokenizer, template: Template, messages: Sequence[Message]) -> list[int]:
    """The prompt of a conversation. Only the template's own special tokens are special, none in a message.

    The thinking tags of an earlier reply are left to the template, which may cut the thinking out at them.
    """
    return encode_quoted(tokenizer, template.render(quoted(tokenizer, messages)))


def quoted(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[Message]:
    """Messages for a template that will write them among special tokens, for `encode_quoted` to read."""
    return [
        Message(role=one.role, content=quote(tokenizer, one.content, keep=_kept(one.role)))
        for one in messages
    ]


def _kept(role: str) -> frozenset[str]:
    return frozenset((_THINK, _END_THINK)) if role == "assistant" else frozenset()


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which also refuses the arithmetic that makes a small program huge."""

    intercepted_binops = frozenset(("*", "**", "%"))

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        is_arithmetic = isinstance(left, int | float) and isinstance(right, int | float)
        if not is_arithmetic:
            raise SecurityError(f"{operator} is allowed between numbers only")
        if operator == "**" and max(abs(left), abs(right)) > _LARGEST_POWER:
            raise SecurityError("a power too large")
        return super().call_binop(context, operator, left, right)


def _environment() -> _Sandbox:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _raise, "strftime_now": datetime.now().strftime}
    return environment


def _to_json(value: Any, indent: int | None = None) -> str:
    """As the transformers library has it: no escapes for HTML, and letters stay letters."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
