"""Batched sampling with a cache: the naive Generator, static batches and eager steps.

    prompts -> prefill once each -> repeat the cache for the G samples -> one token a step
            -> drop finished rows now and then -> completions

Each row draws from its own column of one stream of uniform numbers, so a row's tokens depend on the
seed and its place in the call, not on when others finish.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from openbook.engine.types import Completion, FinishReason, Generation, SamplingParams
from openbook.errors import UserError
from openbook.kernels.precision import autocast
from openbook.model.cache import Cache
from openbook.model.transformer import Transformer
from openbook.runs.usage import Usage

COMPACT_BELOW = 0.8
"""Finished rows are dropped once fewer than this share of the rows are still running."""


class Sampler:
    """A Generator over one model held in memory; `version` marks its completions."""

    def __init__(
        self, model: Transformer, *, stop_token_ids: Sequence[int], pad_id: int, version: int = 0
    ) -> None:
        self.model = model
        self.version = version
        self._stop_ids = tuple(stop_token_ids)
        self._pad_id = pad_id

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, *, num_generations: int, seed: int
    ) -> Generation:
        """`num_generations` completions of each prompt. Raises UserError for an empty or too long prompt."""
        self._refuse_bad_prompts(prompts, params)
        device = next(self.model.parameters()).device
        was_training = self.model.training
        self.model.eval()
        with autocast(device):
            cache, logits_RV, lengths_R = self._prefill(prompts, params, num_generations, device)
            tokens, logprobs = self._decode(cache, logits_RV, lengths_R, params, seed)
        self.model.train(was_training)
        return self._collect(prompts, tokens, logprobs, params, num_generations)

    def _refuse_bad_prompts(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> None:
        if not prompts:
            raise UserError("there is no prompt", "give at least one")
        limit = self.model.config.max_position_embeddings
        for number, prompt in enumerate(prompts):
            if not prompt:
                raise UserError(f"prompt {number} is empty", "give it at least one token")
            if len(prompt) + params.max_tokens > limit:
                raise UserError(
                    f"prompt {number} has {len(prompt)} tokens and max_tokens is {params.max_tokens}",
                    f"together they may have {limit}, the model's context",
                )

    def _prefill(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        num_generations: int,
        device: torch.device,
    ) -> tuple[Cache, Tensor, Tensor]:
        """Compute each prompt once; give its cache and last logits to each of its samples."""
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        width = max(len(prompt) for prompt in prompts)
        tokens = torch.full((len(prompts), width), self._pad_id, device=device)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = torch.tensor(prompt, device=device)
        cache = self.model.new_cache(len(prompts), width + params.max_tokens)
        hidden = self.model.forward_cached(tokens, cache, torch.zeros_like(lengths))
        last = hidden[torch.arange(len(prompts), device=device), lengths - 1]
        logits = self.model.logits(last).float()
        return (
            cache.repeat(num_generations),
            logits.repeat_interleave(num_generations, 0),
            lengths.repeat_interleave(num_generations),
        )

    def _decode(
        self, cache: Cache, logits_RV: Tensor, lengths_R: Tensor, params: SamplingParams, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Sampled tokens and log-probabilities, [R, max_tokens]; after a row's stop token, padding."""
        num_rows, device = lengths_R.shape[0], lengths_R.device
        random = torch.Generator().manual_seed(seed)
        stops = torch.tensor(self._stop_ids + params.stop_token_ids, device=device)
        tokens = torch.full((num_rows, params.max_tokens), self._pad_id, device=device)
        logprobs = torch.zeros(num_rows, params.max_tokens, device=device)
        rows = torch.arange(num_rows, device=device)
        running = torch.ones(num_rows, dtype=torch.bool, device=device)
        for step in range(params.max_tokens):
            uniform = torch.rand(num_rows, generator=random, dtype=torch.float64).to(device)
            chosen, chosen_logprobs = sample(logits_RV, params, uniform[rows])
            kept = rows[running]
            tokens[kept, step] = chosen[running]
            logprobs[kept, step] = chosen_logprobs[running]
            running = running & ~torch.isin(chosen, stops)
            num_running = int(running.sum())
            if num_running == 0 or step + 1 == params.max_tokens:
                break
            if num_running < COMPACT_BELOW * rows.shape[0]:
                alive = running.nonzero(as_tuple=True)[0]
                cache, rows, chosen, lengths_R = (
                    cache.select(alive),
                    rows[alive],
                    chosen[alive],
                    lengths_R[alive],
                )
                running = running[alive]
            hidden = self.model.forward_cached(chosen[:, None], cache, lengths_R)
            logits_RV = self.model.logits(hidden[:, 0]).float()
            lengths_R = lengths_R + 1
        return tokens, logprobs

    def _collect(
        self,
        prompts: Sequence[Sequence[int]],
        tokens: Tensor,
        logprobs: Tensor,
        params: SamplingParams,
        num_generations: int,
    ) -> Generation:
        stops = set(self._stop_ids + params.stop_token_ids)
        token_rows, logprob_rows = tokens.tolist(), logprobs.tolist()
        groups: list[tuple[Completion, ...]] = []
        num_sampled = 0
        for index, prompt in enumerate(prompts):
            group = []
            for row in range(index * num_generations, (index + 1) * num_generations):
                end = next((at + 1 for at, one in enumerate(token_rows[row]) if one in stops), 0)
                stopped = end > 0
                end = end or params.max_tokens
                num_sampled += end
                group.append(
                    Completion(
                        prompt_ids=tuple(prompt),
                        token_ids=tuple(token_rows[row][:end]),
                        logprobs=tuple(logprob_rows[row][:end]),
                        finish_reason=FinishReason.STOP if stopped else FinishReason.LENGTH,
                        policy_version=self.version,
                    )
                )
            groups.append(tuple(group))
        prompt_tokens = sum(len(prompt) for prompt in prompts)
        usage = Usage(
            prompt_tokens=prompt_tokens,
            cached_tokens=prompt_tokens * (num_generations - 1),
            completion_tokens=num_sampled,
        )
        return Generation(completions=tuple(groups), usage=usage)


def sample(logits_RV: Tensor, params: SamplingParams, uniform_R: Tensor) -> tuple[Tensor, Tensor]:
    """One token a row by inverting the distribution at `uniform_R`, with its log-probability there.

    The log-probability is of the distribution that was sampled from: after temperature, top-k and
    top-p. Temperature 0 takes the most likely token, with log-probability 0.
    """
    if params.temperature == 0:
        return logits_RV.argmax(-1), torch.zeros_like(logits_RV[:, 0])
    logprobs_RV = torch.log_softmax(_restrict(logits_RV / params.temperature, params), dim=-1)
    cumulative_RV = logprobs_RV.double().exp().cumsum(-1)
    target_R1 = (uniform_R * cumulative_RV[:, -1])[:, None]
    chosen_R = torch.searchsorted(cumulative_RV, target_R1, right=True)[:, 0].clamp(
        max=logits_RV.shape[1] - 1
    )
    return chosen_R, logprobs_RV.gather(1, chosen_R[:, None])[:, 0]


def _restrict(logits_RV: Tensor, params: SamplingParams) -> Tensor:
    """-inf outside the `top_k` most likely tokens and outside the nucleus of mass `top_p`."""
    if params.top_k:
        bound = logits_RV.topk(min(params.top_k, logits_RV.shape[1]), dim=-1).values[:, -1:]
        logits_RV = logits_RV.masked_fill(logits_RV < bound, float("-inf"))
    if params.top_p < 1:
        ordered, order = logits_RV.sort(dim=-1, descending=True)
        mass_before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        beyond = mass_before >= params.top_p
        beyond[:, 0] = False  # the most likely token always stays, even with top_p 0
        dropped = torch.zeros_like(beyond).scatter(1, order, beyond)
        logits_RV = logits_RV.masked_fill(dropped, float("-inf"))
    return logits_RV
