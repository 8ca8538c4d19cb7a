"""The native kernels, and a way to run a few of their operations by themselves."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from openbook.kernels import operations as ops
from openbook.kernels.native import Missing, Native, load_native
from openbook.model.cache import BLOCK_SIZE

CANARY = 0x5A
"""Fills the bytes behind the scratch that was asked for: who writes there asks for too little."""
_GUARD_BYTES = 4096
_ALIGNMENT = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where each row of a step stands, and the blocks of its sequence: int32 [R], [R], [S, n]."""

    positions: Tensor
    sequences: Tensor
    tables: Tensor

    def batch(self) -> ops.Batch:
        assert {self.positions.dtype, self.sequences.dtype, self.tables.dtype} == {torch.int32}
        return ops.Batch(
            num_rows=len(self.positions),
            positions=self.positions.data_ptr(),
            sequences=self.sequences.data_ptr(),
            tables=self.tables.data_ptr(),
            table_width=self.tables.shape[1],
        )


@pytest.fixture(scope="session")
def native() -> Native:
    found = load_native()
    if isinstance(found, Missing):
        pytest.skip(found.reason)
    return found


@pytest.fixture(scope="session")
def run(native: Native) -> Callable[..., None]:
    """`run(operations, num_rows or places, exact=True, num_threads=1)`, watching over the scratch."""

    def run(
        operations: Sequence[ops.Operation],
        rows: int | Places,
        *,
        exact: bool = True,
        num_threads: int = 1,
    ) -> None:
        batch = ops.Batch(num_rows=rows) if isinstance(rows, int) else rows.batch()
        longest = 1 if isinstance(rows, int) else int(rows.positions.max()) + 1
        program, count = ops.encode(list(operations)), ctypes.c_int64(len(operations))
        size: int = native.library.openbook_scratch_bytes(
            program, count, ctypes.c_int64(max(batch.num_rows, 1)), ctypes.c_int64(longest)
        )
        used = size * num_threads
        scratch = torch.full((used + _ALIGNMENT + _GUARD_BYTES,), CANARY, dtype=torch.uint8)
        first = -scratch.data_ptr() % _ALIGNMENT
        native.library.openbook_run(
            program,
            count,
            ctypes.byref(batch),
            ctypes.c_int64(num_threads),
            ctypes.c_void_p(scratch.data_ptr() + first),
            ctypes.c_int64(size),
            ctypes.c_int64(int(exact)),
        )
        assert (scratch[first + used :] == CANARY).all(), "an operation needs more scratch than it says"

    return run


@pytest.fixture
def make_places() -> Callable[..., Places]:
    """`make_places(lengths, counts)`: the last `counts[s]` tokens of sequences that are `lengths[s]` long.

    Their blocks lie scattered over a pool of twice as many, the first block of all being nobody's.
    """

    def make(lengths: Sequence[int], counts: Sequence[int]) -> Places:
        num_blocks = [-(-length // BLOCK_SIZE) for length in lengths]
        scattered = torch.randperm(2 * sum(num_blocks), generator=torch.Generator().manual_seed(1)) + 1
        tables = torch.zeros(len(lengths), max(num_blocks), dtype=torch.int32)
        for row, blocks in enumerate(scattered[: sum(num_blocks)].split(num_blocks)):
            tables[row, : len(blocks)] = blocks
        return Places(
            positions=torch.cat(
                [torch.arange(length - count, length) for length, count in zip(lengths, counts, strict=True)]
            ).int(),
            sequences=torch.arange(len(lengths)).repeat_interleave(torch.tensor(counts)).int(),
            tables=tables,
        )

    return make


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    """Standard normal numbers, the same ones for every test."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator)
