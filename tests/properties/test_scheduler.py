"""Whatever arrives, forks, is aborted or preempted: blocks are conserved, and the cache tells the truth.

The executor here is a model of one: what it writes for a token is the whole prefix that ends there, for
keys and values are functions of that, and the versions of the weights that had a part in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from openbook.engine.blocks import BlockPool
from openbook.engine.plan import Chunk, SchedulerLimits, StepPlan
from openbook.engine.scheduler import Scheduler
from openbook.engine.sequence import Sequence, SequenceStatus

MOST_STEPS_TO_THE_END = 3000


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """What stands in the cache for one token."""

    prefix: tuple[int, ...]
    versions: frozenset[int]


@dataclass(kw_only=True, slots=True, eq=False)
class Request:
    """A sequence, what its tokens have to be, and its own count of what was computed for it."""

    sequence: Sequence
    siblings: list[Sequence]
    token_ids: list[int]
    length: int
    is_known: bool = False
    seen: set[int] = field(default_factory=set)
    num_prompt: int = 0
    num_again: int = 0


class Engine(RuleBasedStateMachine):
    """Random traffic on a small pool, with two token ids so that prefixes meet often."""

    @initialize(
        num_blocks=st.integers(3, 14),
        block_size=st.integers(1, 4),
        max_running=st.integers(1, 6),
        room=st.integers(1, 12),
        chunk=st.integers(1, 8),
        fixed=st.booleans(),
        prefix_caching=st.booleans(),
    )
    def begin(
        self,
        num_blocks: int,
        block_size: int,
        max_running: int,
        room: int,
        chunk: int,
        fixed: bool,
        prefix_caching: bool,
    ) -> None:
        self.pool = BlockPool(num_blocks, block_size, prefix_caching=prefix_caching)
        limits = SchedulerLimits(
            max_running=max_running,
            max_tokens_per_step=room + chunk + max_running if fixed else room,
            chunk_tokens=chunk,
            fixed_chunks=fixed,
        )
        self.scheduler = Scheduler(self.pool, limits)
        self.memory: dict[tuple[int, int], Slot] = {}
        self.version = 0
        self.num_requests = 0
        self.requests: dict[int, Request] = {}

    @rule(
        prompt=st.lists(st.integers(0, 1), min_size=1, max_size=12),
        num_new=st.integers(1, 10),
        num_samples=st.integers(1, 4),
    )
    def arrive(self, prompt: list[int], num_new: int, num_samples: int) -> None:
        num_tokens = self.pool.num_blocks * self.pool.block_size
        prompt = prompt[: num_tokens - 1] or [0]
        length = min(len(prompt) + num_new, num_tokens)
        if length == len(prompt):
            return
        assert self.scheduler.fits(length)
        group = [Sequence(id=self.num_requests + index, token_ids=prompt) for index in range(num_samples)]
        self.num_requests += num_samples
        for sequence in group:
            siblings = group[1:] if sequence is group[0] else []
            self.requests[sequence.id] = Request(
                sequence=sequence, siblings=siblings, token_ids=list(prompt), length=length
            )
            self.scheduler.add(sequence, leader=None if sequence is group[0] else group[0])

    @precondition(lambda self: self.requests)
    @rule(random=st.randoms(use_true_random=False))
    def abort(self, random: Random) -> None:
        self.end(random.choice(list(self.requests.values())).sequence, abort=True)

    @precondition(lambda self: self.requests)
    @rule(recompute=st.booleans())
    def publish(self, recompute: bool) -> None:
        self.version += 1
        self.scheduler.use_weights(self.version, recompute=recompute)
        for request in self.requests.values():
            request.is_known = request.sequence.status is SequenceStatus.RUNNING

    @precondition(lambda self: self.requests)
    @rule(random=st.randoms(use_true_random=False), aborts=st.booleans())
    def step(self, random: Random, aborts: bool) -> None:
        plan = self.scheduler.schedule()
        self.judge(plan)
        self.execute(plan)
        if aborts:
            self.abort(random)
        for chunk in plan.chunks:
            self.take_in(chunk, random)

    def judge(self, plan: StepPlan) -> None:
        """The plan keeps the limits, makes progress, and preempts none older than one it lets run."""
        assert plan.chunks
        assert plan.num_tokens <= self.scheduler.limits.max_tokens_per_step
        assert len({chunk.sequence.id for chunk in plan.chunks}) == len(plan.chunks)
        for chunk in plan.chunks:
            assert chunk.count - chunk.num_drafts > 0
            assert all(chunk.sequence.arrival < victim.arrival for victim in plan.preempted)
            if self.scheduler.limits.fixed_chunks and not chunk.is_last:
                assert (chunk.start + chunk.count) % self.scheduler.limits.chunk_tokens == 0
        for victim in plan.preempted:
            self.requests[victim.id].is_known = False

    def execute(self, plan: StepPlan) -> None:
        """Write each chunk's tokens into the cache, after reading all that stands before them."""
        live = {place for one in self.running() for place in self.places(one, 0, one.num_computed)}
        for chunk in plan.chunks:
            sequence, request = chunk.sequence, self.requests[chunk.sequence.id]
            assert sequence.token_ids == request.token_ids, "nothing is lost"
            self.read_back(sequence, chunk.start)
            if not request.is_known:
                self.meet(request, chunk.start)
            versions = self.versions_before(sequence, chunk.start) | {self.version}
            prefix = tuple(request.token_ids[: chunk.start])
            for place, token in zip(
                self.places(sequence, chunk.start, chunk.start + chunk.count), chunk.token_ids, strict=True
            ):
                assert place not in live, "what somebody computed is written over"
                live.add(place)
                prefix = (*prefix, token)
                self.memory[place] = Slot(prefix=prefix, versions=versions)

    def meet(self, request: Request, num_found: int) -> None:
        """A sequence starts, perhaps again: what it found was made by the present weights alone."""
        assert num_found < len(request.token_ids)
        assert self.versions_before(request.sequence, num_found) <= {self.version}
        request.seen.update(range(num_found))
        request.is_known = True

    def take_in(self, chunk: Chunk, random: Random) -> None:
        """Accept some drafts, fork, sample, and sometimes force a token or guess at the next ones."""
        sequence, request = chunk.sequence, self.requests.get(chunk.sequence.id)
        num_accepted = random.randint(0, chunk.num_drafts)
        accepted = sequence.draft_ids[:num_accepted]
        self.scheduler.advance(chunk, num_accepted)
        if request is None:
            return
        self.count(request, chunk, num_accepted)
        if not chunk.is_last:
            return
        if request.siblings and sequence.num_computed == sequence.prompt_length:
            for fork in self.scheduler.fork(sequence, request.siblings):
                for source, target in fork.copies:
                    for offset in range(self.pool.block_size):
                        if (source, offset) in self.memory:
                            self.memory[target, offset] = self.memory[source, offset]
                sibling = self.requests[fork.sequence.id]
                sibling.is_known = True
                sibling.seen.update(range(sequence.prompt_length))
                self.read_back(sibling.sequence, sequence.prompt_length)
                self.sample(sibling, [], random)
            request.siblings = []
        self.sample(request, accepted, random)

    def count(self, request: Request, chunk: Chunk, num_accepted: int) -> None:
        for position in range(chunk.start, chunk.start + chunk.count - chunk.num_drafts + num_accepted):
            if position in request.seen:
                request.num_again += 1
            elif position < request.sequence.prompt_length:
                request.num_prompt += 1
            request.seen.add(position)
        assert request.sequence.num_computed_prompt_tokens == request.num_prompt
        assert request.sequence.num_recomputed_tokens == request.num_again

    def sample(self, request: Request, accepted: list[int], random: Random) -> None:
        sequence = request.sequence
        assert sequence.num_cached_tokens + sequence.num_computed_prompt_tokens == sequence.prompt_length
        sampled = [*accepted, *(random.randint(0, 1) for _ in range(random.choice([1, 1, 1, 3])))]
        sampled = sampled[: request.length - len(request.token_ids)]
        self.scheduler.append(sequence, sampled)
        request.token_ids += sampled
        if len(request.token_ids) == request.length:
            self.end(sequence, abort=False)
        elif random.randint(0, 1):
            sequence.draft_ids = [random.randint(0, 1) for _ in range(random.randint(0, 5))]

    def end(self, sequence: Sequence, *, abort: bool) -> None:
        if abort:
            self.scheduler.abort(sequence)
        else:
            self.scheduler.finish(sequence)
        del self.requests[sequence.id]
        assert sequence.status is SequenceStatus.FINISHED and not sequence.blocks

    def running(self) -> list[Sequence]:
        every = (request.sequence for request in self.requests.values())
        return [sequence for sequence in every if sequence.status is SequenceStatus.RUNNING]

    def places(self, sequence: Sequence, start: int, stop: int) -> list[tuple[int, int]]:
        size = self.pool.block_size
        return [(sequence.blocks[at // size], at % size) for at in range(start, stop)]

    def versions_before(self, sequence: Sequence, start: int) -> frozenset[int]:
        last = self.places(sequence, max(start - 1, 0), start)
        return self.memory[last[0]].versions if last else frozenset()

    def read_back(self, sequence: Sequence, stop: int) -> None:
        token_ids = self.requests[sequence.id].token_ids
        for at, place in enumerate(self.places(sequence, 0, stop)):
            assert self.memory[place].prefix == tuple(token_ids[: at + 1]), "the cache is another's"

    @invariant()
    def blocks_are_conserved(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        self.scheduler.check()
        assert self.scheduler.num_running == len(self.running())
        assert self.scheduler.num_running + self.scheduler.num_waiting == len(self.requests)
        for sequence in self.running():
            self.read_back(sequence, sequence.num_computed)

    def teardown(self) -> None:
        """Everything comes to its end, and nothing is left behind."""
        if not hasattr(self, "scheduler"):
            return
        random = Random(0)
        for _ in range(MOST_STEPS_TO_THE_END):
            if not self.scheduler.has_unfinished:
                break
            self.step(random, aborts=False)
            self.blocks_are_conserved()
        assert not self.requests and not self.scheduler.has_unfinished
        assert self.pool.num_held == 0 and self.pool.num_free == self.pool.num_blocks


TestEngine = Engine.TestCase
TestEngine.settings = settings(max_examples=100, stateful_step_count=30)
