"""One step of reinforcement learning as a piece of work that any trainer can be given. No torch.

Prompts are words `w17 w301 ...`, one a token, so that text and ids say the same to every trainer. The token
that would end a completion lies behind the model's vocabulary, so that it is never sampled and every
completion has all its tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, models, pre_tokenizers

from openbook.bench.prompts import random_prompts

LEARNING_RATE = 1e-5
BETAS = (0.9, 0.999)
"""AdamW's, TRL's default."""
MAX_GRAD_NORM = 1.0

END = "<end>"
MODEL_FOLDER, FILE_NAME = "model", "work.json"
_REWARD_LEVELS = 97


@dataclass(frozen=True, kw_only=True, slots=True)
class RLWork:
    """What one step does: `num_problems` prompts, `num_generations` completions of each, one update."""

    vocab_size: int
    num_problems: int
    num_generations: int
    num_rounds: int
    """Steps that there are prompts for, the one that warms up included."""
    max_tokens: int = 64
    prompt_tokens: int = 32
    half_tie: bool = False
    """Whether all completions of every other prompt earn the same, as where a problem is solved always."""

    @property
    def num_completions(self) -> int:
        return self.num_problems * self.num_generations

    @property
    def num_new_tokens(self) -> int:
        return self.num_completions * self.max_tokens

    def prompts(self, round_number: int) -> list[list[int]]:
        """The prompts of a round, counted from the warm-up at -1."""
        return random_prompts(
            round_number,
            num_prompts=self.num_problems,
            length=self.prompt_tokens,
            vocab_size=self.vocab_size,
        )

    def rewards(self, prompt_number: int, completions: Sequence[Sequence[int]]) -> list[float]:
        """What completions of a round's `prompt_number`-th prompt earn: any number, but the same for all."""
        if self.half_tie and prompt_number % 2:
            return [1.0] * len(completions)
        return [sum(token_ids) % _REWARD_LEVELS / (_REWARD_LEVELS - 1) for token_ids in completions]

    def save(self, folder: Path) -> None:
        (folder / FILE_NAME).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> RLWork:
        return cls(**json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What ours may do that changes the bits, or that leaves work out; each can be taken away."""

    bf16_sampling: bool = True
    """The sampler holds the matrices in bf16."""
    bf16_training: bool = True
    """Products of the forward and the backward pass in bf16, over fp32 weights."""
    shared_prompts: bool = True
    """A group's prompt is read once by the sampler."""
    shared_prompts_in_training: bool = True
    """A group's prompt is read once by the trainer."""
    skip_zero_advantages: bool = True
    """A group whose rewards are all the same is left out of the update; its gradient is zero."""
    deterministic: bool = False
    """A completion depends on nothing that is sampled beside it, as by default in runs of ours; slower."""
    routing_replay: bool = True
    """Where there are experts, the trainer's are those that the sampler chose."""


def word_tokenizer(vocab_size: int) -> tokenizers.Tokenizer:
    """`w0` to `w{vocab_size - 1}` between spaces; the end of a text is number `vocab_size`."""
    words = {word_of(number): number for number in range(vocab_size)}
    backend = tokenizers.Tokenizer(models.WordLevel(words, unk_token=word_of(0)))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken(END, special=True)])
    return backend


def word_of(token_id: int) -> str:
    return f"w{token_id}"


def text_of(token_ids: Sequence[int]) -> str:
    """The words of tokens: what `word_tokenizer` reads as exactly these."""
    return " ".join(map(word_of, token_ids))
