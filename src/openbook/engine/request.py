"""A request on its way: its sequence, what was sampled for it, and when it is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from openbook.engine.sequence import Sequence as CachedSequence
from openbook.engine.thinking import ThinkingState
from openbook.engine.types import Completion, FinishReason, SamplingParams

Decode = Callable[[Sequence[int]], str]

_TAIL_TOKENS = 8
"""Tokens more than a stop text has bytes, that are read again for it: a token may end inside it."""


@dataclass(kw_only=True, slots=True, eq=False)
class Request:
    """One completion in the making. `seed` is that of its tokens alone."""

    id: int
    sequence: CachedSequence
    params: SamplingParams
    seed: int
    stop_ids: frozenset[int]
    thinking: ThinkingState | None
    decode: Decode | None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    forced: list[int] = field(default_factory=list)
    versions: list[tuple[int, int]] = field(default_factory=list)
    num_rejected: int = 0
    stop_text: str = ""
    finish_reason: FinishReason | None = None
    _answer_start: int | None = None

    @property
    def prompt_ids(self) -> list[int]:
        return self.sequence.token_ids[: self.sequence.prompt_length]

    @property
    def room(self) -> int:
        """Tokens that the completion may still have."""
        return self.params.max_tokens - len(self.token_ids)

    @property
    def bans_stops(self) -> bool:
        """Whether the next token must not end it: the first of an answer whose thinking was cut off."""
        return (
            self.thinking is not None
            and self.thinking.was_closed
            and self.forced[-1] == len(self.token_ids) - 1
        )

    def take(self, token: int, logprob: float, version: int) -> None:
        """Add a sampled token, and end the completion if it does."""
        if not self.versions or self.versions[-1][1] != version:
            self.versions.append((len(self.token_ids), version))
        self.token_ids.append(token)
        self.logprobs.append(logprob)
        is_answer = self.thinking is None or not self.thinking.take(token)
        if is_answer and self._answer_start is None:
            self._answer_start = len(self.token_ids) - 1
        stops = token in self.stop_ids and not self.params.ignore_stops
        if stops or (self.params.stop and is_answer and self._finds_stop_text()):
            self.finish_reason = FinishReason.STOP
        elif self.room <= 0:
            self.finish_reason = FinishReason.LENGTH

    def close_thinking(self) -> tuple[int, ...]:
        """The tokens that have to be set now because the budget is spent; none if it is not."""
        thinking = self.thinking
        if thinking is None or not thinking.is_over(self.params.thinking_budget, self.room):
            return ()
        closing = thinking.tags.closing_ids
        thinking.was_closed = True
        for token in closing:
            self.forced.append(len(self.token_ids))
            self.token_ids.append(token)
            self.logprobs.append(0.0)
            if self.params.num_top_logprobs:
                self.top_logprobs.append(((token, 0.0),))
            thinking.take(token)
        return closing

    def completion(self, experts: NDArray[np.int16] | None) -> Completion:
        """What has come of it; it has ended."""
        assert self.finish_reason is not None
        versions = self.versions or [(0, -1)]
        return Completion(
            prompt_ids=tuple(self.prompt_ids),
            token_ids=tuple(self.token_ids),
            logprobs=tuple(self.logprobs),
            finish_reason=self.finish_reason,
            policy_version=versions[-1][1],
            later_versions=tuple(versions[1:]),
            num_thinking_tokens=0 if self.thinking is None else self.thinking.num_tokens,
            forced=tuple(self.forced),
            stop_text=self.stop_text,
            top_logprobs=tuple(self.top_logprobs),
            experts=experts,
        )

    def _finds_stop_text(self) -> bool:
        """Reads only as much of the end of the answer as a stop text that ends there can need."""
        assert self.decode is not None and self._answer_start is not None
        longest = max(len(text.encode()) for text in self.params.stop)
        answer = self.token_ids[self._answer_start :]
        text = self.decode(answer[-(longest + _TAIL_TOKENS) :])
        self.stop_text = next((stop for stop in self.params.stop if stop in text), "")
        return bool(self.stop_text)
