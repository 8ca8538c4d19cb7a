"""What is computed once about a rollout, before its first update: log-probabilities and weights.

Shape legend: B completions, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from openbook.kernels.precision import autocast
from openbook.model.transformer import Transformer
from openbook.rl.aggregation import StepSize
from openbook.rl.batch import PolicyBatch, Row, cut, make_policy_batch, rows_of
from openbook.rl.config import RLConfig
from openbook.rl.correction import importance_weights
from openbook.rl.filters import counted_tokens, may_skip, with_something_to_say
from openbook.rl.kl import ESTIMATORS
from openbook.rl.logprobs import completion_logprobs
from openbook.rl.sharing import cut_shared, share_prompts
from openbook.rl.types import Group, RewardedGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class Policies:
    """Who is asked about a rollout: the policy that learns, and the reference where there is one."""

    policy: Transformer
    reference: Transformer | None
    pad_id: int

    @property
    def device(self) -> torch.device:
        return next(self.policy.parameters()).device


@dataclass(frozen=True, kw_only=True, slots=True)
class Experience:
    """A batch with what stays the same however often it is learned from."""

    batch: PolicyBatch
    old_logprobs_BT: Tensor
    """What the ratio is against: the sampler's, or the trainer's own."""
    ref_logprobs_BT: Tensor | None
    """None where the loss has no KL."""
    weights: Tensor | None
    """Importance weights, [B, T] or [B, 1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Minibatch:
    """What one optimizer step learns from, in as many passes as it has experiences."""

    experiences: tuple[Experience, ...]
    size: StepSize

    @property
    def num_tokens(self) -> int:
        return sum(one.batch.num_tokens for one in self.experiences)


def gather(policies: Policies, groups: Sequence[RewardedGroup], config: RLConfig) -> Minibatch:
    """The rows of the groups that have a part in the update, and how large the whole is."""
    rows = rows_of(groups)
    skips = may_skip(config, routes=policies.policy.config.moe is not None)
    trained = with_something_to_say(rows, config) if skips else rows
    batches = batches_of(trained, config, policies.pad_id)
    size = StepSize(
        num_completions=len(rows),
        num_tokens=sum(int(counted_tokens(completion, config).sum()) for completion, _ in rows),
        num_batches=len(batches),
        max_tokens=config.max_tokens,
        num_measured=sum(int(batch.mask_BT.any(1).sum()) for batch in batches),
    )
    experiences = [prepare(policies, batch.to(policies.device), config) for batch in batches]
    return Minibatch(experiences=tuple(experiences), size=size)


def batches_of(rows: Sequence[Row], config: RLConfig, pad_id: int) -> list[PolicyBatch]:
    """Every row once, in batches of similar length."""
    completions = [completion for completion, _ in rows]
    batches = []
    if not config.share_prompts:
        for run in cut(completions, config.tokens_per_batch):
            batches.append(_batch([rows[index] for index in run], config, pad_id))
        return batches
    for group in cut_shared(completions, config.tokens_per_batch):
        run = [index for row in group for index in row]
        shared = share_prompts([completions[index] for index in run], list(map(len, group)), pad_id=pad_id)
        batches.append(replace(_batch([rows[index] for index in run], config, pad_id), shared=shared))
    return batches


def _batch(rows: Sequence[Row], config: RLConfig, pad_id: int) -> PolicyBatch:
    counted = [counted_tokens(completion, config) for completion, _ in rows]
    return make_policy_batch(rows, pad_id=pad_id, counted=counted)


@torch.no_grad()
def prepare(policies: Policies, batch: PolicyBatch, config: RLConfig) -> Experience:
    """Ask the policies, where the objective wants to know; by default only the reference."""
    old_BT, ref_BT = batch.sampler_logprobs_BT, None
    with autocast(policies.device, config.precision):
        if config.old_logprobs == "trainer":
            old_BT, _, _ = completion_logprobs(
                policies.policy, batch, temperature=config.temperature, replays=config.routing_replay
            )
        if config.kl_in_loss and policies.reference is not None:
            ref_BT, _, _ = completion_logprobs(policies.reference, batch, temperature=config.temperature)
    weights = importance_weights(old_BT, batch.sampler_logprobs_BT, batch.mask_BT, config)
    return Experience(batch=batch, old_logprobs_BT=old_BT, ref_logprobs_BT=ref_BT, weights=weights)


@torch.no_grad()
def kl_of_rollout(policies: Policies, groups: Sequence[Group], config: RLConfig) -> list[list[float]]:
    """Of each completion the KL of the sampler to the reference, summed over the tokens that were sampled."""
    completions = [rollout.attempt.completion for group in groups for rollout in group.rollouts]
    sums = [0.0] * len(completions)
    for run in cut(completions, config.tokens_per_batch):
        rows = [(completions[index], 0.0) for index in run]
        batch = make_policy_batch(rows, pad_id=policies.pad_id).to(policies.device)
        assert policies.reference is not None
        with autocast(policies.device, config.precision):
            ref_BT, _, _ = completion_logprobs(policies.reference, batch, temperature=config.temperature)
        kl_BT = ESTIMATORS[config.kl_estimator](batch.sampler_logprobs_BT, ref_BT) * batch.mask_BT
        for index, total in zip(run, kl_BT.sum(1).tolist(), strict=True):
            sums[index] = total
    remaining = iter(sums)
    return [[next(remaining) for _ in group.rollouts] for group in groups]
