"""Burst: several steps of plain decoding in a row, with the accounts written once behind them.

    tokens, positions, tables of all sequences -> [ forward -> sample -> who ends? ] ... -> tokens each

Where sequences only decode, and nothing but temperature and stop tokens matters, a step needs no plan: its
arrays are those of the last one, a position on. What a burst samples is what as many steps would.

Shape letters: S sequence, R row (a sequence that has not ended), n block, K step of the burst.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openbook.engine.executor import StepBatch
from openbook.engine.native_executor import NativeExecutor
from openbook.engine.picking import native_sample
from openbook.engine.randomness import uniforms
from openbook.engine.request import Request

SHARE_TO_REPLACE = 1 / 16
"""A burst ends early once this share of its sequences has ended while others wait for their places."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Burst:
    """What was sampled: the tokens of each sequence, and how many rows were computed for them."""

    tokens: list[list[int]]
    """For each sequence in the order of the requests; -1 behind which nothing comes where it was NaN."""
    logprobs: list[list[float]]
    num_rows: int


def can_burst(requests: Sequence[Request]) -> bool:
    """Whether all of `requests`, which decode, are plain and stop at the same tokens."""
    if not requests:
        return False
    first = requests[0]
    stops, ignores = first.stop_ids, first.params.ignore_stops
    return all(
        one.is_plain
        and one.params.ignore_stops == ignores
        and (one.stop_ids is stops or one.stop_ids == stops)
        for one in requests
    )


def run_burst(
    executor: NativeExecutor, requests: Sequence[Request], num_steps: int, *, others_wait: bool
) -> Burst:
    """Up to `num_steps` tokens for each of `requests`, whose blocks reach so far; stops end a sequence."""
    rows = _Rows.of(requests)
    num_sequences, num_rows = len(requests), 0
    tokens_KS = np.zeros((num_steps, num_sequences), np.int32)
    logprobs_KS = np.zeros((num_steps, num_sequences), np.float32)
    counts_S = np.zeros(num_sequences, np.int64)
    is_stop_V = _stop_table(requests[0], executor.model.config.vocab_size)
    replaced = max(1, int(num_sequences * SHARE_TO_REPLACE)) if others_wait else num_sequences
    for step in range(num_steps):
        logits_RV = executor.forward(rows.batch())
        uniform_R = uniforms(rows.seeds_R, rows.places_R)
        tokens_R, logprobs_R = native_sample(executor.native, logits_RV, rows.temperatures_R, uniform_R)
        num_rows += len(tokens_R)
        tokens_KS[step, rows.owners_R], logprobs_KS[step, rows.owners_R] = tokens_R, logprobs_R
        counts_S[rows.owners_R] += 1
        # -1, for logits that are no numbers, reads the last entry, which ends a sequence like a stop.
        goes_on_R = ~(is_stop_V[tokens_R] | (rows.room_R == 1))
        rows = rows.one_further(tokens_R, goes_on_R)
        if len(rows.owners_R) <= num_sequences - replaced:
            break
    ends = counts_S.tolist()
    return Burst(
        tokens=[row[:end] for row, end in zip(tokens_KS.T.tolist(), ends, strict=True)],
        logprobs=[row[:end] for row, end in zip(logprobs_KS.T.tolist(), ends, strict=True)],
        num_rows=num_rows,
    )


def _stop_table(request: Request, vocab_size: int) -> NDArray[np.bool_]:
    table = np.zeros(vocab_size + 1, np.bool_)
    if not request.params.ignore_stops:
        table[[one for one in request.stop_ids if one < vocab_size]] = True
    table[-1] = True
    return table


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rows:
    """The sequences that have not ended, as arrays."""

    owners_R: NDArray[np.int64]
    tokens_R: NDArray[np.int32]
    positions_R: NDArray[np.int32]
    tables_Rn: NDArray[np.int32]
    seeds_R: NDArray[np.uint64]
    places_R: NDArray[np.uint64]
    temperatures_R: NDArray[np.float32]
    room_R: NDArray[np.int64]

    @classmethod
    def of(cls, requests: Sequence[Request]) -> _Rows:
        sequences = [one.sequence for one in requests]
        width = max(len(one.blocks) for one in sequences)
        tables = [one.blocks + [0] * (width - len(one.blocks)) for one in sequences]
        return cls(
            owners_R=np.arange(len(requests)),
            tokens_R=np.array([one.token_ids[-1] for one in sequences], np.int32),
            positions_R=np.array([one.num_computed for one in sequences], np.int32),
            tables_Rn=np.array(tables, np.int32),
            seeds_R=np.array([one.seed for one in requests], np.uint64),
            places_R=np.array([len(one.token_ids) for one in requests], np.uint64),
            temperatures_R=np.array([one.params.temperature for one in requests], np.float32),
            room_R=np.array([one.room for one in requests], np.int64),
        )

    def batch(self) -> StepBatch:
        num_rows = len(self.owners_R)
        return StepBatch(
            tokens_R=self.tokens_R,
            positions_R=self.positions_R,
            sequences_R=np.arange(num_rows, dtype=np.int32),
            tables_Sn=self.tables_Rn,
            sampled_M=np.arange(num_rows),
        )

    def one_further(self, tokens_R: NDArray[np.int32], goes_on_R: NDArray[np.bool_]) -> _Rows:
        """A token on, without those that have ended."""
        keep = slice(None) if goes_on_R.all() else goes_on_R
        return _Rows(
            owners_R=self.owners_R[keep],
            tokens_R=tokens_R[keep],
            positions_R=self.positions_R[keep] + np.int32(1),
            tables_Rn=self.tables_Rn[keep],
            seeds_R=self.seeds_R[keep],
            places_R=self.places_R[keep] + np.uint64(1),
            temperatures_R=self.temperatures_R[keep],
            room_R=self.room_R[keep] - 1,
        )
