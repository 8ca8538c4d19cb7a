"""What goes into an engine and what comes out: SamplingParams, Completion, Generator. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from openbook.runs.usage import Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How to sample one request, under the names that vLLM and OpenAI have for it.

    The distribution is shaped in this order: penalties, temperature, `top_k`, `top_p`, `min_p`.
    Raises ValueError for a value outside its range.
    """

    max_tokens: int
    """Most tokens of a completion, thinking included."""
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """Keep the most likely tokens up to this mass; 1 keeps all."""
    top_k: int = 0
    """Keep this many; 0 keeps all."""
    min_p: float = 0.0
    """Keep tokens at least this probable, as a share of the likeliest."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of all tokens so far (arXiv 1909.05858)."""
    presence_penalty: float = 0.0
    """Taken once from the logit of each token in the completion."""
    frequency_penalty: float = 0.0
    """Taken from it as often as the token occurs."""
    stop_token_ids: tuple[int, ...] = ()
    """End a completion besides the engine's own stop tokens; the token stays part of it."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion once they stand in the answer; thinking is not searched."""
    ignore_stops: bool = False
    """Sample on to `max_tokens` whatever comes: for benchmarks."""
    seed: int | None = None
    """The randomness of this request alone; without one the engine draws its own."""
    thinking_budget: int | None = None
    """Most tokens of thinking, tags included; then it is closed and the answer follows. None sets no limit.

    Thinking that the prompt has begun takes its closing tag at least.
    """
    num_top_logprobs: int = 0
    """How many of the likeliest tokens to name at each place, with their log-probabilities."""

    def __post_init__(self) -> None:
        checks = {
            f"max_tokens must be at least 1, not {self.max_tokens}": self.max_tokens >= 1,
            f"temperature must be 0 or more, not {self.temperature}": 0 <= self.temperature < float("inf"),
            f"top_p must be above 0 and at most 1, not {self.top_p}": 0 < self.top_p <= 1,
            f"top_k must be 0 or more, not {self.top_k}": self.top_k >= 0,
            f"min_p must be 0 to 1, not {self.min_p}": 0 <= self.min_p <= 1,
            f"repetition_penalty must be above 0, not {self.repetition_penalty}": self.repetition_penalty > 0,
            "a text in stop must not be empty": all(self.stop),
            f"thinking_budget must be 0 or more, not {self.thinking_budget}": (self.thinking_budget or 0)
            >= 0,
            f"presence_penalty must be a number, not {self.presence_penalty}": isfinite(
                self.presence_penalty
            ),
            f"frequency_penalty must be a number, not {self.frequency_penalty}": isfinite(
                self.frequency_penalty
            ),
            f"num_top_logprobs must be 0 or more, not {self.num_top_logprobs}": self.num_top_logprobs >= 0,
        }
        for complaint, holds in checks.items():
            if not holds:
                raise ValueError(complaint)

    @property
    def has_penalty(self) -> bool:
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)

    @property
    def is_plain(self) -> bool:
        """Whether temperature alone shapes the distribution, and nothing but the token is asked for."""
        restricted = self.top_p < 1 or self.top_k > 0 or self.min_p > 0
        return not (restricted or self.has_penalty or self.num_top_logprobs)


class FinishReason(StrEnum):
    """Why a completion ended.

    `stop`: a stop token was sampled (and is part of the completion), or a stop text stands in the answer;
    `length`: the limit came first; `aborted`: cancelled, the tokens so far are kept; `error`: the model gave
    something that is no number.
    """

    STOP = "stop"
    LENGTH = "length"
    ABORTED = "aborted"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One sampled continuation.

    `logprobs[t]` is the log-probability of `token_ids[t]` under the distribution it was
    sampled from (after temperature and restrictions); `policy_version` says which weights made it.
    """

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    policy_version: int
    """The weights that sampled the last token; -1 if none was."""
    versions: tuple[tuple[int, int], ...] = ()
    """Which weights sampled from which token on, as (first token, version)."""
    num_thinking_tokens: int = 0
    """How many of `token_ids` are thinking, the tags included; the others are the answer."""
    forced: tuple[int, ...] = ()
    """Places in `token_ids` that were not sampled but set, to close the thinking; their logprob is 0."""
    stop_text: str = ""
    """The text of `stop` that ended it."""
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] = ()
    """The likeliest tokens at each place, if asked for."""
    experts: NDArray[np.int16] | None = None
    """Chosen experts at all places but the last, [positions, MoE layers, K]; None if not asked for."""
    usage: Usage = field(default_factory=Usage)
    """What it consumed, each token under its kind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """The completions of each prompt, in the order of the prompts, and what they consumed."""

    completions: tuple[tuple[Completion, ...], ...]
    usage: Usage


class Generator(Protocol):
    """Anything that samples: the engine here, a scripted one in tests."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        num_generations: int,
        seed: int,
    ) -> Generation:
        """`num_generations` completions of each prompt; the same seed gives the same tokens."""
        ...


class PolicyGenerator(Generator, Protocol):
    """A Generator whose model is trained meanwhile."""

    def publish(self, version: int) -> None:
        """The weights have changed: sample from them, and mark completions with their version."""
        ...
