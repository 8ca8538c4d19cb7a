"""A checkpoint made ready to answer: model, tokenizer and sampler on the device at hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from openbook.cli.money import device_cost
from openbook.cli.shelf import find_checkpoint
from openbook.engine.sampler import Sampler
from openbook.engine.types import Completion, SamplingParams
from openbook.ledger.prices import PricePlan
from openbook.model.checkpoint import Checkpoint
from openbook.tokens.template import prompt
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.device import choose_device


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

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    sampler: Sampler
    device: torch.device
    device_name: str

    @classmethod
    def open(cls, path: Path) -> Speaker:
        """Load the checkpoint at `path`, or the result of the run of that name. Raises UserError."""
        device = choose_device("auto")
        checkpoint = Checkpoint.open(find_checkpoint(path))
        tokenizer = Tokenizer.load(checkpoint.folder)
        model = checkpoint.load(device, torch.float32, with_mtp=False)
        return cls(
            checkpoint=checkpoint,
            tokenizer=tokenizer,
            sampler=Sampler(model, stop_token_ids=(tokenizer.eos_id,), pad_id=tokenizer.pad_id),
            device=device,
            device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        )

    def prompt_ids(self, text: str, *, raw: bool = False) -> list[int]:
        """BOS and the text: as it stands when `raw`, else as a question in the template of training."""
        return [self.tokenizer.bos_id, *self.tokenizer.encode(text if raw else prompt(text))]

    def room(self, prompt_ids: Sequence[int]) -> int:
        """How many tokens the context has left behind a prompt."""
        return max(1, self.checkpoint.config.max_position_embeddings - len(prompt_ids))

    def say(self, prompt_ids: Sequence[int], params: SamplingParams, *, num_samples: int, seed: int) -> Said:
        """Sample completions of one prompt. Raises UserError when they do not fit the context."""
        started = time.perf_counter()
        generation = self.sampler.generate([prompt_ids], params, num_generations=num_samples, seed=seed)
        seconds = time.perf_counter() - started
        completions = generation.completions[0]
        return Said(
            completions=completions,
            texts=tuple(self.tokenizer.decode(one.token_ids) for one in completions),
            seconds=seconds,
            cost_nano_usd=device_cost(PricePlan.default(), self.device_name, round(seconds * 1e6)),
        )
