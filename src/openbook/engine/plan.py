"""What the scheduler is told and what it answers: limits, chunks, plans, forks. No tensors."""

from __future__ import annotations

from dataclasses import dataclass

from openbook.engine.sequence import Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class SchedulerLimits:
    """How much runs at once: sequences, tokens of one step, tokens of one chunk of one sequence.

    Chunks are cut to the room that is left in the step; with `fixed_chunks` only at multiples of
    `chunk_tokens`, so that where a prompt is cut does not depend on what else runs.
    """

    max_running: int
    max_tokens_per_step: int
    chunk_tokens: int
    fixed_chunks: bool = False

    def __post_init__(self) -> None:
        assert min(self.max_running, self.max_tokens_per_step, self.chunk_tokens) > 0
        assert not self.fixed_chunks or self.max_tokens_per_step >= self.chunk_tokens + self.max_running, (
            "a fixed chunk has to fit beside a full set of decoding sequences"
        )


@dataclass(kw_only=True, slots=True)  # not frozen, which would double the cost of what is made for each token
class Chunk:
    """Compute the tokens at `[start, start + count)` of `sequence`, the last `num_drafts` of them drafts.

    `is_last`: the chunk reaches the end of the sequence. The logits of its last token are sampled
    from, with drafts those of its last `num_drafts + 1` tokens.
    """

    sequence: Sequence
    start: int
    count: int
    num_drafts: int
    is_last: bool

    @property
    def token_ids(self) -> list[int]:
        """What to compute, drafts included; to be read before tokens are appended."""
        return self.sequence.ids(self.start, self.start + self.count)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepPlan:
    """The chunks of one step, decoding ones first, and the sequences that lost their blocks for it."""

    chunks: tuple[Chunk, ...]
    preempted: tuple[Sequence, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens that the step computes, drafts included."""
        return sum(chunk.count for chunk in self.chunks)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fork:
    """`sequence` now runs, with its prompt computed, once each `(source, target)` block is copied."""

    sequence: Sequence
    copies: tuple[tuple[int, int], ...]
