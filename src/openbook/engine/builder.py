"""ProgramBuilder: gathers native operations, the buffers they share and the packed weights they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from openbook.engine.matrices import MatrixSource, Packer
from openbook.kernels import operations as ops
from openbook.kernels.arena import Arena
from openbook.kernels.packed import PackedMatrix
from openbook.model.layers import RMSNorm


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """Operations ready to run. `kept` are the tensors whose addresses they hold."""

    operations: object
    num_operations: int
    kept: tuple[Tensor, ...]
    weight_bytes: int
    """What one step reads of weights, if it reads all of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """Floats from one part of a row to the next, where it is read and where it is written."""

    count: int
    rows_in: int
    rows_out: int


ONE = Steps(count=1, rows_in=0, rows_out=0)


@dataclass(kw_only=True, slots=True)
class ProgramBuilder:
    """Adds operations one by one; buffers of one name and width are one buffer, whichever layer asks."""

    packer: Packer
    max_rows: int
    _operations: list[ops.Operation] = field(default_factory=list)
    _kept: list[Tensor] = field(default_factory=list)
    _buffers: dict[str, Tensor] = field(default_factory=dict)
    _arena: Arena = field(default_factory=Arena)
    _weight_bytes: int = 0

    def build(self) -> Program:
        """What was added so far, and a fresh start behind it; the buffers stay."""
        program = Program(
            operations=ops.encode(self._operations),
            num_operations=len(self._operations),
            kept=(*self._kept, *self._buffers.values()),
            weight_bytes=self._weight_bytes,
        )
        self._operations, self._kept, self._weight_bytes = [], [], 0
        return program

    def begin_anew(self) -> None:
        """For the same model with other weights: memory is used again, and programs built before are void."""
        self._operations, self._kept, self._weight_bytes = [], [], 0
        self._arena.begin_anew()

    def buffer(self, name: str, width: int, *, rows: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
        """A buffer of `rows` rows of `width` for each row of a step."""
        key = f"{name} {rows} {width}"
        if key not in self._buffers:
            self._buffers[key] = torch.zeros(self.max_rows * rows, width, dtype=dtype)
        return self._buffers[key]

    def keep(self, tensor: Tensor) -> int:
        """The address of a tensor that lives as long as the program."""
        self._kept.append(tensor)
        return tensor.data_ptr()

    def add(self, operation: ops.Operation) -> None:
        self._operations.append(operation)

    def norm(self, module: RMSNorm, rows_in: ops.Rows, rows_out: ops.Rows, *, count: int = 1) -> None:
        """RMS norm of `count` vectors side by side."""
        weight = self.keep(module.weight.detach().float().clone())
        size = module.weight.shape[0]
        self.add(
            ops.Norm(
                rows_in=rows_in, rows_out=rows_out, size=size, count=count, weight=weight, eps=module.eps
            )
        )

    def linear(
        self,
        sources: Sequence[MatrixSource],
        rows_in: ops.Rows,
        rows_out: ops.Rows,
        *,
        add: bool = False,
        biases: Sequence[Tensor | None] = (),
    ) -> None:
        """One product with several matrices on top of each other, added to what is there if `add`."""
        bias = _stack_biases([source.shape[0] for source in sources], biases)
        self.linear_packed(self.packer.pack(sources), rows_in, rows_out, add=add, bias=bias)

    def linear_packed(
        self,
        packed: PackedMatrix,
        rows_in: ops.Rows,
        rows_out: ops.Rows,
        *,
        add: bool = False,
        bias: Tensor | None = None,
        steps: Steps = ONE,
    ) -> None:
        """A product with a packed matrix, or with `steps.count` of them, each on its own part of a row."""
        weight = self.pack(packed)
        is_stack = steps.count > 1
        self.add(
            ops.Linear(
                rows_in=rows_in,
                rows_out=rows_out,
                weight=ops.Matrix.of(weight),
                bias=None if bias is None else self.keep(bias),
                add=int(add),
                count=steps.count,
                in_step=steps.rows_in,
                out_step=steps.rows_out,
                data_bytes=ops.step_bytes(weight.data) if is_stack else 0,
                scale_bytes=ops.step_bytes(weight.scale) if is_stack else 0,
            )
        )

    def store(self, rows_in: ops.Rows, pool_nWs: Tensor) -> None:
        """Into the cache, at each row's position."""
        is_bf16 = int(pool_nWs.dtype == torch.bfloat16)
        self.add(
            ops.Store(rows_in=rows_in, width=pool_nWs.shape[1], cache=pool_nWs.data_ptr(), is_bf16=is_bf16)
        )

    def pack(self, packed: PackedMatrix) -> PackedMatrix:
        """Keeps a packed matrix, and counts what a pass over it reads."""
        self._weight_bytes += packed.num_bytes
        moved = packed.map(self._arena.copy)
        self._kept += [one for one in (moved.data, moved.scale, moved.minimum) if one is not None]
        return moved


def _stack_biases(sizes: Sequence[int], biases: Sequence[Tensor | None]) -> Tensor | None:
    """One bias behind the other, zeros where a matrix has none; None if none has one."""
    if all(bias is None for bias in biases):
        return None
    parts = [
        torch.zeros(size) if bias is None else bias.detach().float()
        for size, bias in zip(sizes, biases, strict=True)
    ]
    return torch.cat(parts)
