"""NativeExecutor: a model as a program of native operations, on the CPU."""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openbook.engine.builder import Program, ProgramBuilder
from openbook.engine.distribution import NO_TOKEN
from openbook.engine.draft_program import DraftProgram
from openbook.engine.executor import DraftRows, StepBatch
from openbook.engine.matrices import Packer
from openbook.engine.program import Surroundings, add_block, add_head, head_matrix, rotation_of
from openbook.kernels import operations as ops
from openbook.kernels.native import Native
from openbook.model.cache import CachePool
from openbook.model.layers import Embedding
from openbook.model.transformer import Transformer

_ALIGNMENT = 64
_BYTES_A_THREAD = 4 << 20
"""Weights times rows that make a thread worth its barriers."""


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
        num_drafts: int = 0,
    ) -> None:
        self.native, self.model, self.pool, self.max_rows = native, model, pool, max_rows
        self.exact, self._num_drafts = exact, num_drafts
        config = model.config
        self._packer = Packer(dtype=dtype)
        self._builder = ProgramBuilder(packer=self._packer, max_rows=max_rows)
        self._num_positions = config.max_position_embeddings
        self._scratch = torch.empty(0, dtype=torch.uint8)
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
        builder = self._builder
        builder.begin_anew()
        self._x = builder.buffer("x", config.hidden_size)
        for layer, block in enumerate(self.model.model.blocks()):
            add_block(builder, self._around, block, layer, self._x)
        self._body = builder.build()
        self._last = builder.buffer("last", config.hidden_size)
        self._logits = builder.buffer("logits", config.vocab_size)
        head = self._packer.pack([head_matrix(self.model)])
        add_head(builder, self.model.model.norm, head, self._last, self._logits)
        self._head = builder.build()
        programs = [self._body, self._head]
        if self._num_drafts:
            self._draft = DraftProgram.build(builder, self._around, self.model, head)
            programs += [self._draft.body, self._draft.head]
        self._scratch_bytes = max(self._scratch_for(program) for program in programs)

    @torch.no_grad()
    def forward(self, batch: StepBatch) -> Tensor:
        """Logits [M, V] in a buffer of the executor's own."""
        num_rows, num_sampled = len(batch.tokens_R), len(batch.sampled_M)
        assert num_rows <= self.max_rows, (num_rows, self.max_rows)
        tables_Sn = np.ascontiguousarray(batch.tables_Sn)
        self._embed(batch.tokens_R, self._x)
        self._run(self._body, _native_batch(batch.positions_R, batch.sequences_R, tables_Sn))
        torch.index_select(self._x, 0, torch.from_numpy(batch.sampled_M), out=self._last[:num_sampled])
        self._run(self._head, ops.Batch(num_rows=num_sampled))
        return self._logits[:num_sampled]

    @torch.no_grad()
    def draft(self, rows: DraftRows, num_drafts: int) -> NDArray[np.int32]:
        """Guesses [M, num_drafts], the likeliest token each time; -1 where the blocks end."""
        program, num_wanted = self._draft, len(rows.last_M)
        guesses = np.full((num_wanted, num_drafts), NO_TOKEN, np.int32)
        tables_Sn = np.ascontiguousarray(rows.tables_Sn)
        program.state[: len(rows.rows_R)] = self._x[torch.from_numpy(rows.rows_R)]
        for place in range(num_drafts):
            embedded = self.model.model.embed_tokens(torch.from_numpy(rows.tokens_R))
            program.embedded[: len(rows.rows_R)] = embedded
            self._run(program.body, _native_batch(rows.positions_R, rows.sequences_R, tables_Sn))
            if num_wanted == 0:
                break
            program.last[:num_wanted] = program.ahead[torch.from_numpy(rows.last_M)]
            self._run(program.head, ops.Batch(num_rows=num_wanted))
            guesses[:, place] = self._logits[:num_wanted].argmax(-1).numpy()
            if (rows.positions_R[rows.last_M] + 1 >= rows.reach_M).any():
                break
            rows = rows.one_further(guesses[:, place].copy())
            program.state[:num_wanted] = program.last[:num_wanted]
        return guesses

    def _embed(self, tokens_R: NDArray[np.int32], out: Tensor) -> None:
        """The embeddings of `tokens_R` as the first rows of `out`; in place where the table is plain fp32."""
        table, tokens = self.model.model.embed_tokens, torch.from_numpy(tokens_R)
        weight = table.weight if isinstance(table, Embedding) else None
        if weight is not None and weight.dtype == torch.float32:
            torch.index_select(weight, 0, tokens, out=out[: len(tokens)])
        else:
            out[: len(tokens)] = table(tokens)

    def _run(self, program: Program, rows: ops.Batch) -> None:
        num_threads = self._threads_for(program, rows.num_rows)
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

    def _threads_for(self, program: Program, num_rows: int) -> int:
        """As many as have something to do: meeting at barriers costs more than a tiny model's step is worth.

        Which thread computes an output changes nothing about it.
        """
        useful = program.weight_bytes * num_rows // _BYTES_A_THREAD
        return max(1, min(torch.get_num_threads(), useful))

    def _scratch_for(self, program: Program) -> int:
        size: int = self.native.library.openbook_scratch_bytes(
            program.operations,
            ctypes.c_int64(program.num_operations),
            ctypes.c_int64(self.max_rows),
            ctypes.c_int64(self._num_positions),
        )
        return size


def _native_batch(
    positions_R: NDArray[np.int32], sequences_R: NDArray[np.int32], tables_Sn: NDArray[np.int32]
) -> ops.Batch:
    """Addresses of arrays that the caller holds until the program has run."""
    return ops.Batch(
        num_rows=len(positions_R),
        positions=positions_R.ctypes.data,
        sequences=sequences_R.ctypes.data,
        tables=tables_Sn.ctypes.data,
        table_width=tables_Sn.shape[1],
    )
