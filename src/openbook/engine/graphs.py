"""Decoding as CUDA graphs: a step of a small model is hundreds of kernels, which a graph starts at once.

A graph has fixed shapes, so there is one for each size of batch and of block table, both rounded up to powers
of two and captured when they are first met. Rows that are too many repeat the first one: they write the same
numbers to the same place.

Not tried on a card yet. What is captured runs on any device; a test holds it against the plain path on a CPU.

Shape letters: B row, n block, D model width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from openbook.model.cache import Cache, CachePool
from openbook.model.transformer import Transformer

NUM_WARM_UP = 3
"""Runs before a capture, as torch asks for: they fill caches and choose kernels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Captured:
    """One size of batch: buffers to fill, what to run, and where the result then is."""

    tokens_B1: Tensor
    tables_Bn: Tensor
    lengths_B: Tensor
    run: Callable[[], Tensor]


class DecodeGraphs:
    """The next token of each row. Captured on a GPU; elsewhere the same code runs step by step."""

    def __init__(self, model: Transformer, pool: CachePool) -> None:
        self.model, self.pool = model, pool
        self._captured: dict[tuple[int, int], _Captured] = {}

    def run(self, tokens_B1: Tensor, tables_Bn: Tensor, lengths_B: Tensor) -> Tensor:
        """States before the final norm [B, 1, D], valid until the next call."""
        num_rows, num_blocks = tables_Bn.shape
        size = (_rounded(num_rows), _rounded(num_blocks))
        if size not in self._captured:
            self._captured[size] = self._capture(tokens_B1.device, *size)
        buffers = self._captured[size]
        for buffer, values in (
            (buffers.tokens_B1, tokens_B1),
            (buffers.tables_Bn[:, :num_blocks], tables_Bn),
            (buffers.lengths_B, lengths_B),
        ):
            buffer[:num_rows] = values
            buffer[num_rows:] = values[:1]
        return buffers.run()[:num_rows]

    def _capture(self, device: torch.device, num_rows: int, num_blocks: int) -> _Captured:
        tokens_B1 = torch.zeros(num_rows, 1, dtype=torch.int64, device=device)
        tables_Bn = torch.zeros(num_rows, num_blocks, dtype=torch.int64, device=device)
        lengths_B = torch.zeros(num_rows, dtype=torch.int64, device=device)
        cache = Cache(pool=self.pool, tables_Bn=tables_Bn)

        def step() -> Tensor:
            return self.model.trunk_next(tokens_B1, cache, lengths_B)

        run = step if device.type != "cuda" else self._graph_of(step)
        return _Captured(tokens_B1=tokens_B1, tables_Bn=tables_Bn, lengths_B=lengths_B, run=run)

    def _graph_of(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Warms up and captures; what the warm-up writes over is put back."""
        # All rows of a capture stand at the first place of block 0.
        written = [self.pool.experts_nsLK, *(tensor for layer in self.pool.layers for tensor in layer)]
        kept = [tensor[0].clone() for tensor in written]
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(NUM_WARM_UP):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = step()
        for tensor, values in zip(written, kept, strict=True):
            tensor[0] = values

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


def _rounded(count: int) -> int:
    return 1 << (count - 1).bit_length()
