"""What goes into a sampler and what comes out: SamplingParams, Completion, Generator. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from openbook.runs.usage import Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How to sample. `temperature` 0 is greedy; `top_p` 1 and `top_k` 0 keep every token."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop_token_ids: tuple[int, ...] = ()


class FinishReason(StrEnum):
    """`stop`: a stop token was sampled (and is part of the completion); `length`: the limit came first."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One sampled continuation.

    `logprobs[t]` is the log-probability of `token_ids[t]` under the distribution it was
    sampled from (after temperature); `policy_version` says which weights made it.
    """

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    policy_version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """The completions of each prompt, in the order of the prompts, and what they consumed."""

    completions: tuple[tuple[Completion, ...], ...]
    usage: Usage


class Generator(Protocol):
    """Anything that samples: the batched sampler here, a paged engine, a scripted one in tests."""

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
