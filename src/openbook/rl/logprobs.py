"""Log-probabilities of given tokens under a model.

Shape legend: B rows, T positions, N positions that count, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from openbook.kernels.token_logprobs import plain_token_logprobs, token_logprobs
from openbook.model.transformer import ModelOutput, Transformer
from openbook.rl.batch import PolicyBatch


def completion_logprobs(
    model: Transformer,
    batch: PolicyBatch,
    *,
    temperature: float,
    replays: bool = False,
    entropy_learns: bool = False,
) -> tuple[Tensor, Tensor, ModelOutput]:
    """Log-probability of each token that counts and the entropy there, [B, T], zeros elsewhere.

    The head runs on those positions only. With `replays` the experts are those of the batch, if known.
    The entropy carries a gradient only where it is to learn.
    """
    chosen = batch.mask_BT.flatten().nonzero(as_tuple=True)[0]
    output, places = _read(model, batch, chosen, replays=replays)
    hidden_ND = output.hidden_BTD.flatten(0, 1).index_select(0, places)
    of_tokens = plain_token_logprobs if entropy_learns else token_logprobs
    taken_N, entropy_N = of_tokens(model.logits(hidden_ND), batch.targets_BT.flatten()[chosen], temperature)
    zeros = torch.zeros(batch.mask_BT.numel(), dtype=taken_N.dtype, device=taken_N.device)
    shape = batch.mask_BT.shape
    logprobs_BT = zeros.index_put((chosen,), taken_N).view(shape)
    return logprobs_BT, zeros.index_put((chosen,), entropy_N).view(shape), output


def _read(
    model: Transformer, batch: PolicyBatch, chosen: Tensor, *, replays: bool
) -> tuple[ModelOutput, Tensor]:
    """A pass over the batch, and where in it the states stand that predict the `chosen` tokens, [N]."""
    shared = batch.shared
    if shared is None:
        experts_BTLK = batch.experts_BTLK if replays else None
        return model(batch.tokens_BT, valid_BT=batch.valid_BT, experts_BTLK=experts_BTLK), chosen
    output = model(
        shared.tokens_RT,
        valid_BT=shared.valid_RT,
        positions_BT=shared.positions_RT,
        branches_BT=shared.branches_RT,
        experts_BTLK=shared.experts_RTLK if replays else None,
    )
    return output, shared.places_BS.flatten()[chosen]
