"""Guessing ahead with the model's own MTP module, and stopping where that loses.

A guess is taken when it is the token that the model samples at its place anyway, with the uniform number of
that place. So the tokens are those of plain sampling, one by one, at every temperature; what changes is how
many of them one step gives.

    a step computes [last token, guesses] -> tokens are picked -> guesses hold up to the first that differs
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from openbook.engine.executor import DraftRows, StepBatch
from openbook.engine.plan import Chunk
from openbook.engine.sequence import Sequence as CachedSequence
from openbook.engine.sequence import SequenceStatus
from openbook.model.cache import BLOCK_SIZE

TRIAL_STEPS = 24
"""Steps of each way that are compared."""
SETTLED_STEPS = 1000
"""Steps of the faster way before the two are compared again."""


@dataclass(kw_only=True, slots=True)
class DraftStatistics:
    """How many guesses at the first, second, ... place ahead were made, and how many held."""

    num_proposed: list[int]
    num_accepted: list[int]

    def count(self, num_proposed: int, num_accepted: int) -> None:
        for place in range(num_proposed):
            self.num_proposed[place] += 1
            self.num_accepted[place] += place < num_accepted

    @property
    def acceptance(self) -> list[float]:
        """The share of guesses that held, place by place; 0 where there were none."""
        return [
            accepted / proposed if proposed else 0.0
            for accepted, proposed in zip(self.num_accepted, self.num_proposed, strict=True)
        ]


@dataclass(kw_only=True, slots=True)
class DraftPolicy:
    """Whether to guess in the next step: the way that took less time a token, as measured here.

    `observe` is told of every step; the first one of a trial is not counted, since it pays for the change.
    """

    is_drafting: bool = True
    _is_trial: bool = True
    _num_steps: int = 0
    _seconds: float = 0.0
    _num_tokens: int = 0
    _rates: dict[bool, float] = field(default_factory=dict)

    def observe(self, seconds: float, num_tokens: int) -> None:
        """A step took `seconds` and gave `num_tokens`."""
        self._num_steps += 1
        if self._num_steps > 1:
            self._seconds += seconds
            self._num_tokens += num_tokens
        if self._num_steps >= (TRIAL_STEPS if self._is_trial else SETTLED_STEPS):
            self._turn()

    def _turn(self) -> None:
        self._rates[self.is_drafting] = self._num_tokens / self._seconds if self._seconds else 0.0
        if not self._is_trial:  # begin a new comparison with what runs now
            self._is_trial, self._rates = True, {}
        elif len(self._rates) < 2:
            self.is_drafting = not self.is_drafting
        else:
            self._is_trial = False
            self.is_drafting = self._rates[True] > self._rates[False]
        self._num_steps, self._seconds, self._num_tokens = 0, 0.0, 0


def draft_rows(batch: StepBatch, chunks: Sequence[Chunk]) -> tuple[DraftRows | None, list[CachedSequence]]:
    """What the MTP module reads after a step: each computed row that holds, with the token behind it.

    Also the sequences that go on by one token next, for which guesses are wanted. Called once the tokens of
    the step have been appended.
    """
    rows: list[int] = []
    tokens: list[int] = []
    last: list[int] = []
    wanting: list[CachedSequence] = []
    end = 0
    for chunk in chunks:
        start, end, sequence = end, end + chunk.count, chunk.sequence
        if sequence.status is not SequenceStatus.RUNNING:
            continue
        num_held = min(sequence.num_computed, len(sequence.token_ids) - 1) - chunk.start
        if num_held <= 0:
            continue
        rows += range(start, start + num_held)
        tokens += sequence.token_ids[chunk.start + 1 : chunk.start + 1 + num_held]
        if sequence.num_remaining == 1:
            last.append(len(rows) - 1)
            wanting.append(sequence)
    if not rows:
        return None, []
    kept = np.array(rows)
    return (
        DraftRows(
            rows_R=kept,
            tokens_R=np.array(tokens, np.int32),
            positions_R=batch.positions_R[kept],
            sequences_R=batch.sequences_R[kept],
            tables_Sn=batch.tables_Sn,
            last_M=np.array(last, np.int64),
            reach_M=np.array([len(one.blocks) * BLOCK_SIZE for one in wanting], np.int32),
        ),
        wanting,
    )
