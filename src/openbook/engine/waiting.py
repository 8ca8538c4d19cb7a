"""Sequences that hold no blocks: those that may start, and those that wait for their leader's prompt."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from openbook.engine.sequence import Sequence, SequenceStatus


class WaitingQueue:
    """Waiting sequences, oldest arrival first; a preempted one comes back to its old place.

    Samples of one prompt are held back behind a leader, which computes the prompt for all of them.
    """

    def __init__(self) -> None:
        self._ready: list[Sequence] = []
        self._behind: dict[int, list[Sequence]] = {}

    def __len__(self) -> int:
        return len(self._ready) + sum(map(len, self._behind.values()))

    def __iter__(self) -> Iterator[Sequence]:
        yield from self._ready
        for siblings in self._behind.values():
            yield from siblings

    def next_ready(self) -> Sequence | None:
        """The oldest sequence that may start."""
        return self._ready[0] if self._ready else None

    def push(self, sequence: Sequence) -> None:
        """Let `sequence` wait for nothing but a place."""
        insort(self._ready, sequence, key=_arrival)

    def hold_back(self, sequence: Sequence, leader: Sequence) -> None:
        """Let `sequence` wait until `let_go(leader)`."""
        self._behind.setdefault(leader.id, []).append(sequence)

    def let_go(self, leader: Sequence) -> None:
        """Sequences that waited for `leader` wait for nothing but a place."""
        for sequence in self._behind.pop(leader.id, ()):
            self.push(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take out `sequence`, which is here."""
        index = bisect_left(self._ready, sequence.arrival, key=_arrival)
        if index < len(self._ready) and self._ready[index] is sequence:
            del self._ready[index]
            return
        leader_id = next(id_ for id_, siblings in self._behind.items() if sequence in siblings)
        self._behind[leader_id].remove(sequence)
        if not self._behind[leader_id]:
            del self._behind[leader_id]

    def check(self) -> None:
        """Assert the order by arrival, and that nothing here has a part in the cache."""
        arrivals = [sequence.arrival for sequence in self._ready]
        assert arrivals == sorted(set(arrivals))
        assert all(self._behind.values())
        for sequence in self:
            assert sequence.status is SequenceStatus.WAITING
            assert not sequence.blocks and sequence.num_computed == 0


def _arrival(sequence: Sequence) -> int:
    return sequence.arrival
