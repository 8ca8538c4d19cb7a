"""Completions to padded tensors: the last place where a completion is a Python object.

Shape legend: B completions, T positions, L layers with experts, K experts chosen per token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openbook.data.packing import group_by_length
from openbook.engine.types import Completion
from openbook.rl.sharing import SharedRows
from openbook.rl.types import RewardedGroup

Row = tuple[Completion, float]
"""A completion and its advantage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyBatch:
    """Completions behind their prompts, right-padded: position t predicts token t + 1.

    `mask_BT` is 1 where that token was sampled and counts; `sampler_logprobs_BT` is the sampler's
    log-probability of it there and 0 elsewhere.
    """

    tokens_BT: Tensor
    targets_BT: Tensor
    mask_BT: Tensor
    valid_BT: Tensor
    sampler_logprobs_BT: Tensor
    advantages_B: Tensor
    experts_BTLK: Tensor | None = None
    """What the sampler's gates chose at each position, int16, 0 in the padding; None if it is not known."""
    shared: SharedRows | None = None
    """The same tokens in fewer rows, where each prompt is read once for several completions."""

    @property
    def num_tokens(self) -> int:
        """Tokens that a pass computes."""
        valid = self.valid_BT if self.shared is None else self.shared.valid_RT
        return int(valid.sum())

    def to(self, device: torch.device) -> PolicyBatch:
        return PolicyBatch(
            tokens_BT=self.tokens_BT.to(device),
            targets_BT=self.targets_BT.to(device),
            mask_BT=self.mask_BT.to(device),
            valid_BT=self.valid_BT.to(device),
            sampler_logprobs_BT=self.sampler_logprobs_BT.to(device),
            advantages_B=self.advantages_B.to(device),
            experts_BTLK=None if self.experts_BTLK is None else self.experts_BTLK.to(device),
            shared=None if self.shared is None else self.shared.to(device),
        )


def rows_of(groups: Sequence[RewardedGroup]) -> list[Row]:
    """Every completion with its advantage, group after group."""
    return [
        (rollout.attempt.completion, advantage)
        for group in groups
        for rollout, advantage in zip(group.group.rollouts, group.advantages, strict=True)
    ]


def cut(completions: Sequence[Completion], tokens_per_batch: int) -> Iterator[list[int]]:
    """Their indices in batches of similar length (the packing of R1's training, B.1)."""
    lengths = [len(one.prompt_ids) + len(one.token_ids) for one in completions]
    order = sorted(range(len(completions)), key=lambda index: lengths[index])
    return group_by_length([lengths[index] for index in order], order, tokens_per_batch)


def make_policy_batch(
    rows: Sequence[Row], *, pad_id: int, counted: Sequence[NDArray[np.bool_]] | None = None
) -> PolicyBatch:
    """One batch of completions with their advantages.

    `counted` says of each which of its tokens count; by default those that were sampled and not set.
    """
    if counted is None:
        counted = [sampled_tokens(completion) for completion, _ in rows]
    width = max(len(one.prompt_ids) + len(one.token_ids) for one, _ in rows) - 1
    tokens = np.full((len(rows), width + 1), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.float32)
    logprobs = np.zeros((len(rows), width), dtype=np.float32)
    valid = np.zeros((len(rows), width), dtype=bool)
    for row, (completion, _) in enumerate(rows):
        start = len(completion.prompt_ids)
        end = start + len(completion.token_ids)
        tokens[row, :start] = completion.prompt_ids
        tokens[row, start:end] = completion.token_ids
        mask[row, start - 1 : end - 1] = counted[row]
        logprobs[row, start - 1 : end - 1] = np.where(counted[row], completion.logprobs, 0.0)
        valid[row, : end - 1] = True
    return PolicyBatch(
        tokens_BT=torch.from_numpy(tokens[:, :-1].copy()),
        targets_BT=torch.from_numpy(tokens[:, 1:].copy()),
        mask_BT=torch.from_numpy(mask),
        valid_BT=torch.from_numpy(valid),
        sampler_logprobs_BT=torch.from_numpy(logprobs),
        advantages_B=torch.tensor([advantage for _, advantage in rows], dtype=torch.float32),
        experts_BTLK=_padded_experts([completion.experts for completion, _ in rows], width),
    )


def sampled_tokens(completion: Completion) -> NDArray[np.bool_]:
    """Which tokens of a completion were sampled: not those that were set to close its thinking."""
    sampled = np.ones(len(completion.token_ids), dtype=bool)
    sampled[list(completion.forced)] = False
    return sampled


def _padded_experts(rows: Sequence[NDArray[np.int16] | None], width: int) -> Tensor | None:
    known = [row for row in rows if row is not None]
    if not known or len(known) < len(rows):
        return None
    padded = np.zeros((len(rows), width, *known[0].shape[1:]), dtype=np.int16)
    for row, experts in enumerate(known):
        padded[row, : len(experts)] = experts
    return torch.from_numpy(padded)
