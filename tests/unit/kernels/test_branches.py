from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openbook.kernels.attention import plain_attention
from openbook.kernels.branches import Branches, branch_mask, branched_attention

ROWS = st.lists(st.tuples(st.integers(1, 6), st.lists(st.integers(1, 9), max_size=4)), min_size=1, max_size=4)
"""The length of each row's trunk, and those of its branches."""


def rows_of(shape: list[tuple[int, list[int]]]) -> torch.Tensor:
    width = max(trunk + sum(own) for trunk, own in shape)
    rows = torch.full((len(shape), width), -1)
    for row, (trunk, own) in zip(rows, shape, strict=True):
        numbers = [0] * trunk + [number for number, size in enumerate(own, start=1) for _ in range(size)]
        row[: len(numbers)] = torch.tensor(numbers)
    return rows


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_branches_see_the_trunk_and_themselves() -> None:
    mask = branch_mask(torch.tensor([[0, 0, 1, 1, 2, -1]]))[0, 0].int().tolist()
    assert mask[2:5] == [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 0]]


@settings(max_examples=60, deadline=None)
@given(shape=ROWS, num_kv_heads=st.sampled_from([1, 2, 4]), v_size=st.sampled_from([8, 5]))
def test_rows_taken_apart_give_what_a_mask_gives_and_teach_the_same(
    shape: list[tuple[int, list[int]]], num_kv_heads: int, v_size: int
) -> None:
    branches = rows_of(shape)
    is_token = (branches >= 0)[:, :, None, None]
    inputs = [
        draw(*branches.shape, heads, size)
        for heads, size in ((4, 8), (num_kv_heads, 8), (num_kv_heads, v_size))
    ]
    ours, theirs = ([one.clone().requires_grad_() for one in inputs] for _ in range(2))
    out = branched_attention(*ours, Branches.of(branches), 0.3)
    swapped = plain_attention(*(one.transpose(1, 2) for one in theirs), branch_mask(branches), 0.3)
    expected = swapped.transpose(1, 2) * is_token
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    weights = draw(*out.shape)  # of padding, too: it must teach nothing
    for result in (out, expected):
        (result * weights).sum().backward()  # type: ignore[no-untyped-call]
    for one, other in zip(ours, theirs, strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_branches_are_one_bunch_without_padding(dtype: torch.dtype) -> None:
    branches = Branches.of(rows_of([(4, [5, 5]), (4, [5, 5])]))
    (bunch,) = branches.bunches
    assert bunch.pieces.places_BL.shape == (4, 5) and bunch.pieces.padding_BL is None
    q = draw(2, 14, 4, 8).to(dtype).requires_grad_()
    assert branched_attention(q, q, q, branches, 0.3).dtype == dtype


def test_a_long_branch_does_not_pad_the_short_ones() -> None:
    branches = Branches.of(rows_of([(3, [40, 2, 2, 3])]))
    assert [bunch.pieces.places_BL.shape[1] for bunch in branches.bunches] == [40, 3]
    assert bool((branches.home_RT < 3 + 40 + 9).all()), "no padding was taken for a token"
