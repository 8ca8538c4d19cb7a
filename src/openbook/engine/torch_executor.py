"""TorchExecutor: the model's own modules over the paged cache. The plain path, and the one for GPUs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openbook.engine.executor import StepBatch
from openbook.kernels.precision import autocast
from openbook.model.cache import Cache, CachePool
from openbook.model.transformer import Transformer


class TorchExecutor:
    """Runs sequences with equally many tokens in the step together; with `exact`, each one alone."""

    def __init__(self, model: Transformer, pool: CachePool, *, max_rows: int, exact: bool) -> None:
        self.model, self.pool, self.max_rows, self.exact = model, pool, max_rows, exact
        self._device = model.model.norm.weight.device

    @property
    def name(self) -> str:
        return f"torch {torch.__version__} {self._device.type}{' exact' if self.exact else ''}"

    def refresh(self) -> None:
        """Nothing to do: the modules hold the weights."""

    @torch.no_grad()
    def forward(self, batch: StepBatch) -> Tensor:
        """Logits [M, V]."""
        was_training = self.model.training
        self.model.eval()
        hidden_RD = torch.empty(len(batch.tokens_R), self.model.config.hidden_size, device=self._device)
        with autocast(self._device):
            for rows_BT in self._groups(batch):
                hidden_BTD = self._continue(batch, rows_BT)
                hidden_RD[torch.from_numpy(rows_BT).to(self._device)] = hidden_BTD.float()
            sampled_MD = hidden_RD[torch.from_numpy(batch.sampled_M).to(self._device)]
            logits_MV = self._logits(sampled_MD.to(self.model.model.norm.weight.dtype))
        self.model.train(was_training)
        return logits_MV.float()

    def _logits(self, hidden_MD: Tensor) -> Tensor:
        if not self.exact or not len(hidden_MD):
            return self.model.logits(hidden_MD)
        return torch.cat([self.model.logits(row_1D) for row_1D in hidden_MD[:, None]])

    def _groups(self, batch: StepBatch) -> Iterator[NDArray[np.int64]]:
        """The rows of the step as rectangles [B, T], a sequence a line."""
        ends = np.flatnonzero(np.diff(batch.sequences_R)) + 1
        runs = np.split(np.arange(len(batch.sequences_R)), ends)
        if self.exact:
            yield from (run[None] for run in runs)
            return
        for length in sorted({len(run) for run in runs}):
            yield np.stack([run for run in runs if len(run) == length])

    def _continue(self, batch: StepBatch, rows_BT: NDArray[np.int64]) -> Tensor:
        tables_Bn = batch.tables_Sn[batch.sequences_R[rows_BT[:, 0]]]
        tokens_BT, lengths_B, tables = (
            torch.from_numpy(values.astype(np.int64)).to(self._device)
            for values in (batch.tokens_R[rows_BT], batch.positions_R[rows_BT[:, 0]], tables_Bn)
        )
        return self.model.forward_cached(tokens_BT, Cache(pool=self.pool, tables_Bn=tables), lengths_B)
