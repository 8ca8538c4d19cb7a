"""Executor: what computes one step, whatever computes it.

    StepBatch (which tokens, where, in which blocks) -> logits of the rows that are sampled from

Shape letters: R row (a token of a sequence), M row that is sampled from, S sequence, n block, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from openbook.model.cache import CachePool

Ints = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepBatch:
    """The tokens of one step. Rows of one sequence lie side by side, in the order of their positions."""

    tokens_R: Ints
    positions_R: Ints
    sequences_R: Ints
    """Which row of `tables_Sn` is each row's own."""
    tables_Sn: Ints
    """The blocks of each sequence in order; behind its last one, any."""
    sampled_M: NDArray[np.int64]
    """The rows whose logits are wanted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DraftRows:
    """Rows of the last step that the MTP module reads, each with the token that follows it."""

    rows_R: NDArray[np.int64]
    """Which rows of the last step."""
    tokens_R: Ints
    positions_R: Ints
    sequences_R: Ints
    tables_Sn: Ints
    last_M: NDArray[np.int64]
    """Which of these rows stand at the end of a sequence: a token is guessed behind the one that follows."""
    reach_M: Ints
    """How many positions the blocks of each such sequence hold."""

    def one_further(self, guesses_M: Ints) -> DraftRows:
        """A row for each sequence, one position on, with the guess as the token that follows."""
        ends = self.last_M
        return DraftRows(
            rows_R=np.arange(len(ends)),
            tokens_R=guesses_M,
            positions_R=self.positions_R[ends] + np.int32(1),
            sequences_R=self.sequences_R[ends],
            tables_Sn=self.tables_Sn,
            last_M=np.arange(len(ends)),
            reach_M=self.reach_M,
        )


class Executor(Protocol):
    """Runs a model over a paged cache that it owns."""

    @property
    def pool(self) -> CachePool: ...

    @property
    def max_rows(self) -> int:
        """The most rows that one step may have."""
        ...

    @property
    def name(self) -> str:
        """What it is, for a manifest: two executors of one name compute the same bits on one machine."""
        ...

    def forward(self, batch: StepBatch) -> Tensor:
        """Writes keys of all rows into the cache -> fp32 logits [M, V], valid until the next step."""
        ...

    def draft(self, rows: DraftRows, num_drafts: int) -> Ints:
        """The MTP module over rows of the last step -> the tokens it guesses [M, num_drafts].

        Beyond the first, a guess is made from the module's own state and guess, where the sequence's blocks
        reach so far; where they do not, the row ends in -1.
        """
        ...

    def refresh(self) -> None:
        """Takes up the weights that the model has now."""
        ...
