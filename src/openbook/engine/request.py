"""A request on its way: its sequence, what was sampled for it, and when it is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from openbook.engine.sequence import Sequence as CachedSequence
from openbook.engine.thinking import ThinkingState
from openbook.engine.types import Completion, FinishReason, SamplingParams
from openbook.runs.usage import Usage

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
    is_plain: bool = field(init=False)
    """Whether temperature and stop tokens are all there is to it: told once, and not at each token."""
    _answer_start: int | None = None

    def __post_init__(self) -> None:
        params = self.params
        self.is_plain = params.is_plain and params.thinking_budget is None and not params.stop

    @property
    def prompt_ids(self) -> list[int]:
        return self.sequence.token_ids[: self.sequence.prompt_length]

    @property
    def room(self) -> int:
        """Tokens that the completion may still have."""
        return self.params.max_tokens - len(self.token_ids)

    def banned_ids(self, drafts: Sequence[int] = ()) -> frozenset[int]:
        """What must not come behind the tokens so far and `drafts`, for the sake of a thinking budget.

        With one there is an answer, and thinking begins only where it can be closed again.
        """
        budget = self.params.thinking_budget
        if self.thinking is None or budget is None:
            return frozenset()
        tags, thinking = self.thinking.tags, copy(self.thinking)
        for token in drafts:
            thinking.take(token)
        if thinking.is_thinking:
            return frozenset()
        open_ids = () if thinking.may_open(budget, self.room - len(drafts)) else (tags.open_id,)
        empty_ids = () if thinking.has_answer else (*tags.empty_ids, *self._ending_ids)
        return frozenset((*open_ids, *empty_ids))

    @property
    def must_close(self) -> bool:
        """Whether thinking has to be closed now, because its budget is spent."""
        return self.thinking is not None and self.thinking.is_over(self.params.thinking_budget, self.room)

    def cuts_off(self, token: int) -> bool:
        """Whether `token` would end it in the middle of thinking, where a budget promises an answer."""
        if self.thinking is None or self.params.thinking_budget is None:
            return False
        return self.thinking.is_thinking and token in self._ending_ids

    @property
    def _ending_ids(self) -> frozenset[int]:
        return frozenset() if self.params.ignore_stops else self.stop_ids

    def take(self, token: int, logprob: float, version: int) -> None:
        """Add a sampled token, and end the completion if it does."""
        if not self.versions or self.versions[-1][1] != version:
            self.versions.append((len(self.token_ids), version))
        self.token_ids.append(token)
        self.logprobs.append(logprob)
        is_answer = self.thinking is None or not self.thinking.take(token)
        if self.is_plain and token not in self.stop_ids and len(self.token_ids) < self.params.max_tokens:
            return
        if not is_answer:
            self._answer_start = None
        elif self._answer_start is None:
            self._answer_start = len(self.token_ids) - 1
        if token in self._ending_ids or (self.params.stop and is_answer and self._finds_stop_text()):
            self.finish_reason = FinishReason.STOP
        elif self.room <= 0:
            self.finish_reason = FinishReason.LENGTH

    def take_all(self, tokens: Sequence[int], logprobs: Sequence[float], version: int) -> None:
        """As `take` for the tokens of a plain request, of which only the last can end it."""
        assert self.is_plain
        if len(tokens) > 1:
            if not self.versions or self.versions[-1][1] != version:
                self.versions.append((len(self.token_ids), version))
            self.token_ids += tokens[:-1]
            self.logprobs += logprobs[: len(tokens) - 1]
            if self.thinking is not None:
                for token in tokens[:-1]:
                    self.thinking.take(token)
        if tokens:
            self.take(tokens[-1], logprobs[len(tokens) - 1], version)

    def close_thinking(self) -> tuple[int, ...]:
        """Sets the tokens that end the thinking and lead into the answer, and gives them."""
        thinking = self.thinking
        assert thinking is not None and thinking.is_thinking
        closing = thinking.tags.closing_ids
        self._answer_start = None
        for token in closing:
            self.forced.append(len(self.token_ids))
            self.token_ids.append(token)
            self.logprobs.append(0.0)
            if self.params.num_top_logprobs:
                self.top_logprobs.append(((token, 0.0),))
            thinking.take(token)
        return closing

    def completion(self, experts: NDArray[np.int16] | None, usage: Usage) -> Completion:
        """What has come of it; it has ended."""
        assert self.finish_reason is not None
        return Completion(
            prompt_ids=tuple(self.prompt_ids),
            token_ids=tuple(self.token_ids),
            logprobs=tuple(self.logprobs),
            finish_reason=self.finish_reason,
            policy_version=self.versions[-1][1] if self.versions else -1,
            versions=tuple(self.versions),
            num_thinking_tokens=0 if self.thinking is None else self.thinking.num_tokens,
            forced=tuple(self.forced),
            stop_text=self.stop_text,
            top_logprobs=tuple(self.top_logprobs),
            experts=experts,
            usage=usage,
        )

    def _finds_stop_text(self) -> bool:
        """Reads only as much of the end of the answer as a stop text that ends there can need."""
        assert self.decode is not None and self._answer_start is not None
        longest = max(len(text.encode()) for text in self.params.stop)
        answer = self.token_ids[self._answer_start :]
        text = self.decode(answer[-(longest + _TAIL_TOKENS) :])
        self.stop_text = next((stop for stop in self.params.stop if stop in text), "")
        return bool(self.stop_text)
