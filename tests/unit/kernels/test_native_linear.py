"""Products of rows with packed matrices: against the plain product, and bit by bit against themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from openbook.kernels import operations as ops
from openbook.kernels.packed import (
    PackedMatrix,
    pack_bf16,
    pack_fp32,
    pack_int4,
    pack_int8,
    stack_packed,
)

Draw = Callable[..., Tensor]
Run = Callable[..., None]

FORMATS = ("fp32", "bf16", "int8", "int4")
NUM_ROWS = (1, 2, 4, 5, 12, 13, 40)
SHAPES = ((1, 1), (31, 33), (32, 32), (33, 63), (130, 100), (257, 160))
"""Outputs and inputs: below, at and beyond a panel of 32, four panels at once, and K of no round size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A matrix as the kernel reads it, and the plain one that it stands for, in fp64 [N, K]."""

    packed: PackedMatrix
    plain: Tensor


def stored(kind: str, num_outputs: int, num_inputs: int, draw: Draw) -> Stored:
    if kind in ("fp32", "bf16"):
        weight = draw(num_outputs, num_inputs)
        if kind == "fp32":
            return Stored(packed=pack_fp32(weight), plain=weight.double())
        return Stored(packed=pack_bf16(weight), plain=weight.bfloat16().double())
    if kind == "int8":
        codes = (draw(num_outputs, num_inputs) * 50).round().clamp(-127, 127).to(torch.int8)
        scale = draw(num_outputs).abs() / 50
        return Stored(packed=pack_int8(codes, scale), plain=codes.double() * scale.double()[:, None])
    codes = (draw(num_outputs, num_inputs) * 4 + 8).round().clamp(0, 15).to(torch.uint8)
    scale, minimum = draw(num_outputs, num_inputs // 32).half(), draw(num_outputs, num_inputs // 32).half()
    pairs = codes[:, 0::2] | codes[:, 1::2] << 4
    per_input = [part.double().repeat_interleave(32, dim=1) for part in (scale, minimum)]
    return Stored(packed=pack_int4(pairs, scale, minimum), plain=codes.double() * per_input[0] + per_input[1])


def shapes_of(kind: str) -> list[tuple[int, int]]:
    """int4 has whole groups of 32 inputs."""
    return [(n, -(-k // 32) * 32) if kind == "int4" else (n, k) for n, k in SHAPES]


def product(rows: Tensor, matrix: Stored, kind: str) -> Tensor:
    """In fp64, of what the kernel multiplies: bf16 rounds the rows as well."""
    return (rows.bfloat16() if kind == "bf16" else rows).double() @ matrix.plain.T


def computed(
    run: Run,
    matrix: Stored,
    rows: Tensor,
    *,
    before: Tensor | None = None,
    bias: Tensor | None = None,
    exact: bool = True,
    num_threads: int = 1,
) -> Tensor:
    """The kernel's product, into the middle of wider rows whose other columns it must leave alone."""
    size = matrix.packed.num_outputs
    out = torch.full((len(rows), size + 5), 7.0)
    if before is not None:
        out[:, 2:-3] = before
    linear = ops.Linear(
        rows_in=ops.Rows.of(rows),
        rows_out=ops.Rows.of(out, 2),
        weight=ops.Matrix.of(matrix.packed),
        bias=ops.address(bias),
        add=int(before is not None),
        count=1,
    )
    run([linear], len(rows), exact=exact, num_threads=num_threads)
    assert (out[:, :2] == 7).all() and (out[:, -3:] == 7).all()
    return out[:, 2:-3].clone()


def assert_near(found: Tensor, expected: Tensor) -> None:
    scale = float(expected.abs().max()) + 1
    torch.testing.assert_close(found.double(), expected, atol=2e-6 * scale, rtol=0)


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "fast"])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_product_is_that_of_the_plain_matrix(kind: str, exact: bool, run: Run, draw: Draw) -> None:
    for num_outputs, num_inputs in shapes_of(kind):
        matrix = stored(kind, num_outputs, num_inputs, draw)
        for num_rows in NUM_ROWS:
            rows = draw(num_rows, num_inputs)
            assert_near(computed(run, matrix, rows, exact=exact), product(rows, matrix, kind))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_bias_and_what_is_there_already_are_added(kind: str, run: Run, draw: Draw) -> None:
    for num_outputs, num_inputs in shapes_of(kind):
        matrix, bias = stored(kind, num_outputs, num_inputs, draw), draw(num_outputs)
        for num_rows in NUM_ROWS:
            rows, before = draw(num_rows, num_inputs), draw(num_rows, num_outputs)
            wanted = product(rows, matrix, kind)
            for exact in (True, False):
                found = computed(run, matrix, rows, bias=bias, exact=exact)
                assert_near(found, wanted + bias)
                found = computed(run, matrix, rows, bias=bias, before=before, exact=exact)
                assert_near(found, wanted + bias + before)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_row_has_the_same_bits_whatever_else_is_in_the_step(kind: str, run: Run, draw: Draw) -> None:
    for num_outputs, num_inputs in shapes_of(kind):
        matrix, rows = stored(kind, num_outputs, num_inputs, draw), draw(40, num_inputs)
        alone = torch.cat([computed(run, matrix, row) for row in rows[:, None]])
        for num_rows in NUM_ROWS:
            for num_threads in (1, 2, 3):
                found = computed(run, matrix, rows[-num_rows:], num_threads=num_threads)
                assert torch.equal(found, alone[-num_rows:]), (num_outputs, num_inputs, num_rows)


@pytest.mark.parametrize("kind", FORMATS)
def test_threads_share_a_product_out_without_changing_it(kind: str, run: Run, draw: Draw) -> None:
    for num_outputs, num_inputs in shapes_of(kind):
        matrix = stored(kind, num_outputs, num_inputs, draw)
        for num_rows in (1, 5, 40):
            rows = draw(num_rows, num_inputs)
            one, three = (computed(run, matrix, rows, exact=False, num_threads=n) for n in (1, 3))
            assert torch.equal(one, three)


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("kind", FORMATS)
def test_each_head_has_a_matrix_and_a_part_of_the_row(
    kind: str, num_threads: int, run: Run, draw: Draw
) -> None:
    num_heads, num_outputs, num_inputs = 5, 40, 32
    heads = [stored(kind, num_outputs, num_inputs, draw) for _ in range(num_heads)]
    packed = stack_packed([head.packed for head in heads])
    for num_rows in (1, 4, 13, 40):
        rows = draw(num_rows, num_heads * (num_inputs + 3))
        out = torch.full((num_rows, num_heads * (num_outputs + 1)), 7.0)
        linear = ops.Linear(
            rows_in=ops.Rows.of(rows, 1),
            rows_out=ops.Rows.of(out),
            weight=ops.Matrix.of(packed),
            count=num_heads,
            in_step=num_inputs + 3,
            out_step=num_outputs + 1,
            data_bytes=ops.step_bytes(packed.data),
            scale_bytes=ops.step_bytes(packed.scale),
        )
        run([linear], num_rows, num_threads=num_threads)
        parts = out.view(num_rows, num_heads, num_outputs + 1)
        assert (parts[:, :, -1] == 7).all()
        for number, head in enumerate(heads):
            own = rows.view(num_rows, num_heads, -1)[:, number, 1 : 1 + num_inputs]
            assert_near(parts[:, number, :-1], product(own, head, kind))


def test_packing_counts_what_a_pass_reads(draw: Draw) -> None:
    weight = draw(40, 64)
    assert pack_fp32(weight).num_bytes == 2 * 32 * 64 * 4, "two panels, the second padded"
    assert pack_bf16(weight[:, :50]).num_bytes == 2 * 32 * 64 * 2, "inputs padded to whole groups"
    codes = torch.zeros(40, 64, dtype=torch.int8)
    assert pack_int8(codes, torch.ones(40)).num_bytes == 64 * 64 + 64 * 4
    pairs, scale = torch.zeros(40, 32, dtype=torch.uint8), torch.ones(40, 2)
    assert pack_int4(pairs, scale, scale).num_bytes == 64 * 32 + 2 * 64 * 2 * 2


def test_an_int4_matrix_has_whole_groups_of_inputs() -> None:
    with pytest.raises(AssertionError, match="48"):
        pack_int4(torch.zeros(4, 24, dtype=torch.uint8), torch.ones(4, 1), torch.ones(4, 1))


def test_no_rows_are_no_work(run: Run, draw: Draw) -> None:
    matrix = stored("fp32", 4, 4, draw)
    assert computed(run, matrix, torch.zeros(0, 4)).shape == (0, 4)
