"""Packing loses nothing, repeats nothing, and keeps its promise about size."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from openbook.data.batch import Batch, Example
from openbook.data.packing import group_by_length, pack
from openbook.engine.types import Completion, FinishReason
from openbook.rl.batch import make_policy_batch

PAD = 0
calm = settings(max_examples=60)


@st.composite
def examples(draw: st.DrawFn) -> list[Example]:
    """Tokens above 0, so that padding is told apart, and a weight of its own for every target."""
    made = []
    for length in draw(st.lists(st.integers(2, 20), min_size=1, max_size=25)):
        ids = draw(st.lists(st.integers(1, 50), min_size=length, max_size=length))
        weights = draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=length, max_size=length))
        made.append(Example(token_ids=tuple(ids), weights=tuple(weights)))
    return made


def rows_of(batch: Batch) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Each row put together again: its tokens, and the weights of all but the first."""
    rows = []
    for tokens, targets, weights, valid in zip(
        batch.tokens_BT, batch.targets_BT, batch.weights_BT, batch.valid_BT, strict=True
    ):
        length = int(valid.sum())
        assert valid[:length].all() and not valid[length:].any()
        assert (tokens[length + 1 :] == PAD).all() and (targets[length:] == PAD).all()
        assert (weights[length:] == 0).all()
        assert targets[: length - 1].tolist() == tokens[1:length].tolist()
        rows.append(((*tokens[:length].tolist(), int(targets[length - 1])), tuple(weights[:length].tolist())))
    return rows


@calm
@given(made=examples(), tokens_per_batch=st.integers(20, 90))
def test_every_example_stands_in_exactly_one_row_with_its_weights(
    made: list[Example], tokens_per_batch: int
) -> None:
    batches = pack(made, tokens_per_batch=tokens_per_batch, pad_id=PAD)
    found = Counter(row for batch in batches for row in rows_of(batch))
    assert found == Counter((example.token_ids, example.weights[1:]) for example in made)
    assert sum(batch.num_tokens for batch in batches) == sum(len(one.token_ids) - 1 for one in made)


@calm
@given(made=examples(), tokens_per_batch=st.integers(20, 90))
def test_no_batch_is_larger_than_asked_for_with_its_padding(
    made: list[Example], tokens_per_batch: int
) -> None:
    for batch in pack(made, tokens_per_batch=tokens_per_batch, pad_id=PAD):
        assert 0 < batch.tokens_BT.numel() <= tokens_per_batch


@calm
@given(lengths=st.lists(st.integers(1, 30), max_size=40), tokens_per_batch=st.integers(30, 120))
def test_groups_are_as_full_as_they_may_be(lengths: list[int], tokens_per_batch: int) -> None:
    lengths.sort()
    groups = list(group_by_length(lengths, range(len(lengths)), tokens_per_batch))
    assert [index for group in groups for index in group] == list(range(len(lengths)))
    for group, following in pairwise(groups):
        assert len(group) * lengths[group[-1]] <= tokens_per_batch
        assert (len(group) + 1) * lengths[following[0]] > tokens_per_batch


@calm
@given(
    shapes=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=8),
    first=st.integers(1, 40),
)
def test_a_policy_batch_marks_each_completion_token_where_it_is_predicted(
    shapes: list[tuple[int, int]], first: int
) -> None:
    completions = [
        Completion(
            prompt_ids=tuple(range(first, first + num_prompt)),
            token_ids=tuple(range(100, 100 + num_completion)),
            logprobs=tuple(-0.5 * (at + 1) for at in range(num_completion)),
            finish_reason=FinishReason.STOP,
            policy_version=0,
        )
        for num_prompt, num_completion in shapes
    ]
    batch = make_policy_batch([(one, float(row)) for row, one in enumerate(completions)], pad_id=PAD)
    assert batch.advantages_B.tolist() == [float(row) for row in range(len(completions))]
    for row, one in enumerate(completions):
        marked = batch.mask_BT[row].bool()
        assert batch.targets_BT[row][marked].tolist() == list(one.token_ids)
        assert batch.sampler_logprobs_BT[row][marked].tolist() == list(one.logprobs)
        assert (batch.sampler_logprobs_BT[row][~marked] == 0).all()
        assert batch.tokens_BT[row][batch.valid_BT[row]].tolist() == [*one.prompt_ids, *one.token_ids][:-1]
        assert (batch.tokens_BT[row, len(one.prompt_ids) + len(one.token_ids) :] == PAD).all()
