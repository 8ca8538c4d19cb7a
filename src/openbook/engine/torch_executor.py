"""TorchExecutor: the model's own modules over the paged cache. The plain path, and the one for GPUs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openbook.engine.distribution import NO_TOKEN
from openbook.engine.executor import DraftRows, StepBatch
from openbook.engine.graphs import DecodeGraphs
from openbook.kernels.precision import autocast
from openbook.model.cache import Cache, CachePool
from openbook.model.transformer import Transformer


class TorchExecutor:
    """Runs sequences with equally many tokens in the step together; with `exact`, each one alone."""

    def __init__(self, model: Transformer, pool: CachePool, *, max_rows: int, exact: bool) -> None:
        self.model, self.pool, self.max_rows, self.exact = model, pool, max_rows, exact
        self._device = model.model.norm.weight.device
        # What a graph replays is a sum over padded rows, and a row that has to be exact is computed alone.
        self._graphs = DecodeGraphs(model, pool) if self._device.type == "cuda" and not exact else None

    @property
    def name(self) -> str:
        return f"torch {torch.__version__} {self._device.type}{' exact' if self.exact else ''}"

    def refresh(self) -> None:
        """Nothing to do: the modules hold the weights."""

    @torch.no_grad()
    def forward(self, batch: StepBatch) -> Tensor:
        """Logits [M, V]."""
        self.model.eval()
        norm = self.model.model.norm
        self._trunk_RD = norm.weight.new_empty(len(batch.tokens_R), self.model.config.hidden_size)
        with autocast(self._device):
            for rows_BT in self._groups(batch.sequences_R):
                tokens_BT = self._tensor(batch.tokens_R[rows_BT])
                cache, lengths_B = self._cache(batch, rows_BT)
                if self._graphs is not None and rows_BT.shape[1] == 1:
                    trunk_BTD = self._graphs.run(tokens_BT, cache.tables_Bn, lengths_B)
                else:
                    trunk_BTD = self.model.trunk_cached(tokens_BT, cache, lengths_B)
                self._trunk_RD[self._tensor(rows_BT)] = trunk_BTD.to(self._trunk_RD.dtype)
            return self._logits(norm(self._trunk_RD[self._tensor(batch.sampled_M)])).float()

    @torch.no_grad()
    def draft(self, rows: DraftRows, num_drafts: int) -> NDArray[np.int32]:
        """Guesses [M, num_drafts], the likeliest token each time; -1 where the blocks end."""
        states_RD = self._trunk_RD[self._tensor(rows.rows_R)]
        guesses = np.full((len(rows.last_M), num_drafts), NO_TOKEN, np.int32)
        for place in range(num_drafts):
            ahead_RD, hidden_RD = states_RD.clone(), states_RD.clone()
            with autocast(self._device):
                for rows_BT in self._groups(rows.sequences_R):
                    at_BT, next_BT = self._tensor(rows_BT), self._tensor(rows.tokens_R[rows_BT])
                    cache, lengths_B = self._cache(rows, rows_BT)
                    ahead, hidden = self.model.mtp_cached(states_RD[at_BT], next_BT, cache, lengths_B)
                    ahead_RD[at_BT], hidden_RD[at_BT] = ahead.to(ahead_RD.dtype), hidden.to(ahead_RD.dtype)
                if not len(rows.last_M):
                    break
                last_M = self._tensor(rows.last_M)
                guesses[:, place] = self._logits(hidden_RD[last_M]).argmax(-1).int().cpu().numpy()
            if (rows.positions_R[rows.last_M] + 1 >= rows.reach_M).any():
                break
            states_RD, rows = ahead_RD[last_M], rows.one_further(guesses[:, place])
        return guesses

    def _logits(self, hidden_MD: Tensor) -> Tensor:
        if not self.exact or not len(hidden_MD):
            return self.model.logits(hidden_MD)
        return torch.cat([self.model.logits(row_1D) for row_1D in hidden_MD[:, None]])

    def _groups(self, sequences_R: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
        """The rows of the step as rectangles [B, T], a sequence a line."""
        ends = np.flatnonzero(np.diff(sequences_R)) + 1
        runs = np.split(np.arange(len(sequences_R)), ends)
        if self.exact:
            yield from (run[None] for run in runs)
            return
        for length in sorted({len(run) for run in runs}):
            yield np.stack([run for run in runs if len(run) == length])

    def _cache(self, batch: StepBatch | DraftRows, rows_BT: NDArray[np.int64]) -> tuple[Cache, Tensor]:
        """The rows' view of the pool, and where each begins."""
        tables_Bn = self._tensor(batch.tables_Sn[batch.sequences_R[rows_BT[:, 0]]])
        lengths_B = self._tensor(batch.positions_R[rows_BT[:, 0]])
        return Cache(pool=self.pool, tables_Bn=tables_Bn), lengths_B

    def _tensor(self, values: NDArray[np.int32] | NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(self._device)
