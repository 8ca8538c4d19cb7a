"""How the losses of tokens become one number: the share of each token in the step's loss.

Shape legend: B completions, T positions. `mask_BT` is 1 on the tokens that count.

One optimizer step may go through its completions in several batches. Every rule but `batch_mean` divides by a
number of the whole step, so that it does not matter how they are cut.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSize:
    """What one optimizer step is about, completions that are left out of its passes included."""

    num_completions: int
    num_tokens: int
    """Tokens that count: sampled, and not masked."""
    num_batches: int
    max_tokens: int
    """The limit of a completion."""
    num_measured: int
    """Completions that are passed through the model with a token that counts: what metrics are means of."""


def completion_mean(mask_BT: Tensor, size: StepSize) -> Tensor:
    """1/N sum_i 1/|o_i| sum_t: every completion counts alike (GRPO; verl's seq-mean-token-mean)."""
    return mask_BT / mask_BT.sum(1, keepdim=True).clamp(min=1) / size.num_completions


def token_mean(mask_BT: Tensor, size: StepSize) -> Tensor:
    """1 / sum_i |o_i| sum_i sum_t: every token of the step counts alike (DAPO eq. 8; verl's token-mean)."""
    return mask_BT / max(1, size.num_tokens)


def batch_mean(mask_BT: Tensor, size: StepSize) -> Tensor:
    """`token_mean` within each batch, then the mean of batches: depends on how they are cut (TRL's bnpo)."""
    return mask_BT / mask_BT.sum().clamp(min=1) / size.num_batches


def limit_mean(mask_BT: Tensor, size: StepSize) -> Tensor:
    """1 / (N max_tokens) sum_i sum_t: no length is favoured (Dr. GRPO; verl's seq-mean-token-sum-norm)."""
    return mask_BT / (size.num_completions * size.max_tokens)


def measured_mean(mask_BT: Tensor, size: StepSize) -> Tensor:
    """`completion_mean` over what was measured: in this sense metrics are means, whatever the loss."""
    return mask_BT / mask_BT.sum(1, keepdim=True).clamp(min=1) / max(1, size.num_measured)
