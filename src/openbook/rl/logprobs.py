"""Log-probabilities of given tokens under a model.

Shape legend: B rows, T positions, N positions that count, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
    experts_BTLK = batch.experts_BTLK if replays else None
    output = model(batch.tokens_BT, valid_BT=batch.valid_BT, experts_BTLK=experts_BTLK)
    chosen = batch.mask_BT.flatten().nonzero(as_tuple=True)[0]
    hidden_ND = output.hidden_BTD.flatten(0, 1).index_select(0, chosen)
    logprobs_NV = torch.log_softmax(model.logits(hidden_ND).float() / temperature, dim=-1)
    taken_N = logprobs_NV.gather(1, batch.targets_BT.flatten()[chosen][:, None])[:, 0]
    spread_NV = logprobs_NV if entropy_learns else logprobs_NV.detach()
    entropy_N = -(spread_NV.exp() * spread_NV).sum(-1)
    zeros = torch.zeros(batch.mask_BT.numel(), dtype=taken_N.dtype, device=taken_N.device)
    shape = batch.mask_BT.shape
    logprobs_BT = zeros.index_put((chosen,), taken_N).view(shape)
    return logprobs_BT, zeros.index_put((chosen,), entropy_N).view(shape), output
