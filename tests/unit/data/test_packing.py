from __future__ import annotations

import pytest
import torch

from openbook.data.batch import Example
from openbook.data.packing import group_by_length, make_batch, pack
from openbook.errors import UserError

PAD = 9
SHORT = Example(token_ids=(1, 2, 3), weights=(0.0, 0.0, 1.0))
LONG = Example(token_ids=(4, 5, 6, 7), weights=(0.0, 0.5, 1.0, 1.0))


def test_a_batch_predicts_each_token_from_those_before_it() -> None:
    batch = make_batch([SHORT, LONG], pad_id=PAD)
    assert batch.tokens_BT.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert batch.targets_BT.tolist() == [[2, 3, PAD], [5, 6, 7]]
    assert batch.weights_BT.tolist() == [[0.0, 1.0, 0.0], [0.5, 1.0, 1.0]]
    assert batch.valid_BT.tolist() == [[True, True, False], [True, True, True]]
    assert batch.num_tokens == 5
    assert (batch.tokens_BT.dtype, batch.weights_BT.dtype) == (torch.int64, torch.float32)


def test_a_moved_batch_is_the_same_batch() -> None:
    batch = make_batch([SHORT, LONG], pad_id=PAD)
    moved = batch.to(torch.device("meta"))
    for name in ("tokens_BT", "targets_BT", "weights_BT", "valid_BT"):
        before, after = getattr(batch, name), getattr(moved, name)
        assert (after.device.type, after.shape, after.dtype) == ("meta", before.shape, before.dtype)


def test_lengths_are_cut_where_one_more_row_would_not_fit() -> None:
    lengths, order = [2, 3, 3, 4, 6], [10, 11, 12, 13, 14]
    assert list(group_by_length(lengths, order, 9)) == [[10, 11, 12], [13], [14]]
    assert list(group_by_length(lengths, order, 30)) == [[10, 11, 12, 13, 14]]
    assert list(group_by_length([], [], 9)) == []


def test_similar_lengths_share_a_batch() -> None:
    batches = pack([LONG, SHORT, LONG, SHORT], tokens_per_batch=8, pad_id=PAD)
    assert [batch.tokens_BT.tolist() for batch in batches] == [
        [[1, 2], [1, 2]],
        [[4, 5, 6], [4, 5, 6]],
    ]


def test_an_example_that_fits_no_batch_is_refused_with_both_numbers() -> None:
    with pytest.raises(UserError, match="4 tokens and a batch holds 3"):
        pack([SHORT, LONG], tokens_per_batch=3, pad_id=PAD)


def test_an_example_needs_a_weight_for_each_token_and_something_to_predict() -> None:
    with pytest.raises(AssertionError):
        Example(token_ids=(1, 2), weights=(1.0,))
    with pytest.raises(AssertionError):
        Example(token_ids=(1,), weights=(1.0,))
