from __future__ import annotations

import pytest

from openbook.engine.blocks import BlockPool

SIZE = 2


def registered(pool: BlockPool, token_ids: list[int], namespace: int = 0) -> list[int]:
    """Blocks for all full blocks of `token_ids`, held once and registered."""
    blocks = pool.allocate(len(token_ids) // SIZE)
    for index, block in enumerate(blocks):
        pool.register(
            block,
            token_ids[index * SIZE : (index + 1) * SIZE],
            behind=blocks[index - 1] if index else None,
            namespace=namespace,
        )
    pool.check()
    return blocks


def test_blocks_are_given_out_once_and_come_back() -> None:
    pool = BlockPool(4, SIZE)
    blocks = pool.allocate(3)
    assert len(set(blocks)) == 3 and pool.num_free == 1 and pool.num_held == 3
    assert pool.can_allocate(1) and not pool.can_allocate(2)
    with pytest.raises(AssertionError, match="2 blocks wanted, 1 free"):
        pool.allocate(2)
    pool.release(blocks)
    pool.check()
    assert pool.num_free == 4
    with pytest.raises(AssertionError, match="released more often than held"):
        pool.release(blocks[:1])


def test_a_part_of_a_block_takes_a_block() -> None:
    pool = BlockPool(4, 3)
    assert [pool.blocks_for(num_tokens) for num_tokens in range(8)] == [0, 1, 1, 1, 2, 2, 2, 3]


def test_a_shared_block_comes_back_with_its_last_holder() -> None:
    pool = BlockPool(2, SIZE)
    blocks = pool.allocate(1)
    pool.share(blocks)
    assert pool.num_holders(blocks[0]) == 2 and not pool.is_writable(blocks[0])
    pool.release(blocks)
    assert pool.num_free == 1 and pool.is_writable(blocks[0])
    pool.release(blocks)
    assert pool.num_free == 2 and not pool.is_writable(blocks[0])
    with pytest.raises(KeyError):
        pool.share(blocks)


def test_a_released_prefix_is_found_and_held_again() -> None:
    pool = BlockPool(4, SIZE)
    blocks = registered(pool, [1, 2, 3, 4])
    assert not any(map(pool.is_writable, blocks))
    pool.release(blocks)
    assert pool.num_free == 4
    assert pool.match([1, 2, 3, 4, 5], 0) == blocks
    assert pool.num_held == 2 and [pool.num_holders(block) for block in blocks] == [1, 1]
    assert pool.match([1, 2, 3, 9], 0) == blocks[:1]
    assert pool.num_holders(blocks[0]) == 2
    assert pool.match([3, 4, 1, 2, 5], 0) == []
    pool.check()


def test_at_least_one_token_is_left_to_compute() -> None:
    pool = BlockPool(4, SIZE)
    blocks = registered(pool, [1, 2, 3, 4])
    assert pool.match([1, 2, 3, 4], 0) == blocks[:1]
    assert pool.match([1, 2], 0) == []
    assert pool.match([1], 0) == []


def test_prefixes_of_other_weights_are_not_found() -> None:
    pool = BlockPool(4, SIZE)
    old, new = registered(pool, [1, 2], namespace=0), registered(pool, [1, 2], namespace=1)
    assert pool.match([1, 2, 3], 0) == old
    assert pool.match([1, 2, 3], 1) == new
    assert pool.match([1, 2, 3], 2) == []


def test_the_least_recently_used_prefix_is_evicted_first_and_its_end_before_its_start() -> None:
    pool = BlockPool(5, SIZE)
    first, second = registered(pool, [1, 2, 3, 4]), registered(pool, [5, 6, 7, 8])
    pool.release(first)
    pool.release(second)
    pool.release(pool.match([1, 2, 3, 4, 0], 0))  # used again: now the younger of the two
    assert pool.allocate(1)[0] not in {*first, *second}, "what is free goes before what can be found"
    assert pool.allocate(1) == [second[1]]
    assert pool.match([5, 6, 7, 8, 0], 0) == second[:1]
    pool.release(second[:1])
    assert pool.allocate(1) == [first[1]]
    pool.check()


def test_the_first_block_of_a_prefix_stays_the_one_that_is_found() -> None:
    pool = BlockPool(4, SIZE)
    first, second = registered(pool, [1, 2]), registered(pool, [1, 2])
    assert pool.match([1, 2, 3], 0) == first
    pool.release(second)
    assert pool.num_free == 3
    pool.check()
    assert pool.match([1, 2, 3], 0) == first


def test_a_second_block_takes_over_when_the_first_is_evicted() -> None:
    pool = BlockPool(3, SIZE)
    first, second = registered(pool, [1, 2]), registered(pool, [1, 2])
    pool.release(first)
    other = pool.allocate(2)
    assert first[0] in other
    pool.check()
    assert pool.match([1, 2, 3], 0) == second
    pool.release(second)
    pool.release(second)
    assert pool.match([1, 2, 3], 0) == second, "it stays findable after its release"


def test_blocks_behind_an_evicted_one_are_found_again_once_it_is_computed_anew() -> None:
    pool = BlockPool(4, SIZE)
    blocks = registered(pool, [1, 2, 3, 4])
    pool.share(blocks[1:])
    pool.release(blocks)
    pool.release(pool.allocate(3))
    pool.check()
    assert pool.match([1, 2, 3, 4, 5], 0) == []
    again = registered(pool, [1, 2])
    assert pool.match([1, 2, 3, 4, 5], 0) == [again[0], blocks[1]]


def test_a_block_behind_an_unknown_one_is_not_registered() -> None:
    pool = BlockPool(4, SIZE)
    blocks = pool.allocate(2)
    pool.register(blocks[1], [3, 4], behind=blocks[0], namespace=0)
    pool.check()
    pool.release(blocks)
    assert pool.match([1, 2, 3, 4, 5], 0) == [] and pool.match([3, 4, 5], 0) == []


def test_forgotten_prefixes_are_not_found_and_held_blocks_stay_held() -> None:
    pool = BlockPool(4, SIZE)
    held, released = registered(pool, [1, 2]), registered(pool, [3, 4])
    pool.release(released)
    pool.forget_prefixes()
    pool.check()
    assert pool.match([1, 2, 0], 0) == [] and pool.match([3, 4, 0], 0) == []
    assert pool.num_held == 1
    pool.release(held)
    pool.check()
    assert pool.num_free == 4


def test_without_prefix_caching_nothing_is_found() -> None:
    pool = BlockPool(4, SIZE, prefix_caching=False)
    blocks = registered(pool, [1, 2])
    assert pool.match([1, 2, 3], 0) == []
    assert pool.is_writable(blocks[0])
    pool.release(blocks)
    pool.check()
    assert pool.num_free == 4


def test_prefixes_with_equal_hashes_are_told_apart() -> None:
    assert hash(-1) == hash(-2), "the one collision that Python promises"
    pool = BlockPool(4, SIZE)
    registered(pool, [-1, 7])
    assert pool.match([-2, 7, 0], 0) == []


def test_check_notices_a_block_that_is_lost_or_held_twice() -> None:
    pool = BlockPool(2, SIZE)
    pool._free.pop()
    with pytest.raises(AssertionError):
        pool.check()
    pool = BlockPool(2, SIZE)
    pool._num_holders[0] = 1
    with pytest.raises(AssertionError):
        pool.check()
