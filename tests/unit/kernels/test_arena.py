"""What the arena hands out holds the same numbers, and the same memory the next time round."""

from __future__ import annotations

import torch

from openbook.kernels.arena import CHUNK_BYTES, Arena


def test_tensors_lie_side_by_side_each_at_a_line_of_the_cache() -> None:
    arena = Arena()
    given = [torch.arange(5.0), torch.arange(7, dtype=torch.int8).view(7, 1), torch.ones(3, 2).bfloat16()]
    made = [arena.copy(one) for one in given]
    for one, other in zip(given, made, strict=True):
        assert torch.equal(one, other) and one.shape == other.shape and one.dtype == other.dtype
        assert other.data_ptr() % 64 == 0
    assert made[1].data_ptr() - made[0].data_ptr() == 64


def test_memory_is_handed_out_again_in_the_same_order() -> None:
    arena = Arena()
    sizes = (10, CHUNK_BYTES // 4 + 1, 20)  # the second needs a chunk of its own
    first = [arena.copy(torch.zeros(size)).data_ptr() for size in sizes]
    arena.begin_anew()
    again = [arena.copy(torch.ones(size)) for size in sizes]
    assert [one.data_ptr() for one in again] == first
    assert all(bool((one == 1).all()) for one in again)
