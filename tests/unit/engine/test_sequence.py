from __future__ import annotations

import pytest

from openbook.engine.sequence import Sequence, SequenceStatus


def test_a_new_sequence_waits_with_everything_to_compute() -> None:
    prompt = [5, 6, 7]
    sequence = Sequence(id=3, token_ids=prompt)
    assert sequence.status is SequenceStatus.WAITING
    assert sequence.prompt_length == 3 and sequence.num_remaining == 3
    assert sequence.token_ids is not prompt, "it grows, the caller's list does not"
    with pytest.raises(AssertionError, match="at least one token"):
        Sequence(id=4, token_ids=[])


def test_drafts_stand_behind_the_tokens() -> None:
    sequence = Sequence(id=0, token_ids=[1, 2, 3])
    sequence.draft_ids = [4, 5]
    assert sequence.ids(0, 5) == [1, 2, 3, 4, 5]
    assert sequence.ids(2, 4) == [3, 4]
    assert sequence.ids(3, 5) == [4, 5] and sequence.ids(4, 5) == [5]
    assert sequence.ids(0, 2) == [1, 2]


def test_found_and_computed_tokens_of_the_prompt_add_up_to_it() -> None:
    sequence = Sequence(id=0, token_ids=[0] * 10)
    sequence.start_from([7, 8], 4)
    sequence.advance_to(7)
    assert not sequence.has_computed_prompt
    sequence.advance_to(10)
    assert sequence.has_computed_prompt
    assert (sequence.num_cached_tokens, sequence.num_computed_prompt_tokens) == (4, 6)
    sequence.token_ids.append(1)
    sequence.advance_to(11)
    assert (sequence.num_computed_prompt_tokens, sequence.num_recomputed_tokens) == (6, 0)


def test_tokens_that_were_in_the_cache_before_count_as_recomputed_or_not_at_all() -> None:
    sequence = Sequence(id=0, token_ids=[0] * 8)
    sequence.advance_to(6)
    sequence.num_computed = 0
    sequence.start_from([1], 2)
    assert sequence.num_cached_tokens == 0, "its own block, found again, is nothing saved"
    sequence.advance_to(8)
    assert sequence.num_recomputed_tokens == 4
    assert sequence.num_computed_prompt_tokens == 8


def test_a_prefix_that_others_computed_meanwhile_counts_as_found() -> None:
    sequence = Sequence(id=0, token_ids=[0] * 8)
    sequence.advance_to(3)
    sequence.num_computed = 0
    sequence.start_from([1, 2, 3], 6)
    sequence.advance_to(8)
    assert sequence.num_cached_tokens + sequence.num_computed_prompt_tokens == 8
    assert (sequence.num_cached_tokens, sequence.num_recomputed_tokens) == (3, 0)
