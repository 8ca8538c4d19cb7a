"""Sequences that hold blocks, and when there is room for one more."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping

from openbook.engine.blocks import BlockPool
from openbook.engine.sequence import Sequence, SequenceStatus


class RunningSet:
    """At most `max_running` sequences by arrival, each with blocks for all its tokens from its start on."""

    def __init__(self, pool: BlockPool, max_running: int) -> None:
        self._pool = pool
        self._max_running = max_running
        self._members: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Sequence]:
        """Oldest first, as they are now: the loop may take members out."""
        return iter(tuple(self._members))

    @property
    def youngest(self) -> Sequence:
        """The one that arrived last."""
        return self._members[-1]

    def has_room(self, num_new_blocks: int) -> bool:
        """Whether a sequence that needs `num_new_blocks` may start."""
        return len(self) < self._max_running and self._can_spare(num_new_blocks)

    def _can_spare(self, num_blocks: int) -> bool:
        """Whether, without `num_blocks`, one block stays free for each running sequence to grow into.

        What starts above this watermark is not preempted before its neighbours have computed a block each.
        """
        return self._pool.can_allocate(num_blocks + len(self))

    def start(self, sequence: Sequence, blocks: list[int], num_cached: int, namespace: int) -> None:
        """Let `sequence` hold `blocks`, which are counted for it already."""
        sequence.start_from(blocks, num_cached)
        sequence.namespace = namespace
        sequence.status = SequenceStatus.RUNNING
        insort(self._members, sequence, key=lambda member: member.arrival)

    def take_out(self, sequence: Sequence, status: SequenceStatus) -> None:
        """Give back the blocks of `sequence`, which leaves with `status`."""
        assert sequence.status is SequenceStatus.RUNNING
        self._members.remove(sequence)
        self._pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.status = status

    def cover(self, sequence: Sequence) -> bool:
        """Give `sequence` blocks for all its tokens; False if there are too few."""
        missing = self._pool.blocks_for(len(sequence.token_ids)) - len(sequence.blocks)
        if not self._pool.can_allocate(missing):
            return False
        sequence.blocks += self._pool.allocate(max(missing, 0))
        return True

    def cover_ahead(self, num_tokens: Mapping[int, int]) -> bool:
        """Give each member blocks for so many more tokens, by its id; False if there are too few."""
        wanted = {
            one.id: self._pool.blocks_for(len(one.token_ids) + num_tokens[one.id]) - len(one.blocks)
            for one in self._members
        }
        if not self._can_spare(sum(max(0, count) for count in wanted.values())):
            return False
        for one in self._members:
            if wanted[one.id] > 0:
                one.blocks += self._pool.allocate(wanted[one.id])
        return True

    def cover_drafts(self, sequence: Sequence, wanted: int) -> int:
        """How many of `wanted` drafts have a place; blocks above the watermark may go to them."""
        num_tokens = len(sequence.token_ids)
        missing = self._pool.blocks_for(num_tokens + wanted) - len(sequence.blocks)
        if missing > 0 and self._can_spare(missing):
            sequence.blocks += self._pool.allocate(missing)
        return min(wanted, len(sequence.blocks) * self._pool.block_size - num_tokens)

    def check(self) -> None:
        """Assert that members hold what they need, share only full blocks, and that nobody else holds any."""
        assert len(self) <= self._max_running
        assert self._members == sorted(self._members, key=lambda member: member.arrival)
        size = self._pool.block_size
        holders: Counter[int] = Counter()
        place_of_shared: dict[int, int] = {}
        for sequence in self._members:
            assert sequence.status is SequenceStatus.RUNNING
            assert len(sequence.blocks) * size >= sequence.num_computed
            holders.update(sequence.blocks)
            for place, block in enumerate(sequence.blocks):
                if self._pool.num_holders(block) > 1:
                    assert (place + 1) * size <= sequence.num_computed, "a shared block is not full"
                    assert place_of_shared.setdefault(block, place) == place
        for block in range(self._pool.num_blocks):
            assert holders[block] == self._pool.num_holders(block), "a block is held by nobody known"
