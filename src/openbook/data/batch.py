"""Example and Batch: token sequences with the weight of each target, and rows of them as tensors.

Shape legend: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One token sequence and how much the loss at each token counts (0 for a prompt).

    Example: ids of `<bos> ... Assistant: <think> ... <eos>` with weights 0 up to the colon and 1
    after it. `weights[t]` belongs to predicting `token_ids[t]`; the first token is never a target.
    """

    token_ids: tuple[int, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        assert len(self.token_ids) == len(self.weights) >= 2

    @classmethod
    def of_reply(cls, before: Sequence[int], after: Sequence[int], *, prompt_weight: float = 0.0) -> Example:
        """A prompt and what is to be said behind it: the loss counts on that."""
        weights = (*([prompt_weight] * len(before)), *([1.0] * len(after)))
        return cls(token_ids=(*before, *after), weights=weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Right-padded rows: inputs, what they must predict, and the weight of each prediction."""

    tokens_BT: Tensor
    targets_BT: Tensor
    weights_BT: Tensor
    valid_BT: Tensor

    @property
    def num_tokens(self) -> int:
        """Positions that are no padding."""
        return int(self.valid_BT.sum())

    def to(self, device: torch.device) -> Batch:
        return Batch(
            tokens_BT=self.tokens_BT.to(device),
            targets_BT=self.targets_BT.to(device),
            weights_BT=self.weights_BT.to(device),
            valid_BT=self.valid_BT.to(device),
        )
