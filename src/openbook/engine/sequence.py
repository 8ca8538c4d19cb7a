"""A sequence: the tokens of one completion, and how far the cache has come with them."""

from __future__ import annotations

from collections.abc import Sequence as AnySequence
from dataclasses import dataclass, field
from enum import StrEnum


class SequenceStatus(StrEnum):
    """`waiting` holds no blocks; `running` holds some; `finished` has ended, by itself or not."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(kw_only=True, slots=True, eq=False)
class Sequence:
    """The one mutable thing of the engine's queue; only the scheduler writes to it, save `draft_ids`.

    `token_ids` are the prompt and everything sampled, of which the first `num_computed` stand in the
    cache, in `blocks`. `draft_ids` are guesses at the tokens that follow. `namespace` is the version
    of the weights that its cached tokens are registered under.

    The counters tell each token that had to be in the cache apart: `num_cached_tokens` of the prompt
    were found there or shared by a fork, `num_computed_prompt_tokens` of it were computed, and
    `num_recomputed_tokens` (of prompt and completion) had been there before a preemption. The first
    two add up to `prompt_length` once the prompt is through.
    """

    id: int
    token_ids: list[int]
    prompt_length: int = field(init=False)
    status: SequenceStatus = field(default=SequenceStatus.WAITING, init=False)
    arrival: int = field(default=0, init=False)
    namespace: int = field(default=0, init=False)
    blocks: list[int] = field(default_factory=list, init=False)
    draft_ids: list[int] = field(default_factory=list, init=False)
    num_computed: int = field(default=0, init=False)
    num_ever_computed: int = field(default=0, init=False)
    num_cached_tokens: int = field(default=0, init=False)
    num_computed_prompt_tokens: int = field(default=0, init=False)
    num_recomputed_tokens: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        assert self.token_ids, "a prompt has at least one token"
        self.token_ids = list(self.token_ids)
        self.prompt_length = len(self.token_ids)

    @property
    def num_remaining(self) -> int:
        """Tokens that are not yet in the cache: 1 while decoding."""
        return len(self.token_ids) - self.num_computed

    @property
    def has_computed_prompt(self) -> bool:
        """Whether the whole prompt has been in the cache, now or before a preemption."""
        return self.num_ever_computed >= self.prompt_length

    def ids(self, start: int, stop: int) -> list[int]:
        """The tokens at positions `[start, stop)`; behind the last token stand the drafts."""
        end = len(self.token_ids)
        return self.token_ids[start:stop] + self.draft_ids[max(start - end, 0) : max(stop - end, 0)]

    def start_from(self, blocks: AnySequence[int], num_cached: int) -> None:
        """Hold `blocks`, the first `num_cached` tokens of which are computed already."""
        self.blocks = list(blocks)
        self.num_computed = num_cached
        self.num_cached_tokens += max(0, min(num_cached, self.prompt_length) - self.num_ever_computed)
        self.num_ever_computed = max(self.num_ever_computed, num_cached)

    def advance_to(self, num_computed: int) -> None:
        """Count the tokens up to `num_computed` as computed by this sequence itself."""
        before = self.num_ever_computed
        self.num_recomputed_tokens += min(num_computed, before) - self.num_computed
        self.num_computed_prompt_tokens += max(0, min(num_computed, self.prompt_length) - before)
        self.num_computed = num_computed
        self.num_ever_computed = max(before, num_computed)
