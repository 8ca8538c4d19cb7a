"""Store and attend over a paged cache, and what else is done to rows: norms, turns and gates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openbook.kernels import operations as ops
from openbook.kernels.attention import plain_attention
from openbook.kernels.norm import plain_rms_norm
from openbook.kernels.rope import inverse_frequencies, rotate_adjacent, rotate_halves, rotation_table
from openbook.model.cache import BLOCK_SIZE

Draw = Callable[..., Tensor]
Run = Callable[..., None]
MakePlaces = Callable[..., Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Sizes of one attention. If `is_latent`, values are the first numbers of a key that all heads share."""

    num_heads: int
    num_kv_heads: int
    key_size: int
    value_size: int
    is_latent: bool = False

    def __str__(self) -> str:
        kind = "latent" if self.is_latent else "grouped"
        return f"{kind} {self.num_heads} over {self.num_kv_heads}"

    @property
    def key_width(self) -> int:
        return self.num_kv_heads * self.key_size

    @property
    def value_width(self) -> int:
        return self.key_width if self.is_latent else self.num_kv_heads * self.value_size


SHAPES = [
    Shape(num_heads=4, num_kv_heads=4, key_size=8, value_size=8),
    Shape(num_heads=9, num_kv_heads=3, key_size=16, value_size=16),
    Shape(num_heads=14, num_kv_heads=2, key_size=12, value_size=12),
    Shape(num_heads=5, num_kv_heads=1, key_size=7, value_size=5),
    Shape(num_heads=6, num_kv_heads=1, key_size=40, value_size=32, is_latent=True),
    Shape(num_heads=17, num_kv_heads=1, key_size=20, value_size=16, is_latent=True),
]
LENGTHS = (1, 16, 17, 35, 64, 150)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cached:
    """The pool of one layer, filled by the kernel, and the plain keys and values of each sequence."""

    places: Any
    keys_nWs: Tensor
    values_nWs: Tensor
    keys: list[Tensor]
    values: list[Tensor]


def stored(
    shape: Shape, lengths: tuple[int, ...], dtype: torch.dtype, run: Run, draw: Draw, make_places: MakePlaces
) -> Cached:
    """Whole sequences, in a pool that held NaN before: what is beyond a sequence's end must not matter."""
    places = make_places(lengths, lengths)
    num_blocks = int(places.tables.max()) + 1
    keys = [draw(length, shape.key_width) for length in lengths]
    values = [draw(length, shape.value_width) for length in lengths]
    pools = [
        torch.full((num_blocks, width, BLOCK_SIZE), torch.nan, dtype=dtype)
        for width in (shape.key_width, shape.value_width)
    ]
    if shape.is_latent:
        values = [one[:, : shape.value_size] for one in keys]
        pools[1] = pools[0]
    written = [torch.cat(keys)] if shape.is_latent else [torch.cat(keys), torch.cat(values)]
    run([store(rows, pool) for rows, pool in zip(written, pools, strict=False)], places, num_threads=2)
    rounded = [[one.to(dtype).float() for one in kind] for kind in (keys, values)]
    return Cached(places=places, keys_nWs=pools[0], values_nWs=pools[1], keys=rounded[0], values=rounded[1])


def store(rows: Tensor, pool_nWs: Tensor) -> ops.Store:
    return ops.Store(
        rows_in=ops.Rows.of(rows),
        width=pool_nWs.shape[1],
        cache=pool_nWs.data_ptr(),
        is_bf16=int(pool_nWs.dtype == torch.bfloat16),
    )


def attended(
    run: Run, shape: Shape, cached: Cached, places: Any, queries: Tensor, *, num_threads: int = 1
) -> Tensor:
    out = torch.full((len(queries), shape.num_heads * shape.value_size), 7.0)
    attend = ops.Attend(
        queries=ops.Rows.of(queries),
        rows_out=ops.Rows.of(out),
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        key_size=shape.key_size,
        value_size=shape.value_size,
        key_width=shape.key_width,
        value_width=shape.value_width,
        keys=cached.keys_nWs.data_ptr(),
        values=cached.values_nWs.data_ptr(),
        is_bf16=int(cached.keys_nWs.dtype == torch.bfloat16),
        scale=0.3,
    )
    run([attend], places, num_threads=num_threads)
    return out


def by_hand(shape: Shape, keys: Tensor, values: Tensor, queries: Tensor) -> Tensor:
    """The last positions of one sequence, as many as there are queries."""
    by_head = [
        part.view(len(part), heads, size).transpose(0, 1)[None].double()
        for part, heads, size in (
            (queries, shape.num_heads, shape.key_size),
            (keys, shape.num_kv_heads, shape.key_size),
            (values, shape.num_kv_heads, shape.value_size),
        )
    ]
    out = plain_attention(*by_head, mask=None, scale=0.3)
    return out[0].transpose(0, 1).flatten(1).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_over_the_cache_is_the_plain_one(
    shape: Shape, dtype: torch.dtype, run: Run, draw: Draw, make_places: MakePlaces
) -> None:
    cached = stored(shape, LENGTHS, dtype, run, draw, make_places)
    for counts in ((1,) * len(LENGTHS), (1, 3, 17, 2, 40, 5)):
        places = make_places(LENGTHS, counts)
        queries = draw(sum(counts), shape.num_heads * shape.key_size)
        for num_threads in (1, 3):
            found = attended(run, shape, cached, places, queries, num_threads=num_threads)
            expected = [
                by_hand(shape, *parts)
                for parts in zip(cached.keys, cached.values, queries.split(list(counts)), strict=True)
            ]
            torch.testing.assert_close(found, torch.cat(expected), atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_query_has_the_same_bits_alone_and_among_others(
    shape: Shape, run: Run, draw: Draw, make_places: MakePlaces
) -> None:
    cached = stored(shape, LENGTHS, torch.bfloat16, run, draw, make_places)
    places = make_places(LENGTHS, (1, 9, 5, 1, 20, 3))
    queries = draw(len(places.positions), shape.num_heads * shape.key_size)
    together = attended(run, shape, cached, places, queries, num_threads=2)
    for row in range(len(queries)):
        alone = type(places)(
            positions=places.positions[row : row + 1],
            sequences=places.sequences[row : row + 1],
            tables=places.tables,
        )
        for num_threads in (1, 2, 8):
            one = attended(run, shape, cached, alone, queries[row : row + 1], num_threads=num_threads)
            assert torch.equal(one[0], together[row]), (row, num_threads)


def test_a_long_context_is_averaged_without_losing_its_sum(
    run: Run, draw: Draw, make_places: MakePlaces
) -> None:
    shape = Shape(num_heads=3, num_kv_heads=1, key_size=8, value_size=8)
    cached = stored(shape, (5000,), torch.float32, run, draw, make_places)
    places = make_places((5000,), (1,))
    queries = 20 * draw(1, 24)
    found = attended(run, shape, cached, places, queries)
    expected = by_hand(shape, cached.keys[0], cached.values[0], queries)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_scores_far_apart_leave_the_weight_with_the_largest(
    run: Run, draw: Draw, make_places: MakePlaces
) -> None:
    shape = Shape(num_heads=1, num_kv_heads=1, key_size=4, value_size=4)
    cached = stored(shape, (40,), torch.float32, run, draw, make_places)
    queries = 1e4 * draw(1, 4)
    found = attended(run, shape, cached, make_places((40,), (1,)), queries)
    best = int((cached.keys[0] @ queries[0]).argmax())
    torch.testing.assert_close(found[0], cached.values[0][best])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_row_is_stored_at_its_place_and_no_other_position_is_touched(
    dtype: torch.dtype, run: Run, draw: Draw, make_places: MakePlaces
) -> None:
    places = make_places((18, 5), (2, 1))
    pool = torch.full((int(places.tables.max()) + 3, 3, BLOCK_SIZE), 7.0, dtype=dtype)
    rows = draw(3, 3)
    run([store(rows, pool)], places)
    first, second = places.tables[0, 1], places.tables[1, 0]
    assert torch.equal(pool[first, :, :2], rows[:2].T.to(dtype))
    assert (pool[first, :, 2:] == 7).all()
    assert torch.equal(pool[second, :, 4], rows[2].to(dtype))
    assert (pool[second, :, :4] == 7).all() and (pool[second, :, 5:] == 7).all()
    others = [block for block in range(len(pool)) if block not in (first, second)]
    assert (pool[others] == 7).all()


def test_what_is_rounded_to_bf16_is_rounded_as_torch_does(run: Run, make_places: MakePlaces) -> None:
    values = torch.tensor([1.00390625, 1.01171875, -3.4e38, 1e-40, torch.inf, torch.nan, 0.1, -0.0])
    pool = torch.zeros(40, 8, BLOCK_SIZE, dtype=torch.bfloat16)
    places = make_places((1,), (1,))
    run([store(values[None], pool)], places)
    found = pool[places.tables[0, 0], :, 0]
    torch.testing.assert_close(found, values.bfloat16(), equal_nan=True, atol=0, rtol=0)


@pytest.mark.parametrize("size", [1, 15, 16, 33, 96])
@pytest.mark.parametrize("count", [1, 3])
def test_the_norm_is_the_plain_one_for_each_vector_of_a_row(
    size: int, count: int, run: Run, draw: Draw
) -> None:
    rows, weight = draw(5, count * size + 2), draw(size)
    out = torch.full((5, count * size + 4), 7.0)
    norm = ops.Norm(
        rows_in=ops.Rows.of(rows, 1),
        rows_out=ops.Rows.of(out, 2),
        size=size,
        count=count,
        weight=weight.data_ptr(),
        eps=1e-5,
    )
    run([norm], 5, num_threads=2)
    expected = plain_rms_norm(rows[:, 1:-1].reshape(5, count, size), weight, 1e-5).flatten(1)
    torch.testing.assert_close(out[:, 2:-2], expected)
    assert (out[:, :2] == 7).all() and (out[:, -2:] == 7).all()


def test_a_row_of_zeros_stays_finite_under_the_norm(run: Run) -> None:
    rows, weight = torch.zeros(1, 20), torch.ones(20)
    norm = ops.Norm(
        rows_in=ops.Rows.of(rows),
        rows_out=ops.Rows.of(rows),
        size=20,
        count=1,
        weight=weight.data_ptr(),
        eps=1e-6,
    )
    run([norm], 1)
    assert (rows == 0).all()


@pytest.mark.parametrize("is_halves", [False, True], ids=["adjacent", "halves"])
def test_heads_are_turned_as_by_the_plain_rotation(
    is_halves: bool, run: Run, draw: Draw, make_places: MakePlaces
) -> None:
    passed, num_pairs, num_heads = 3, 4, 2
    table = rotation_table(inverse_frequencies(2 * num_pairs, 10000.0), 100, passed_pairs=passed)
    places = make_places((99, 4), (3, 2))
    rows = draw(5, num_heads * 10)
    out = torch.full((5, num_heads * 9), 7.0)
    pairs = torch.view_as_real(table).contiguous()
    rope = ops.Rope(
        rows_in=ops.Rows.of(rows, 1),
        rows_out=ops.Rows.of(out),
        count=num_heads,
        in_step=10,
        out_step=9,
        pairs=num_pairs,
        is_halves=int(is_halves),
        table=pairs.data_ptr(),
        table_pairs=passed + num_pairs,
        table_first=passed,
    )
    run([rope], places, num_threads=2)
    turns = table[places.positions][:, None, passed:]
    rotate = rotate_halves if is_halves else rotate_adjacent
    heads = rows.view(5, num_heads, 10)[:, :, 1:9]
    found = out.view(5, num_heads, 9)
    torch.testing.assert_close(found[:, :, :8], rotate(heads, turns))
    assert (found[:, :, 8] == 7).all()


def test_turning_in_place_is_turning(run: Run, draw: Draw, make_places: MakePlaces) -> None:
    table = rotation_table(inverse_frequencies(8, 10000.0), 50)
    places, rows = make_places((50,), (2,)), draw(2, 8)
    before, pairs = rows.clone(), torch.view_as_real(table).contiguous()
    rope = ops.Rope(
        rows_in=ops.Rows.of(rows),
        rows_out=ops.Rows.of(rows),
        count=1,
        pairs=4,
        is_halves=1,
        table=pairs.data_ptr(),
        table_pairs=4,
    )
    run([rope], places)
    torch.testing.assert_close(rows, rotate_halves(before, table[places.positions]))


@pytest.mark.parametrize("size", [1, 16, 47])
def test_the_gate_is_silu_times_what_it_gates_far_out_as_well(size: int, run: Run, draw: Draw) -> None:
    rows = 30 * draw(3, 2 * size)
    rows[0, 0], rows[1, 0] = 200.0, -200.0
    before = rows.clone()
    silu = ops.Silu(rows_in=ops.Rows.of(rows), rows_out=ops.Rows.of(rows), size=size)
    run([silu], 3, num_threads=2)
    torch.testing.assert_close(rows[:, :size], F.silu(before[:, :size]) * before[:, size:])
    assert torch.equal(rows[:, size:], before[:, size:])
