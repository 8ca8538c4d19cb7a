"""Which tokens of which sequences the next step computes.

Prefill and decode are one thing: a sequence has tokens of which the first `num_computed` stand in the
cache, and each step computes a chunk of the rest. Chunked prefill, decode, verification of drafts and
recomputation after preemption all fall out of that.

    schedule -> (execute) -> advance each chunk -> fork leaders -> append what was sampled -> finish

A block that is shared or registered is never written: a sequence writes only behind `num_computed`,
into blocks that it alone holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as AnySequence

from openbook.engine.blocks import BlockPool
from openbook.engine.plan import Chunk, Fork, SchedulerLimits, StepPlan
from openbook.engine.running import RunningSet
from openbook.engine.sequence import Sequence, SequenceStatus
from openbook.engine.waiting import WaitingQueue


class Scheduler:
    """First come, first served over one `BlockPool`; what does not fit waits, nothing is lost.

    If a block is wanted and none is free, the youngest running sequence gives up its own and starts
    again later. So the oldest is never preempted, and there is progress as long as it fits the pool.
    """

    def __init__(self, pool: BlockPool, limits: SchedulerLimits, *, version: int = 0) -> None:
        self.pool = pool
        self.limits = limits
        self._version = version
        self._num_arrived = 0
        self._waiting = WaitingQueue()
        self._running = RunningSet(pool, limits.max_running)

    @property
    def num_running(self) -> int:
        """Sequences that hold blocks."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Sequences that hold none, those that wait for a leader included."""
        return len(self._waiting)

    @property
    def has_unfinished(self) -> bool:
        """Whether there is anything left to do."""
        return self.num_running + self.num_waiting > 0

    def fits(self, num_tokens: int) -> bool:
        """Whether the pool can hold a sequence of `num_tokens`, if need be that one alone."""
        return self.pool.blocks_for(num_tokens) <= self.pool.num_blocks

    def add(self, sequence: Sequence, leader: Sequence | None = None) -> None:
        """Queue `sequence`, with a `leader` of the same prompt until that forks, ends or is preempted.

        A leader that has come through its prompt already is not waited for.
        """
        assert sequence.status is SequenceStatus.WAITING and not sequence.blocks
        assert self.fits(len(sequence.token_ids)), "the engine refuses what can never fit"
        sequence.arrival = self._num_arrived
        self._num_arrived += 1
        if leader is None or leader.status is SequenceStatus.FINISHED or leader.has_computed_prompt:
            self._waiting.push(sequence)
        else:
            self._waiting.hold_back(sequence, leader)

    def abort(self, sequence: Sequence) -> None:
        """End `sequence` wherever it is; one that has ended already stays as it is."""
        if sequence.status is SequenceStatus.RUNNING:
            self.finish(sequence)
        elif sequence.status is SequenceStatus.WAITING:
            self._waiting.remove(sequence)
            self._waiting.let_go(sequence)
            sequence.status = SequenceStatus.FINISHED

    def finish(self, sequence: Sequence) -> None:
        """End a running `sequence`: its blocks go back, its prefix stays findable."""
        self._running.take_out(sequence, SequenceStatus.FINISHED)
        self._waiting.let_go(sequence)

    def use_weights(self, version: int, *, recompute: bool = False) -> None:
        """From now on the model has other weights; to be called between steps. Versions only rise.

        Prefixes of older versions are not found again. Running sequences go on with what they have in
        the cache, or with `recompute` compute it anew.
        """
        assert version > self._version
        self._version = version
        self.pool.forget_prefixes()
        while recompute and len(self._running) > 0:
            self._preempt(self._running.youngest)

    def schedule(self) -> StepPlan:
        """The chunks of the next step: decoding sequences, then running prompts, then new sequences."""
        preempted = self._cover_running()
        chunks = self._decode(self.limits.max_tokens_per_step)
        chunks += self._prefill(self._room_beside(chunks))
        if not preempted:
            chunks += self._admit(self._room_beside(chunks))
        assert chunks or not self.has_unfinished, "a sequence outgrew the pool"
        return StepPlan(chunks=tuple(chunks), preempted=tuple(preempted))

    def _room_beside(self, chunks: list[Chunk]) -> int:
        return self.limits.max_tokens_per_step - sum(chunk.count for chunk in chunks)

    def _cover_running(self) -> list[Sequence]:
        """Give each running sequence blocks for all its tokens, oldest first; return those preempted."""
        preempted: list[Sequence] = []
        for sequence in self._running:
            if len(sequence.token_ids) <= len(sequence.blocks) * self.pool.block_size:
                continue
            while sequence.status is SequenceStatus.RUNNING and not self._running.cover(sequence):
                preempted.append(self._preempt(self._running.youngest))
        return preempted

    def _preempt(self, sequence: Sequence) -> Sequence:
        self._running.take_out(sequence, SequenceStatus.WAITING)
        sequence.num_computed = 0
        self._waiting.push(sequence)
        self._waiting.let_go(sequence)
        return sequence

    def _decode(self, room: int) -> list[Chunk]:
        """One token for each sequence that lacks only its last; room and blocks left over go to drafts."""
        decoding = [one for one in self._running if len(one.token_ids) - one.num_computed == 1][:room]
        room -= len(decoding)
        chunks = []
        for sequence in decoding:
            num_drafts = 0
            if sequence.draft_ids:
                num_drafts = self._running.cover_drafts(sequence, min(len(sequence.draft_ids), room))
                room -= num_drafts
            chunks.append(self._chunk(sequence, 1 + num_drafts, num_drafts))
        return chunks

    def _prefill(self, room: int) -> list[Chunk]:
        chunks = []
        for sequence in self._running:
            num_remaining = len(sequence.token_ids) - sequence.num_computed
            assert num_remaining > 0, "append or finish comes before schedule"
            if num_remaining == 1:
                continue
            count = self._cut(sequence.num_computed, len(sequence.token_ids), room)
            if count > 0:
                chunks.append(self._chunk(sequence, count))
                room -= count
        return chunks

    def _admit(self, room: int) -> list[Chunk]:
        """Start waiting sequences in the order of their arrival, up to the first that does not fit."""
        chunks: list[Chunk] = []
        while room > 0 and self._running.has_room(0):
            sequence = self._waiting.next_ready()
            if sequence is None:
                break
            found = self.pool.match(sequence.token_ids, self._version)
            num_found = len(found) * self.pool.block_size
            num_new = self.pool.blocks_for(len(sequence.token_ids)) - len(found)
            count = self._cut(num_found, len(sequence.token_ids), room)
            if count == 0 or not self._running.has_room(num_new):
                self.pool.release(found)
                break
            self._waiting.remove(sequence)
            self._running.start(sequence, found + self.pool.allocate(num_new), num_found, self._version)
            chunks.append(self._chunk(sequence, count))
            room -= count
        return chunks

    def _cut(self, start: int, stop: int, room: int) -> int:
        """How many of the tokens `[start, stop)` the next chunk takes."""
        size = self.limits.chunk_tokens
        if not self.limits.fixed_chunks:
            return min(stop - start, size, room)
        count = min(stop, (start // size + 1) * size) - start
        return count if count <= room else 0

    def _chunk(self, sequence: Sequence, count: int, num_drafts: int = 0) -> Chunk:
        start, stop = sequence.num_computed, sequence.num_computed + count
        size = self.pool.block_size
        for block in sequence.blocks[start // size : (stop - 1) // size + 1]:
            assert self.pool.is_writable(block), "a shared block would be written"
        return Chunk(
            sequence=sequence,
            start=start,
            count=count,
            num_drafts=num_drafts,
            is_last=stop - num_drafts == len(sequence.token_ids),
        )

    def advance(self, chunk: Chunk, num_accepted_drafts: int = 0) -> None:
        """`chunk` has been executed, and so many of its drafts are what was sampled.

        Comes before `append`. The chunk of a sequence that was aborted meanwhile is passed over.
        """
        sequence = chunk.sequence
        if sequence.status is SequenceStatus.FINISHED:
            return
        assert sequence.status is SequenceStatus.RUNNING and sequence.num_computed == chunk.start
        assert 0 <= num_accepted_drafts <= chunk.num_drafts
        if chunk.count == 1 and sequence.num_ever_computed == chunk.start >= sequence.prompt_length:
            sequence.num_computed = sequence.num_ever_computed = chunk.start + 1  # decoding
        else:
            sequence.advance_to(chunk.start + chunk.count - chunk.num_drafts + num_accepted_drafts)
        self._register(sequence, chunk.start)

    def _register(self, sequence: Sequence, start: int) -> None:
        """Make the blocks findable that were filled from position `start` on."""
        size = self.pool.block_size
        for index in range(start // size, sequence.num_computed // size):
            self.pool.register(
                sequence.blocks[index],
                sequence.ids(index * size, (index + 1) * size),
                behind=sequence.blocks[index - 1] if index > 0 else None,
                namespace=sequence.namespace,
            )

    def decoding(self) -> list[Sequence]:
        """All that run, if each lacks its last token only and nobody could join them now; otherwise none."""
        if self.num_waiting > 0 and self._running.has_room(1):
            return []
        running = list(self._running)
        return running if all(len(one.token_ids) - one.num_computed == 1 for one in running) else []

    def cover_ahead(self, num_tokens: Mapping[int, int]) -> bool:
        """Give each running sequence blocks for so many more tokens, by its id; False if too few."""
        return self._running.cover_ahead(num_tokens)

    def decoded(self, sequence: Sequence, token_ids: AnySequence[int]) -> None:
        """`token_ids` were sampled for a running `sequence` one by one, all computed but the last."""
        assert sequence.status is SequenceStatus.RUNNING and not sequence.draft_ids
        start = sequence.num_computed
        sequence.token_ids += token_ids
        sequence.advance_to(start + len(token_ids))
        self._register(sequence, start)

    def append(self, sequence: Sequence, token_ids: AnySequence[int]) -> None:
        """Add tokens to a running `sequence`, accepted drafts first, and drop its drafts."""
        assert sequence.status is SequenceStatus.RUNNING
        if not sequence.draft_ids:
            sequence.token_ids += token_ids
            return
        num_accepted = max(0, sequence.num_computed - len(sequence.token_ids))
        for token, draft in zip(token_ids, sequence.draft_ids[:num_accepted], strict=False):
            assert token == draft, "the cache holds another token"
        sequence.token_ids += token_ids
        sequence.draft_ids.clear()

    def fork(self, leader: Sequence, siblings: AnySequence[Sequence]) -> list[Fork]:
        """Start waiting `siblings` from the cache of `leader`, whose prompt, theirs too, is computed.

        Full blocks are shared, the last one is to be copied if the prompt ends inside it: at once, before
        anything is finished or scheduled. A sibling without a place or a block is left out and waits
        like any other sequence; one that no longer waits is passed over.
        """
        assert leader.status is SequenceStatus.RUNNING and leader.num_computed >= leader.prompt_length
        num_full, num_over = divmod(leader.prompt_length, self.pool.block_size)
        shared, copied = leader.blocks[:num_full], leader.blocks[num_full:][: min(num_over, 1)]
        forks: list[Fork] = []
        for sibling in siblings:
            if sibling.status is not SequenceStatus.WAITING or not self._running.has_room(len(copied)):
                continue
            assert sibling.token_ids == leader.token_ids[: leader.prompt_length]
            self.pool.share(shared)
            own = self.pool.allocate(len(copied))
            self._waiting.remove(sibling)
            self._running.start(sibling, shared + own, leader.prompt_length, leader.namespace)
            forks.append(Fork(sequence=sibling, copies=tuple(zip(copied, own, strict=True))))
        self._waiting.let_go(leader)
        return forks

    def check(self) -> None:
        """Assert that blocks are conserved, held by running sequences only, and cover what they computed."""
        self.pool.check()
        self._running.check()
        self._waiting.check()
