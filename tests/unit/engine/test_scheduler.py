from __future__ import annotations

import pytest

from openbook.engine.blocks import BlockPool
from openbook.engine.plan import Chunk, SchedulerLimits, StepPlan
from openbook.engine.scheduler import Scheduler
from openbook.engine.sequence import Sequence, SequenceStatus

SIZE = 4


def make(
    num_blocks: int = 100,
    *,
    max_running: int = 8,
    room: int = 64,
    chunk: int = 64,
    fixed: bool = False,
    prefix_caching: bool = True,
) -> Scheduler:
    limits = SchedulerLimits(
        max_running=max_running, max_tokens_per_step=room, chunk_tokens=chunk, fixed_chunks=fixed
    )
    return Scheduler(BlockPool(num_blocks, SIZE, prefix_caching=prefix_caching), limits)


def sequence(id_: int, length: int, *, first: int = 0) -> Sequence:
    """A prompt of its own: no two ids share a prefix unless `first` says so."""
    return Sequence(id=id_, token_ids=[first or 1000 * (id_ + 1), *range(1, length)])


def added(scheduler: Scheduler, *lengths: int) -> list[Sequence]:
    made = [sequence(id_, length) for id_, length in enumerate(lengths)]
    for one in made:
        scheduler.add(one)
    return made


def execute(scheduler: Scheduler, plan: StepPlan, token: int = 7) -> None:
    """Accept no drafts, and give every sequence whose end was reached one token more."""
    for chunk in plan.chunks:
        scheduler.advance(chunk)
        if chunk.is_last:
            scheduler.append(chunk.sequence, [token])
    scheduler.check()


def step(scheduler: Scheduler) -> StepPlan:
    plan = scheduler.schedule()
    execute(scheduler, plan)
    return plan


def shape(plan: StepPlan) -> list[tuple[int, int, int]]:
    return [(chunk.sequence.id, chunk.start, chunk.count) for chunk in plan.chunks]


def test_a_prompt_is_computed_and_then_one_token_a_step() -> None:
    scheduler = make()
    (one,) = added(scheduler, 6)
    plan = scheduler.schedule()
    assert shape(plan) == [(0, 0, 6)] and plan.chunks[0].is_last and plan.num_tokens == 6
    assert plan.chunks[0].token_ids == [1000, 1, 2, 3, 4, 5]
    execute(scheduler, plan, token=9)
    plan = scheduler.schedule()
    assert shape(plan) == [(0, 6, 1)] and plan.chunks[0].token_ids == [9]
    execute(scheduler, plan)
    scheduler.finish(one)
    assert one.status is SequenceStatus.FINISHED and not scheduler.has_unfinished
    assert scheduler.pool.num_held == 0 and shape(scheduler.schedule()) == []


def test_a_long_prompt_is_cut_to_the_room_and_only_its_last_chunk_is_sampled() -> None:
    scheduler = make(room=10, chunk=8)
    added(scheduler, 20)
    plans = [step(scheduler) for _ in range(4)]
    assert [shape(plan) for plan in plans] == [[(0, 0, 8)], [(0, 8, 8)], [(0, 16, 4)], [(0, 20, 1)]]
    assert [plan.chunks[0].is_last for plan in plans] == [False, False, True, True]


def test_decoding_goes_before_running_prompts_and_those_before_new_ones() -> None:
    scheduler = make(room=10)
    added(scheduler, 14, 3)
    step(scheduler)
    assert shape(step(scheduler)) == [(0, 10, 4), (1, 0, 3)]
    scheduler.add(sequence(2, 12))
    scheduler.add(sequence(3, 5))
    assert shape(step(scheduler)) == [(0, 14, 1), (1, 3, 1), (2, 0, 8)]
    assert shape(step(scheduler)) == [(0, 15, 1), (1, 4, 1), (2, 8, 4), (3, 0, 4)]


def test_fixed_chunks_are_cut_where_they_are_cut_alone() -> None:
    scheduler = make(room=12, chunk=8, max_running=4, fixed=True)
    added(scheduler, 20, 11)
    plans = [step(scheduler) for _ in range(4)]
    assert [shape(plan) for plan in plans] == [
        [(0, 0, 8)],  # beside it 4 tokens have room, but no whole chunk
        [(0, 8, 8)],
        [(0, 16, 4), (1, 0, 8)],
        [(0, 20, 1), (1, 8, 3)],
    ]
    with pytest.raises(AssertionError, match="has to fit beside"):
        make(room=11, chunk=8, max_running=4, fixed=True)


def test_no_more_run_than_may_and_the_oldest_start_first() -> None:
    scheduler = make(max_running=2)
    one, two, three = added(scheduler, 3, 3, 3)
    assert shape(step(scheduler)) == [(0, 0, 3), (1, 0, 3)]
    assert (scheduler.num_running, scheduler.num_waiting) == (2, 1)
    scheduler.finish(two)
    assert shape(step(scheduler)) == [(0, 3, 1), (2, 0, 3)]
    scheduler.finish(one)
    scheduler.finish(three)
    assert not scheduler.has_unfinished


def test_a_known_prefix_is_not_computed_again() -> None:
    scheduler = make()
    first = sequence(0, 10, first=50)
    scheduler.add(first)
    step(scheduler)
    scheduler.finish(first)
    second = sequence(1, 13, first=50)
    scheduler.add(second)
    assert shape(step(scheduler)) == [(1, 8, 5)]
    assert (second.num_cached_tokens, second.num_computed_prompt_tokens) == (8, 5)
    assert (first.num_cached_tokens, first.num_computed_prompt_tokens) == (0, 10)


def test_what_was_sampled_is_a_prefix_of_the_next_turn() -> None:
    scheduler = make()
    (first,) = added(scheduler, 6)
    for _ in range(3):
        step(scheduler)
    scheduler.finish(first)
    assert len(first.token_ids) == 9
    turn = Sequence(id=1, token_ids=[*first.token_ids, 40, 41])
    scheduler.add(turn)
    assert shape(step(scheduler)) == [(1, 8, 3)]


def test_the_youngest_gives_way_and_comes_back_with_nothing_lost() -> None:
    scheduler = make(4, prefix_caching=False)
    one, two = added(scheduler, 4, 4)
    step(scheduler)  # two blocks held: both full
    assert step(scheduler).preempted == ()  # each takes a second block: the pool is full
    for _ in range(3):
        step(scheduler)
    assert len(one.token_ids) == 9
    plan = step(scheduler)
    assert plan.preempted == (two,) and shape(plan) == [(0, 8, 1)]
    assert two.status is SequenceStatus.WAITING and two.blocks == [] and two.num_computed == 0
    kept = list(two.token_ids)
    assert shape(step(scheduler)) == [(0, 9, 1)], "it needs three blocks and one is free"
    scheduler.finish(one)
    assert shape(step(scheduler)) == [(1, 0, 9)]
    assert two.token_ids[:9] == kept
    assert two.num_recomputed_tokens == 8 and two.num_computed_prompt_tokens == 4


def test_a_sequence_that_is_itself_the_youngest_gives_way() -> None:
    scheduler = make(4)
    one, two = added(scheduler, 6, 4)
    step(scheduler)  # three blocks held, one free
    scheduler.append(two, [9] * 8)
    plan = scheduler.schedule()
    assert plan.preempted == (two,) and [chunk.sequence for chunk in plan.chunks] == [one]


def test_what_gives_way_does_not_start_again_in_the_same_step() -> None:
    scheduler = make(7)
    one, two = added(scheduler, 4, 2)
    step(scheduler)
    two.draft_ids = list(range(9))
    assert step(scheduler).num_tokens == 11 and len(two.blocks) == 3, (
        "two blocks are for drafts, all rejected"
    )
    scheduler.append(one, [9] * 12)
    plan = scheduler.schedule()
    assert plan.preempted == (two,), "without the drafts it would fit again at once"
    assert shape(plan) == [(0, 5, 13)]


def test_a_preempted_sequence_starts_before_younger_ones() -> None:
    scheduler = make(4, prefix_caching=False)
    one, two = added(scheduler, 4, 4)
    for _ in range(5):
        step(scheduler)
    scheduler.add(sequence(2, 2))
    assert step(scheduler).preempted == (two,)
    assert shape(step(scheduler)) == [(0, 9, 1)], "the third would fit, but it is not its turn"
    scheduler.finish(one)
    assert shape(step(scheduler)) == [(1, 0, 9)]
    assert shape(step(scheduler)) == [(1, 9, 1)], "what is free is left for the second to grow into"


def test_a_new_sequence_leaves_each_running_one_a_block_to_grow_into() -> None:
    scheduler = make(5)
    added(scheduler, 4, 4, 8)
    assert shape(step(scheduler)) == [(0, 0, 4), (1, 0, 4)], "three are free, and the third would leave one"
    alone = make(5)
    added(alone, 20)
    assert shape(step(alone)) == [(0, 0, 20)], "with nothing running all blocks may go"


def test_forced_tokens_are_computed_like_a_prompt() -> None:
    scheduler = make()
    (one,) = added(scheduler, 3)
    step(scheduler)
    scheduler.append(one, [30, 31])
    assert shape(step(scheduler)) == [(0, 3, 3)]
    assert one.num_computed_prompt_tokens == 3


def test_accepted_drafts_stay_and_rejected_ones_are_computed_over() -> None:
    scheduler = make()
    (one,) = added(scheduler, 5)
    step(scheduler)
    one.draft_ids = [20, 21, 22]
    (chunk,) = scheduler.schedule().chunks
    assert (chunk.start, chunk.count, chunk.num_drafts, chunk.is_last) == (5, 4, 3, True)
    assert chunk.token_ids == [7, 20, 21, 22]
    scheduler.advance(chunk, 2)
    assert one.num_computed == 8
    scheduler.append(one, [20, 21, 30])
    assert one.draft_ids == []
    scheduler.check()
    assert shape(step(scheduler)) == [(0, 8, 1)]
    follower = Sequence(id=1, token_ids=[*one.token_ids[:8], 99])
    scheduler.add(follower)
    assert shape(scheduler.schedule())[1] == (1, 8, 1), "the block that accepted drafts filled is found"


def test_a_block_with_a_rejected_draft_is_not_found() -> None:
    scheduler = make()
    (one,) = added(scheduler, 5)
    step(scheduler)
    one.draft_ids = [20, 21]
    (chunk,) = scheduler.schedule().chunks
    scheduler.advance(chunk, 1)
    scheduler.append(one, [20, 30])
    follower = Sequence(id=1, token_ids=[*one.token_ids[:7], 21, 99])
    scheduler.add(follower)
    assert shape(scheduler.schedule())[1] == (1, 4, 5)


def test_other_tokens_than_the_accepted_drafts_are_refused() -> None:
    scheduler = make()
    (one,) = added(scheduler, 5)
    step(scheduler)
    one.draft_ids = [20, 21]
    scheduler.advance(scheduler.schedule().chunks[0], 2)
    with pytest.raises(AssertionError, match="another token"):
        scheduler.append(one, [20, 22, 30])


def test_drafts_take_only_room_and_blocks_that_nobody_needs() -> None:
    scheduler = make(room=6)
    one, two = added(scheduler, 3, 3)
    step(scheduler)
    one.draft_ids, two.draft_ids = [1, 2, 3], [4, 5, 6]
    assert [chunk.num_drafts for chunk in scheduler.schedule().chunks] == [3, 1]
    tight = make(3)
    one, two = added(tight, 3, 3)
    step(tight)
    step(tight)  # each has one block of 4 tokens and the fifth token at the start of a second
    one.draft_ids = [1, 2, 3, 4]
    plan = tight.schedule()
    assert plan.preempted == (two,), "tokens take the last block; drafts do not preempt"
    assert [chunk.num_drafts for chunk in plan.chunks] == [3]


def test_what_can_never_fit_is_known_beforehand() -> None:
    scheduler = make(3)
    assert scheduler.fits(12) and not scheduler.fits(13)
    with pytest.raises(AssertionError, match="never fit"):
        scheduler.add(sequence(0, 13))


def test_a_shared_block_is_never_written() -> None:
    scheduler = make()
    (one,) = added(scheduler, 5)
    step(scheduler)
    scheduler.pool.share(one.blocks[-1:])
    with pytest.raises(AssertionError, match="shared block would be written"):
        scheduler.schedule()


def test_scheduling_before_the_last_step_is_told_is_noticed() -> None:
    scheduler = make()
    (one,) = added(scheduler, 5)
    chunk: Chunk = scheduler.schedule().chunks[0]
    scheduler.advance(chunk)
    with pytest.raises(AssertionError, match="append or finish comes before schedule"):
        scheduler.schedule()
    with pytest.raises(AssertionError):
        scheduler.advance(chunk)
    scheduler.finish(one)


def test_check_notices_a_block_that_no_sequence_holds() -> None:
    scheduler = make()
    added(scheduler, 5)
    step(scheduler)
    scheduler.pool.allocate(1)
    with pytest.raises(AssertionError, match="nobody known"):
        scheduler.check()
