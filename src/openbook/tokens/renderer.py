"""Renderer: how a question is put to a model, and how its reply is taken apart.

    question -> [system, worked examples, question] -> template -> prompt ids
    completion ids -> text -> Parsed (thinking, answer)

Ours knows the R1 prompt from its training. A model from elsewhere is asked in its own chat template, may be
shown worked examples first, and its answer may be read where it tends to stand: whoever compares results has
to know which, so it is a setting and stands in the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from openbook.config import config
from openbook.tokens.chat import ChatTemplate, Message, R1Template, Template, chat_ids
from openbook.tokens.numerals import last_number
from openbook.tokens.template import Parsed, parse
from openbook.tokens.tokenizer import Tokenizer

Reading = Literal["template", "tags", "last_number"]


@config
class ShotConfig:
    """A worked example: a question and the reply that it should have."""

    question: str
    reply: str


@config
class PromptConfig:
    """How problems are put to a model, and where its answer is read."""

    system: str = ""
    """What the model is told before anything else; with nothing its template may say something of its own."""
    shots: tuple[ShotConfig, ...] = ()
    """Worked examples that stand before the question, as earlier turns."""
    reading: Reading = "template"
    """`template`: as the model's template says; `tags`: the answer block of the R1 prompt; `last_number`:
    the last numeral of the reply, whatever stands around it."""

    def __post_init__(self) -> None:
        for shot in self.shots:
            if not shot.question or not shot.reply:
                raise ValueError("a shot needs both a question and a reply")


@dataclass(frozen=True, kw_only=True, slots=True)
class Renderer:
    """The prompt and the reading of one model."""

    tokenizer: Tokenizer
    template: Template
    config: PromptConfig = field(default_factory=PromptConfig)

    @classmethod
    def ours(cls, tokenizer: Tokenizer, config: PromptConfig | None = None) -> Renderer:
        """That of the models trained here: the R1 prompt."""
        template = R1Template(bos_token=tokenizer.token(tokenizer.bos_id))
        return cls(tokenizer=tokenizer, template=template, config=config or PromptConfig())

    @classmethod
    def of_folder(cls, folder: Path, config: PromptConfig | None = None) -> Renderer:
        """That of a checkpoint: the chat template that lies beside it, or else ours. Raises UserError."""
        tokenizer = Tokenizer.load(folder)
        template = ChatTemplate.load(folder)
        if template is None:
            return cls.ours(tokenizer, config)
        return cls(tokenizer=tokenizer, template=template, config=config or PromptConfig())

    def prompt_ids(self, question: str) -> list[int]:
        """The ids that the model continues with its reply."""
        return chat_ids(
            self.tokenizer, self.template, [*self._before, Message(role="user", content=question)]
        )

    @property
    def _before(self) -> list[Message]:
        messages = [Message(role="system", content=self.config.system)] if self.config.system else []
        for shot in self.config.shots:
            messages += [
                Message(role="user", content=shot.question),
                Message(role="assistant", content=shot.reply),
            ]
        return messages

    def text(self, token_ids: Sequence[int]) -> str:
        """A completion as text."""
        return self.tokenizer.decode(token_ids)

    def parse(self, text: str) -> Parsed:
        """Thinking and answer of a reply; never raises."""
        match self.config.reading:
            case "template":
                return self.template.parse(text)
            case "tags":
                return parse(text)
            case "last_number":
                number = last_number(text)
                reason = "" if number else "there is no number in the reply"
                return Parsed(thinking=text.strip(), answer=number, well_formed=bool(number), reason=reason)
