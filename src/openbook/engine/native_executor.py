"""NativeExecutor: a model as a program of native operations, on the CPU."""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openbook.engine.builder import Program, ProgramBuilder
from openbook.engine.executor import StepBatch
from openbook.engine.matrices import Packer
from openbook.engine.program import Surroundings, add_block, add_head, rotation_of
from openbook.kernels import operations as ops
from openbook.kernels.native import Native
from openbook.model.cache import CachePool
from openbook.model.transformer import Transformer

_ALIGNMENT = 64


class NativeExecutor:
    """Packs the weights, and packs them anew at `refresh`.

    `exact` computes each row by itself, bit for bit, whatever else is in the step; without it bf16
    products may run on AMX tiles, which add in another order.
    """

    def __init__(
        self,
        native: Native,
        model: Transformer,
        pool: CachePool,
        *,
        max_rows: int,
        dtype: torch.dtype,
        exact: bool,
    ) -> None:
        self.native, self.model, self.pool, self.max_rows = native, model, pool, max_rows
        self.exact = exact
        config = model.config
        self._packer = Packer(dtype=dtype)
        self._num_positions = config.max_position_embeddings
        self._around = Surroundings(
            config=config, pool=pool, rotation=rotation_of(model, self._num_positions)
        )
        self.refresh()

    @property
    def name(self) -> str:
        precision = str(self._packer.dtype).removeprefix("torch.")
        return f"native {self.native.build} {precision}{' exact' if self.exact else ''}"

    @property
    def weight_bytes(self) -> int:
        """What one step reads of weights, if it reads all of them."""
        return self._body.weight_bytes + self._head.weight_bytes

    def refresh(self) -> None:
        """Packs the weights that the model has now."""
        config = self.model.config
        builder = ProgramBuilder(packer=self._packer, max_rows=self.max_rows)
        self._x = builder.buffer("x", config.hidden_size)
        for layer, block in enumerate(self.model.model.blocks()):
            add_block(builder, self._around, block, layer, self._x)
        self._body = builder.build()
        self._last = builder.buffer("last", config.hidden_size)
        self._logits = builder.buffer("logits", config.vocab_size)
        add_head(builder, self.model, self._last, self._logits)
        self._head = builder.build()
        self._scratch_bytes = max(self._scratch_for(self._body), self._scratch_for(self._head))
        self._scratch = torch.empty(0, dtype=torch.uint8)

    @torch.no_grad()
    def forward(self, batch: StepBatch) -> Tensor:
        """Logits [M, V] in a buffer of the executor's own."""
        num_rows, num_sampled = len(batch.tokens_R), len(batch.sampled_M)
        assert num_rows <= self.max_rows, (num_rows, self.max_rows)
        tables_Sn = np.ascontiguousarray(batch.tables_Sn)
        self._x[:num_rows] = self.model.model.embed_tokens(torch.from_numpy(batch.tokens_R))
        self._run(self._body, self._rows_of(batch, tables_Sn))
        self._last[:num_sampled] = self._x[torch.from_numpy(batch.sampled_M)]
        self._run(self._head, ops.Batch(num_rows=num_sampled))
        return self._logits[:num_sampled]

    def _rows_of(self, batch: StepBatch, tables_Sn: NDArray[np.int32]) -> ops.Batch:
        return ops.Batch(
            num_rows=len(batch.tokens_R),
            positions=batch.positions_R.ctypes.data,
            sequences=batch.sequences_R.ctypes.data,
            tables=tables_Sn.ctypes.data,
            table_width=tables_Sn.shape[1],
        )

    def _run(self, program: Program, rows: ops.Batch) -> None:
        num_threads = torch.get_num_threads()
        needed = self._scratch_bytes * num_threads + _ALIGNMENT
        if len(self._scratch) < needed:
            self._scratch = torch.zeros(needed, dtype=torch.uint8)
        start = self._scratch.data_ptr()
        self.native.library.openbook_run(
            program.operations,
            ctypes.c_int64(program.num_operations),
            ctypes.byref(rows),
            ctypes.c_int64(num_threads),
            ctypes.c_void_p(start + -start % _ALIGNMENT),
            ctypes.c_int64(self._scratch_bytes),
            ctypes.c_int64(int(self.exact)),
        )

    def _scratch_for(self, program: Program) -> int:
        size: int = self.native.library.openbook_scratch_bytes(
            program.operations,
            ctypes.c_int64(program.num_operations),
            ctypes.c_int64(self.max_rows),
            ctypes.c_int64(self._num_positions),
        )
        return size
