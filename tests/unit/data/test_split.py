from __future__ import annotations

import numpy as np
import pytest

from openbook.data.split import hash_of, split
from openbook.errors import UserError

HASHES = np.array([hash_of(str(number).encode()) for number in range(2000)], dtype=np.uint64)


def test_about_the_share_asked_for_is_held_out_by_rising_hash() -> None:
    train_N, held_out_N = split(HASHES, 0.1)
    assert sorted([*train_N, *held_out_N]) == list(range(2000))
    assert 150 < len(held_out_N) < 250
    assert (np.diff(HASHES[held_out_N].astype(object)) > 0).all()
    assert HASHES[held_out_N].max() < HASHES[train_N].min()


def test_the_same_text_is_on_the_same_side_whatever_stands_beside_it() -> None:
    held_out = set(HASHES[split(HASHES, 0.1)[1]].tolist())
    some = HASHES[::7]
    assert set(some[split(some, 0.1)[1]].tolist()) == held_out & set(some.tolist())
    twice = np.concatenate([some, some])
    train_N, held_out_N = split(twice, 0.1)
    assert not set(twice[train_N].tolist()) & set(twice[held_out_N].tolist())


def test_of_few_documents_one_is_held_out_and_of_none_none() -> None:
    few = HASHES[HASHES > 2**63][:5]
    train_N, held_out_N = split(few, 0.01)
    assert (len(train_N), held_out_N.tolist()) == (4, [int(few.argmin())])
    assert [len(part) for part in split(few, 0.0)] == [5, 0]


def test_a_split_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(UserError, match=r"all 3 documents are held out.*held_out_share = 0"):
        split(np.repeat(HASHES[:1], 3), 0.05)
