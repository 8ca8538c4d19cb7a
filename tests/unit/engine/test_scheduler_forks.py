"""Forks of a leader, aborts, and new weights: how one sequence's end or start touches others."""

from __future__ import annotations

import pytest

from openbook.engine.blocks import BlockPool
from openbook.engine.plan import SchedulerLimits, StepPlan
from openbook.engine.scheduler import Scheduler
from openbook.engine.sequence import Sequence, SequenceStatus

SIZE = 4


def make(
    num_blocks: int = 100,
    *,
    max_running: int = 8,
    room: int = 64,
    chunk: int = 64,
    prefix_caching: bool = True,
) -> Scheduler:
    limits = SchedulerLimits(max_running=max_running, max_tokens_per_step=room, chunk_tokens=chunk)
    return Scheduler(BlockPool(num_blocks, SIZE, prefix_caching=prefix_caching), limits)


def sequence(id_: int, length: int, *, first: int = 50) -> Sequence:
    """Two with the same `first` token share the prompt of the shorter one."""
    return Sequence(id=id_, token_ids=[first, *range(1, length)])


def group(scheduler: Scheduler, num_samples: int, length: int) -> tuple[Sequence, list[Sequence]]:
    """A leader and those that wait for it, all with one prompt."""
    leader, *siblings = [sequence(id_, length) for id_ in range(num_samples)]
    scheduler.add(leader)
    for sibling in siblings:
        scheduler.add(sibling, leader=leader)
    return leader, siblings


def step(scheduler: Scheduler) -> list[tuple[int, int, int]]:
    """Run a step in which every sequence whose end is reached gets a token more."""
    plan = scheduler.schedule()
    for chunk in plan.chunks:
        scheduler.advance(chunk)
        if chunk.is_last:
            scheduler.append(chunk.sequence, [7])
    scheduler.check()
    return shape(plan)


def shape(plan: StepPlan) -> list[tuple[int, int, int]]:
    return [(chunk.sequence.id, chunk.start, chunk.count) for chunk in plan.chunks]


def test_siblings_share_full_blocks_and_copy_the_last() -> None:
    scheduler = make()
    leader, siblings = group(scheduler, 3, 6)
    plan = scheduler.schedule()
    assert shape(plan) == [(0, 0, 6)] and scheduler.num_waiting == 2
    scheduler.advance(plan.chunks[0])
    forks = scheduler.fork(leader, siblings)
    assert [fork.sequence for fork in forks] == siblings
    for fork, sibling in zip(forks, siblings, strict=True):
        assert sibling.status is SequenceStatus.RUNNING and sibling.num_cached_tokens == 6
        assert sibling.blocks[0] == leader.blocks[0]
        assert fork.copies == ((leader.blocks[1], sibling.blocks[1]),)
    assert len({leader.blocks[1], *(sibling.blocks[1] for sibling in siblings)}) == 3
    for one in (leader, *siblings):
        scheduler.append(one, [9 + one.id])
    scheduler.check()
    assert step(scheduler) == [(0, 6, 1), (1, 6, 1), (2, 6, 1)]


def test_a_prompt_that_ends_with_a_block_needs_no_copy() -> None:
    scheduler = make(prefix_caching=False)
    leader, (sibling,) = group(scheduler, 2, 8)
    scheduler.advance(scheduler.schedule().chunks[0])
    (fork,) = scheduler.fork(leader, [sibling])
    assert fork.copies == () and sibling.blocks == leader.blocks
    scheduler.append(leader, [1])
    scheduler.append(sibling, [2])
    step(scheduler)
    assert sibling.blocks[:2] == leader.blocks[:2] and sibling.blocks[2] != leader.blocks[2]


def test_a_sibling_without_a_place_waits_and_finds_the_prefix_later() -> None:
    scheduler = make(max_running=2)
    leader, siblings = group(scheduler, 3, 6)
    scheduler.advance(scheduler.schedule().chunks[0])
    (fork,) = scheduler.fork(leader, siblings)
    assert fork.sequence is siblings[0] and siblings[1].status is SequenceStatus.WAITING
    scheduler.append(leader, [1])
    scheduler.append(siblings[0], [2])
    scheduler.finish(siblings[0])
    assert step(scheduler) == [(0, 6, 1), (2, 4, 2)]
    assert siblings[1].num_cached_tokens == 4


def test_no_fork_takes_the_blocks_that_running_ones_grow_into() -> None:
    scheduler = make(4)
    leader, siblings = group(scheduler, 3, 6)
    scheduler.advance(scheduler.schedule().chunks[0])
    assert [fork.sequence for fork in scheduler.fork(leader, siblings)] == siblings[:1]
    scheduler.check()


@pytest.mark.parametrize("computed", [False, True])
def test_siblings_of_an_aborted_leader_go_on_by_themselves(computed: bool) -> None:
    scheduler = make()
    leader, (sibling,) = group(scheduler, 2, 6)
    if computed:
        step(scheduler)
        assert step(scheduler) == [(0, 6, 1)], "the sibling waits for the fork"
    scheduler.abort(leader)
    assert step(scheduler) == [(1, 4, 2) if computed else (1, 0, 6)]
    scheduler.abort(sibling)
    scheduler.abort(sibling)
    assert not scheduler.has_unfinished and scheduler.pool.num_held == 0


def test_siblings_of_a_preempted_leader_go_on_by_themselves() -> None:
    scheduler = make(chunk=8)
    leader, _ = group(scheduler, 2, 12)
    scheduler.add(sequence(2, 4, first=60))
    assert step(scheduler) == [(0, 0, 8), (2, 0, 4)]
    scheduler.use_weights(1, recompute=True)
    assert leader.status is SequenceStatus.WAITING and leader.num_computed == 0
    assert step(scheduler) == [(0, 0, 8), (1, 0, 8), (2, 0, 5)]


def test_nobody_waits_for_a_leader_that_is_through_its_prompt_or_ended() -> None:
    scheduler = make()
    leader = sequence(0, 6)
    scheduler.add(leader)
    step(scheduler)
    late = sequence(1, 6)
    scheduler.add(late, leader=leader)
    assert step(scheduler) == [(0, 6, 1), (1, 4, 2)]
    gone = sequence(2, 6)
    scheduler.add(gone)
    scheduler.abort(gone)
    after = sequence(3, 6, first=3000)
    scheduler.add(after, leader=gone)
    assert step(scheduler)[2] == (3, 0, 6)


def test_an_aborted_sibling_is_passed_over_by_the_fork() -> None:
    scheduler = make()
    leader, siblings = group(scheduler, 3, 6)
    plan = scheduler.schedule()
    scheduler.abort(siblings[0])
    scheduler.advance(plan.chunks[0])
    assert [fork.sequence for fork in scheduler.fork(leader, siblings)] == siblings[1:]
    scheduler.check()


def test_an_abort_between_plan_and_advance_leaves_nothing_behind() -> None:
    scheduler = make()
    one, two = sequence(0, 6), sequence(1, 6)
    scheduler.add(one)
    scheduler.add(two)
    plan = scheduler.schedule()
    scheduler.abort(one)
    for chunk in plan.chunks:
        scheduler.advance(chunk)
    scheduler.check()
    assert one.num_computed_prompt_tokens == 0 and two.num_computed == 6
    with pytest.raises(AssertionError):
        scheduler.append(one, [1])
    scheduler.abort(two)
    assert scheduler.pool.num_held == 0 and not scheduler.has_unfinished


def test_new_weights_find_nothing_that_old_ones_computed() -> None:
    scheduler = make()
    first, second, third = [sequence(id_, 10) for id_ in range(3)]
    scheduler.add(first)
    scheduler.advance(scheduler.schedule().chunks[0])
    scheduler.append(first, [7])
    scheduler.use_weights(1)
    scheduler.add(second)
    assert step(scheduler) == [(0, 10, 1), (1, 0, 10)], "the running one goes on"
    scheduler.add(third)
    assert step(scheduler)[2] == (2, 8, 2), "prefixes of the new weights are found"
    assert scheduler.pool.match(first.token_ids, 0) == [], "nor do they stand in the way of anything"
    with pytest.raises(AssertionError):
        scheduler.use_weights(1)


def test_a_block_begun_with_old_weights_is_not_found_by_new_ones() -> None:
    scheduler = make()
    first = Sequence(id=0, token_ids=[50, 51, 52])
    scheduler.add(first)
    step(scheduler)
    scheduler.use_weights(1)
    step(scheduler)  # the fourth token fills the block
    second = Sequence(id=1, token_ids=[50, 51, 52, 7, 8])
    scheduler.add(second)
    assert shape(scheduler.schedule())[1] == (1, 0, 5)


def test_a_block_begun_with_old_weights_and_forked_is_not_found_by_new_ones() -> None:
    scheduler = make(room=2)
    leader, sibling = [Sequence(id=id_, token_ids=[50, 51, 52]) for id_ in range(2)]
    scheduler.add(leader)
    scheduler.add(sibling, leader=leader)
    step(scheduler)
    scheduler.use_weights(1)
    scheduler.advance(scheduler.schedule().chunks[0])
    assert len(scheduler.fork(leader, [sibling])) == 1
    scheduler.append(leader, [8])
    scheduler.append(sibling, [7])
    step(scheduler)
    scheduler.finish(leader)
    third = Sequence(id=2, token_ids=[50, 51, 52, 7, 8])
    scheduler.add(third)
    assert shape(scheduler.schedule())[1] == (2, 0, 1)


def test_new_weights_can_have_everything_computed_anew() -> None:
    scheduler = make()
    one, two = sequence(0, 10), sequence(1, 3)
    scheduler.add(one)
    scheduler.add(two)
    step(scheduler)
    scheduler.use_weights(1, recompute=True)
    scheduler.check()
    assert step(scheduler) == [(0, 0, 11), (1, 0, 4)]
    assert (one.num_recomputed_tokens, two.num_recomputed_tokens) == (10, 3)
