from __future__ import annotations

import pytest

from openbook.data.batch import Example
from openbook.data.loader import EpochStream

EXAMPLES = [Example(token_ids=(0, number), weights=(0.0, 1.0)) for number in range(10)]


def read(stream: EpochStream, position: int, count: int) -> list[int]:
    return [example.token_ids[1] for example in stream(position, count)]


def test_every_epoch_is_a_permutation_of_the_examples_and_no_two_are_alike() -> None:
    stream = EpochStream(EXAMPLES, seed=3)
    epochs = [read(stream, 10 * epoch, 10) for epoch in range(5)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5
    assert all(epoch != list(range(10)) for epoch in epochs)


def test_the_position_alone_determines_the_example() -> None:
    straight = read(EpochStream(EXAMPLES, seed=3), 0, 50)
    stream = EpochStream(EXAMPLES, seed=3)
    assert read(stream, 37, 8) == straight[37:45]  # across the end of an epoch
    assert read(stream, 4, 3) == straight[4:7]  # and back again
    assert [read(stream, position, 1)[0] for position in range(50)] == straight


def test_the_seed_determines_the_order() -> None:
    assert read(EpochStream(EXAMPLES, seed=3), 0, 30) == read(EpochStream(EXAMPLES, seed=3), 0, 30)
    assert read(EpochStream(EXAMPLES, seed=3), 0, 30) != read(EpochStream(EXAMPLES, seed=4), 0, 30)


def test_one_example_makes_an_endless_stream_and_none_makes_none() -> None:
    assert read(EpochStream(EXAMPLES[7:8], seed=0), 5, 3) == [7, 7, 7]
    with pytest.raises(AssertionError, match="at least one"):
        EpochStream([], seed=0)
