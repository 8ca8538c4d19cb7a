"""From logits to one token a row: penalties, restrictions, inversion at a uniform number. The reference.

Shape letters: R row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from openbook.engine.types import SamplingParams

NO_TOKEN = -1
"""Stands for the token of a row whose logits are no numbers."""
LEAST_TEMPERATURE = 1e-30
"""Lower ones are taken for it: its inverse is a number still."""


def sample(logprobs_RV: Tensor, uniform_R: Tensor) -> tuple[Tensor, Tensor]:
    """One token a row by inverting the distribution at `uniform_R` (fp64), with its log-probability there.

    A row that holds NaN gives `NO_TOKEN`.
    """
    cumulative_RV = logprobs_RV.double().exp().cumsum(-1)
    target_R1 = (uniform_R * cumulative_RV[:, -1])[:, None]
    chosen_R = torch.searchsorted(cumulative_RV, target_R1, right=True)[:, 0]
    # Rounding may carry the target past the last token that is possible at all.
    last_R = logprobs_RV.shape[1] - 1 - logprobs_RV.isfinite().flip(-1).int().argmax(-1)
    chosen_R = torch.minimum(chosen_R, last_R)
    taken_R = logprobs_RV.gather(1, chosen_R[:, None])[:, 0]
    return chosen_R.masked_fill(logprobs_RV.isnan().any(-1), NO_TOKEN), taken_R


def shaped_logprobs(logits_V: Tensor, params: SamplingParams) -> Tensor:
    """The log-probabilities [V] that `params` samples from; greedy puts all mass on the likeliest token."""
    logits_V = logits_V.float()
    behind_V = logits_V - logits_V.max()  # NaN throughout where there is one, or an infinity
    if params.temperature == 0:
        certain_V = torch.full_like(logits_V, -torch.inf)
        certain_V[logits_V.argmax()] = 0.0
        return torch.where(behind_V.isnan().any(), torch.nan, certain_V)
    scaled_V = behind_V / max(params.temperature, LEAST_TEMPERATURE)
    return torch.log_softmax(restricted(scaled_V, params), dim=-1)


def restricted(logits_V: Tensor, params: SamplingParams) -> Tensor:
    """-inf outside the `top_k` likeliest, outside the nucleus of `top_p`, and below the share `min_p`."""
    if params.top_k:
        bound = logits_V.topk(min(params.top_k, len(logits_V))).values[-1]
        logits_V = logits_V.masked_fill(logits_V < bound, -torch.inf)
    if params.top_p < 1:
        ordered, order = logits_V.sort(descending=True)
        mass = ordered.softmax(-1)
        beyond = mass.cumsum(-1) - mass >= params.top_p
        beyond[0] = False  # the likeliest token always stays
        logits_V = logits_V.index_fill(0, order[beyond], -torch.inf)
    if params.min_p > 0:
        probabilities_V = logits_V.softmax(-1)
        logits_V = logits_V.masked_fill(probabilities_V < params.min_p * probabilities_V.max(), -torch.inf)
    return logits_V


def penalized(
    logits_V: Tensor, params: SamplingParams, prompt_ids: Sequence[int], completion_ids: Sequence[int]
) -> Tensor:
    """Logits with what was said before made less likely."""
    logits_V = logits_V.clone()
    if params.repetition_penalty != 1:
        seen = torch.tensor(sorted({*prompt_ids, *completion_ids}), device=logits_V.device)
        logits = logits_V[seen]
        logits_V[seen] = torch.where(
            logits > 0, logits / params.repetition_penalty, logits * params.repetition_penalty
        )
    if completion_ids and (params.presence_penalty or params.frequency_penalty):
        counts_V = torch.bincount(
            torch.tensor(completion_ids, device=logits_V.device), minlength=len(logits_V)
        )
        logits_V -= params.presence_penalty * (counts_V > 0) + params.frequency_penalty * counts_V
    return logits_V


def top_logprobs(logprobs_V: Tensor, count: int) -> tuple[tuple[int, float], ...]:
    """The `count` likeliest tokens that are possible at all, with their log-probabilities."""
    best = logprobs_V.topk(min(count, len(logprobs_V)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple((token, logprob) for token, logprob in pairs if logprob != float("-inf"))
