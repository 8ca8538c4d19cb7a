"""Engine: continuous batching over a paged cache; the one sampler of RL, evaluation and serving.

    submit -> [ schedule -> execute -> pick tokens -> take them ] ... -> Completion

Sequences come and go between steps; a prompt that several samples share is computed once; a prompt that was
seen before is found in the cache. Not for several threads at once: one drives it, the others ask that one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openbook.engine.admission import refuse_bad_params, refuse_bad_prompt, refuse_too_large
from openbook.engine.blocks import BlockPool
from openbook.engine.burst import can_burst, run_burst
from openbook.engine.choose import make_executor
from openbook.engine.config import EngineConfig
from openbook.engine.executor import StepBatch
from openbook.engine.native_executor import NativeExecutor
from openbook.engine.picking import Pick, Picked, pick_tokens
from openbook.engine.plan import Chunk, SchedulerLimits
from openbook.engine.randomness import derived_seed
from openbook.engine.request import Decode, Request
from openbook.engine.scheduler import Scheduler
from openbook.engine.sequence import Sequence as CachedSequence
from openbook.engine.speculation import DraftPolicy, DraftStatistics, draft_rows
from openbook.engine.steps import step_batch, usage_of
from openbook.engine.thinking import ReasoningTags, ThinkingState
from openbook.engine.types import Completion, FinishReason, Generation, SamplingParams
from openbook.errors import UserError
from openbook.model.cache import BLOCK_SIZE
from openbook.model.transformer import Transformer
from openbook.runs.usage import Usage

BURST_TOKENS = 16
"""Tokens in a row where nobody watches: a block's worth."""


@dataclass(slots=True)  # not frozen, which would double the cost of what is made for each token
class Update:
    """What a step did for one request: its new tokens, and the completion if it has ended."""

    request_id: int
    token_ids: tuple[int, ...]
    completion: Completion | None


class Engine:
    """A Generator over one model held in memory, and a queue for requests that come one by one.

    `decode` (ids to text) is for stop texts; `tags` are for thinking budgets and the count of thinking.
    After the model's weights have changed, `publish` says so.
    """

    def __init__(
        self,
        model: Transformer,
        config: EngineConfig | None = None,
        *,
        stop_token_ids: Sequence[int],
        tags: ReasoningTags | None = None,
        decode: Decode | None = None,
        version: int = 0,
    ) -> None:
        self.model, self.config = model, config or EngineConfig()
        self.version = version
        self.executor = make_executor(model, self.config)
        self._tags, self._decode = tags, decode
        self._stop_ids = tuple(stop_token_ids)
        limits = SchedulerLimits(
            max_running=self.config.max_running,
            max_tokens_per_step=self.config.max_tokens_per_step,
            chunk_tokens=min(self.config.chunk_tokens, self.config.max_tokens_per_step),
        )
        self._blocks = BlockPool(
            self.executor.pool.num_blocks, BLOCK_SIZE, prefix_caching=self.config.prefix_caching
        )
        self.scheduler = Scheduler(self._blocks, limits, version=version)
        self._requests: dict[int, Request] = {}
        self._siblings: dict[int, list[CachedSequence]] = {}
        self._num_submitted = 0
        num_drafts = self.config.num_drafts
        self.draft_policy = DraftPolicy()
        self.draft_statistics = DraftStatistics(num_proposed=[0] * num_drafts, num_accepted=[0] * num_drafts)
        self.num_computed_tokens = 0
        """Rows that went through the model since the engine was made."""

    @property
    def has_unfinished(self) -> bool:
        return bool(self._requests)

    def submit(
        self, prompt_ids: Sequence[int], params: SamplingParams, *, leader_id: int | None = None
    ) -> int:
        """Queue a request and give its id. UserError if it can never be met.

        With `leader_id` it waits until that request, which has the same prompt, has computed it.
        """
        self._refuse_params(params)
        self._refuse_prompt(prompt_ids, params)
        request_id = self._num_submitted
        self._num_submitted += 1
        sequence = CachedSequence(id=request_id, token_ids=list(prompt_ids))
        self._requests[request_id] = Request(
            id=request_id,
            sequence=sequence,
            params=params,
            seed=derived_seed(request_id if params.seed is None else params.seed, 0),
            stop_ids=frozenset(self._stop_ids + params.stop_token_ids),
            thinking=None if self._tags is None else ThinkingState.behind(prompt_ids, self._tags),
            decode=self._decode,
        )
        leader = None if leader_id is None else self._requests.get(leader_id)
        is_ahead = leader is not None and leader.sequence.has_computed_prompt
        self.scheduler.add(sequence, None if leader is None else leader.sequence)
        if leader is not None and not is_ahead:
            self._siblings.setdefault(leader.id, []).append(sequence)
        return request_id

    def cancel(self, request_id: int) -> Completion | None:
        """End a request at once and give what there is of it; None if it has ended already."""
        request = self._requests.get(request_id)
        if request is None:
            return None
        request.finish_reason = FinishReason.ABORTED
        return self._finish(request)

    def publish(self, version: int) -> None:
        """The model has new weights. Sequences on their way go on with them, behind their old cache."""
        if version == self.version:
            return
        if version < self.version:
            raise UserError(f"version {version} comes after {self.version}", "versions of weights only rise")
        self.version = version
        self.executor.refresh()
        self.scheduler.use_weights(version)

    def step(self, num_tokens: int = 1) -> list[Update]:
        """Compute one step for whatever is waiting or running.

        With more `num_tokens`, up to so many for each sequence where all do nothing but decode; nothing else
        about them changes.
        """
        if num_tokens > 1 and (burst := self._burst(num_tokens)):
            return burst
        started = time.perf_counter()
        plan = self.scheduler.schedule()
        if not plan.chunks:
            return []
        batch = step_batch(plan.chunks)
        logits_MV = self.executor.forward(batch)
        self.num_computed_tokens += len(batch.tokens_R)
        picks = list(self._picks(plan.chunks))
        native = self.executor.native if isinstance(self.executor, NativeExecutor) else None
        picked = pick_tokens(logits_MV, picks, native) if picks else None
        updates: list[Update] = []
        number = 0
        while picked is not None and number < len(picks):
            pick, token = picks[number], picked.tokens[number]
            size = 1 if pick.chunk is None else pick.chunk.num_drafts + 1
            if size == 1 and token >= 0 and pick.request.is_plain:
                updates.append(self._take_plain(pick, token, picked.logprobs[number]))
            else:
                updates.append(self._take(pick, picked, range(number, number + size)))
            number += size
        if self.config.num_drafts:
            self._guess(batch, plan.chunks)
            self.draft_policy.observe(
                time.perf_counter() - started, sum(len(update.token_ids) for update in updates)
            )
        return updates

    def _burst(self, num_tokens: int) -> list[Update]:
        """Several tokens at once for all that run, or nothing where there is more to it."""
        if not isinstance(self.executor, NativeExecutor) or self.config.num_drafts:
            return []
        requests = [self._requests[one.id] for one in self.scheduler.decoding()]
        if not can_burst(requests):
            return []
        num_steps = min(num_tokens, max(one.room for one in requests))
        if num_steps < 2 or not self.scheduler.cover_ahead(
            {one.id: min(one.room, num_steps) for one in requests}
        ):
            return []
        others_wait = self.scheduler.num_waiting > 0
        burst = run_burst(self.executor, requests, num_steps, others_wait=others_wait)
        self.num_computed_tokens += burst.num_rows
        return [
            self._take_burst(request, tokens, logprobs)
            for request, tokens, logprobs in zip(requests, burst.tokens, burst.logprobs, strict=True)
        ]

    def _take_burst(self, request: Request, tokens: Sequence[int], logprobs: Sequence[float]) -> Update:
        """The tokens of a burst, each of which but the last stands in the cache as well."""
        self.scheduler.decoded(request.sequence, tokens)
        if tokens[-1] < 0:
            request.finish_reason = FinishReason.ERROR
            tokens = tokens[:-1]
        request.take_all(tokens, logprobs, self.version)
        if request.finish_reason is not None:
            return Update(request.id, tuple(tokens), self._finish(request))
        return Update(request.id, tuple(tokens), None)

    def _guess(self, batch: StepBatch, chunks: Sequence[Chunk]) -> None:
        """Let the MTP module guess what follows, while that pays."""
        if not self.draft_policy.is_drafting:
            return
        rows, sequences = draft_rows(batch, chunks)
        if rows is None:
            return
        guesses = self.executor.draft(rows, self.config.num_drafts)
        for sequence, guessed in zip(sequences, guesses.tolist(), strict=True):
            room = self._requests[sequence.id].room - 1
            sequence.draft_ids = [token for token in guessed if token >= 0][: max(room, 0)]

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, *, num_generations: int, seed: int
    ) -> Generation:
        """`num_generations` completions of each prompt, each of its own seed. UserError as `submit`.

        Not while requests that were submitted are on their way: their updates would be nobody's.
        """
        assert not self._requests and num_generations > 0
        if not prompts:
            raise UserError("there is no prompt", "give at least one")
        self._refuse_params(params)
        for number, prompt in enumerate(prompts):
            try:
                self._refuse_prompt(prompt, params)
            except UserError as error:
                raise UserError(f"prompt {number}: {error.what}", error.mend) from error
        requests: list[Request] = []
        for number, prompt in enumerate(prompts):
            leader_id = None
            for sample_number in range(num_generations):
                request = self._requests[self.submit(prompt, params, leader_id=leader_id)]
                request.seed = derived_seed(seed, number * num_generations + sample_number)
                leader_id = request.id if leader_id is None else leader_id
                requests.append(request)
        return self._run(requests, num_generations)

    def _refuse_params(self, params: SamplingParams) -> None:
        has_decode, vocab_size = self._decode is not None, self.model.config.vocab_size
        refuse_bad_params(params, self._tags, has_decode=has_decode, vocab_size=vocab_size)

    def _refuse_prompt(self, prompt_ids: Sequence[int], params: SamplingParams) -> None:
        refuse_bad_prompt(prompt_ids, params, self.model.config)
        refuse_too_large(len(prompt_ids) + params.max_tokens, self.scheduler)

    def _run(self, requests: Sequence[Request], num_generations: int) -> Generation:
        done: dict[int, Completion] = {}
        try:
            while len(done) < len(requests):
                done |= {
                    update.request_id: update.completion
                    for update in self.step(BURST_TOKENS)
                    if update.completion is not None
                }
        except BaseException:
            for request in requests:
                self.cancel(request.id)
            raise
        completions = [done[request.id] for request in requests]
        broken = sum(one.finish_reason is FinishReason.ERROR for one in completions)
        if broken:
            raise UserError(
                f"the model gave NaN for {broken} of {len(requests)} completions", "its weights are broken"
            )
        return Generation(
            completions=tuple(
                tuple(completions[start : start + num_generations])
                for start in range(0, len(completions), num_generations)
            ),
            usage=sum((one.usage for one in completions), Usage()),
        )

    def _picks(self, chunks: Sequence[Chunk]) -> Iterator[Pick]:
        """Where to sample, in the order of the logits' rows. Siblings of a leader start here."""
        row = 0
        for chunk in chunks:
            if not chunk.is_last:
                self.scheduler.advance(chunk)
                continue
            request = self._requests[chunk.sequence.id]
            siblings = self._siblings.pop(request.id, None)
            drafts = tuple(chunk.sequence.draft_ids[: chunk.num_drafts])
            for number in range(chunk.num_drafts + 1):
                yield Pick(request, chunk, row + number, drafts[:number])
            if siblings is not None:
                yield from self._forked(chunk, siblings, row)
            row += chunk.num_drafts + 1

    def _forked(self, chunk: Chunk, siblings: Sequence[CachedSequence], row: int) -> Iterator[Pick]:
        self.scheduler.advance(chunk)
        forks = self.scheduler.fork(chunk.sequence, siblings)
        copies = [copy for fork in forks for copy in fork.copies]
        self.executor.pool.copy_blocks([source for source, _ in copies], [target for _, target in copies])
        for fork in forks:
            yield Pick(self._requests[fork.sequence.id], None, row)

    def _take(self, pick: Pick, picked: Picked, numbers: range) -> Update:
        """Take the tokens that hold: each guess that was sampled, and the first token that is no guess."""
        request, chunk = pick.request, pick.chunk
        sequence, drafts = request.sequence, request.sequence.draft_ids
        # Thinking that the prompt began may have no budget at all: then its first token is not taken either.
        new = list(request.close_thinking()) if request.must_close else []
        num_accepted = 0
        for place, number in enumerate(numbers if not new else ()):
            token = picked.tokens[number]
            if token < 0:
                request.finish_reason = FinishReason.ERROR
                break
            if request.cuts_off(token):
                new += request.close_thinking()
                break
            request.take(token, picked.logprobs[number], self.version)
            if number in picked.top_logprobs:
                request.top_logprobs.append(picked.top_logprobs[number])
            new.append(token)
            is_guess = place < len(numbers) - 1 and token == drafts[place]
            num_accepted += is_guess
            if request.finish_reason is not None:
                break
            if request.must_close:
                new += request.close_thinking()
                break
            if not is_guess:
                break
        request.num_rejected += len(numbers) - 1 - num_accepted
        self.draft_statistics.count(len(numbers) - 1, num_accepted)
        if chunk is not None and sequence.num_computed == chunk.start:  # a leader has moved on already
            self.scheduler.advance(chunk, num_accepted)
        if request.finish_reason is not None:
            return Update(request.id, tuple(new), self._finish(request))
        self.scheduler.append(sequence, new)
        return Update(request.id, tuple(new), None)

    def _take_plain(self, pick: Pick, token: int, logprob: float) -> Update:
        """As `_take` where there is one token and nothing special about it: nearly always."""
        request, chunk = pick.request, pick.chunk
        sequence = request.sequence
        request.take(token, logprob, self.version)
        if chunk is not None and sequence.num_computed == chunk.start:
            self.scheduler.advance(chunk)
        if request.finish_reason is not None:
            return Update(request.id, (token,), self._finish(request))
        self.scheduler.append(sequence, (token,))
        return Update(request.id, (token,), None)

    def _finish(self, request: Request) -> Completion:
        sequence = request.sequence
        experts = None
        if self.config.return_experts and self.model.config.moe is not None:
            main = [self.model.config.is_moe_layer(n) for n in range(self.model.config.num_hidden_layers)]
            # An accepted guess that ended the completion stands in the cache, and nothing is read behind it.
            num_read = min(sequence.num_computed, sequence.prompt_length + len(request.token_ids) - 1)
            chosen = self.executor.pool.chosen_experts(sequence.blocks, num_read)
            experts = chosen[:, : sum(main)]
        self._siblings.pop(request.id, None)
        self.scheduler.abort(sequence)
        del self._requests[request.id]
        return request.completion(experts, usage_of(request))
