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
    sampled_M: Ints
    """The rows whose logits are wanted."""


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

    def refresh(self) -> None:
        """Takes up the weights that the model has now."""
        ...
