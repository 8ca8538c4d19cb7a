"""A checkpoint made ready to answer: model, tokenizer and engine on the device at hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from openbook.cli.shelf import open_checkpoint
from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.speaker import engine_for, read_texts
from openbook.engine.types import Completion, SamplingParams
from openbook.errors import UserError
from openbook.ledger.prices import PricePlan
from openbook.ledger.tally import device_cost
from openbook.model.checkpoint import Checkpoint
from openbook.quant.store import load_weights
from openbook.tokens.chat import Message, Template, chat_ids
from openbook.tokens.renderer import Renderer
from openbook.tokens.template import Parsed
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.device import choose_device

if TYPE_CHECKING:
    from openbook.model.gguf import GgufCheckpoint

NUM_DRAFTS = 3
"""Guessed ahead where a model has an MTP module; the engine stops guessing where that loses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """Completions of one prompt with their texts, and what they took."""

    completions: tuple[Completion, ...]
    texts: tuple[str, ...]
    seconds: float
    cost_nano_usd: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Speaker:
    """A loaded checkpoint."""

    checkpoint: Checkpoint | GgufCheckpoint
    tokenizer: Tokenizer
    template: Template | None
    """None for a model that was trained on no conversations: it continues text, and answers nothing."""
    engine: Engine
    device: torch.device
    device_name: str

    @classmethod
    def open(cls, path: Path) -> Speaker:
        """Load what `shelf.open_checkpoint` finds at `path`. Raises UserError."""
        device = choose_device("auto")
        checkpoint = open_checkpoint(path)
        tokenizer, template = read_texts(checkpoint)
        model = load_weights(checkpoint, device)
        return cls(
            checkpoint=checkpoint,
            tokenizer=tokenizer,
            template=template,
            engine=engine_for(model, tokenizer, EngineConfig(num_drafts=NUM_DRAFTS if model.mtp else 0)),
            device=device,
            device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        )

    def prompt_ids(self, text: str, *, raw: bool = False, history: Sequence[Message] = ()) -> list[int]:
        """The text as it stands when `raw`, else as a question behind `history` in the model's template.

        Raises UserError if the model has no template.
        """
        if raw:
            begin = [self.tokenizer.bos_id] if self.tokenizer.adds_bos else []
            return begin + self.tokenizer.encode(text)
        if self.template is None:
            mend = "`openbook generate --raw` continues a text as it stands"
            raise UserError("this model has no chat template", mend)
        return chat_ids(self.tokenizer, self.template, [*history, Message(role="user", content=text)])

    def parse(self, text: str) -> Parsed:
        """Thinking and answer of a completion; without a template all of it is the answer."""
        if self.template is not None:
            return self.template.parse(text)
        return Parsed(thinking="", answer=text, well_formed=True, reason="")

    @property
    def renderer(self) -> Renderer:
        """How problems are put to it. Raises UserError if it has no template."""
        if self.template is None:
            raise UserError("this model has no chat template, so nothing can be asked of it")
        return Renderer(tokenizer=self.tokenizer, template=self.template)

    def room(self, prompt_ids: Sequence[int]) -> int:
        """How many tokens the context has left behind a prompt."""
        return max(1, self.checkpoint.config.max_position_embeddings - len(prompt_ids))

    def say(self, prompt_ids: Sequence[int], params: SamplingParams, *, num_samples: int, seed: int) -> Said:
        """Sample completions of one prompt. Raises UserError when they do not fit the context."""
        started = time.perf_counter()
        generation = self.engine.generate([prompt_ids], params, num_generations=num_samples, seed=seed)
        seconds = time.perf_counter() - started
        completions = generation.completions[0]
        return Said(
            completions=completions,
            texts=tuple(self.tokenizer.decode(one.token_ids) for one in completions),
            seconds=seconds,
            cost_nano_usd=device_cost(PricePlan.default(), self.device_name, round(seconds * 1e6)),
        )
