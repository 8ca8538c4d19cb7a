"""Estimates of KL(policy || reference) at sampled tokens (John Schulman, "Approximating KL Divergence").

With d = log pi - log pi_ref at a token drawn from pi:

    k1 = d                     unbiased, of either sign
    k2 = d^2 / 2               biased, never negative; its gradient in the loss is that of the KL
    k3 = exp(-d) + d - 1       unbiased, never negative
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from openbook.rl.objective import KLEstimator


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """In the loss without `use_bias_correction_kl` its gradient is zero in the mean: it pulls nowhere."""
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    return (logprobs - ref_logprobs).square() / 2


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    difference = ref_logprobs - logprobs
    return torch.exp(difference) - difference - 1


ESTIMATORS: Mapping[KLEstimator, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
