"""Groups to padded tensors: the last place where a completion is a Python object.

Shape legend: B completions, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openbook.data.packing import group_by_length
from openbook.engine.types import Completion
from openbook.rl.types import RewardedGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyBatch:
    """Completions behind their prompts, right-padded: position t predicts token t + 1.

    `mask_BT` is 1 where that token is part of the completion; `old_logprobs_BT` is the sampler's
    log-probability of it there and 0 elsewhere.
    """

    tokens_BT: Tensor
    targets_BT: Tensor
    mask_BT: Tensor
    valid_BT: Tensor
    old_logprobs_BT: Tensor
    advantages_B: Tensor

    @property
    def num_tokens(self) -> int:
        return int(self.valid_BT.sum())

    def to(self, device: torch.device) -> PolicyBatch:
        return PolicyBatch(
            tokens_BT=self.tokens_BT.to(device),
            targets_BT=self.targets_BT.to(device),
            mask_BT=self.mask_BT.to(device),
            valid_BT=self.valid_BT.to(device),
            old_logprobs_BT=self.old_logprobs_BT.to(device),
            advantages_B=self.advantages_B.to(device),
        )


def pack_groups(groups: Sequence[RewardedGroup], *, tokens_per_batch: int, pad_id: int) -> list[PolicyBatch]:
    """Every completion once, in batches of similar length (the packing of R1's training, B.1)."""
    rows = [
        (rollout.attempt.completion, advantage)
        for group in groups
        for rollout, advantage in zip(group.group.rollouts, group.advantages, strict=True)
    ]
    lengths = [len(completion.prompt_ids) + len(completion.token_ids) for completion, _ in rows]
    order = sorted(range(len(rows)), key=lambda index: lengths[index])
    runs = group_by_length([lengths[index] for index in order], order, tokens_per_batch)
    return [make_policy_batch([rows[index] for index in run], pad_id=pad_id) for run in runs]


def make_policy_batch(rows: Sequence[tuple[Completion, float]], *, pad_id: int) -> PolicyBatch:
    """One batch of completions with their advantages."""
    width = max(len(one.prompt_ids) + len(one.token_ids) for one, _ in rows) - 1
    tokens = np.full((len(rows), width + 1), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.float32)
    old = np.zeros((len(rows), width), dtype=np.float32)
    valid = np.zeros((len(rows), width), dtype=bool)
    for row, (completion, _) in enumerate(rows):
        start = len(completion.prompt_ids)
        end = start + len(completion.token_ids)
        tokens[row, :start] = completion.prompt_ids
        tokens[row, start:end] = completion.token_ids
        mask[row, start - 1 : end - 1] = 1
        old[row, start - 1 : end - 1] = completion.logprobs
        valid[row, : end - 1] = True
    return PolicyBatch(
        tokens_BT=torch.from_numpy(tokens[:, :-1].copy()),
        targets_BT=torch.from_numpy(tokens[:, 1:].copy()),
        mask_BT=torch.from_numpy(mask),
        valid_BT=torch.from_numpy(valid),
        old_logprobs_BT=torch.from_numpy(old),
        advantages_B=torch.tensor([advantage for _, advantage in rows], dtype=torch.float32),
    )
