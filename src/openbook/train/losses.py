"""The supervised loss: next token, tokens further ahead (MTP), and expert balance.

Shape legend: B rows, T positions, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from openbook.data.batch import Batch
from openbook.model.transformer import Transformer
from openbook.train.config import LossConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class LossParts:
    """A batch's shares of a step's losses, which add up over its batches; `total` has the gradient."""

    total: Tensor
    next_token: Tensor
    mtp: Tensor
    balance: Tensor
    expert_loads_LE: Tensor


def supervised_loss(model: Transformer, batch: Batch, config: LossConfig, *, step_weight: float) -> LossParts:
    """Loss of one batch as its share of a step whose target weights add up to `step_weight`.

    total = next_token + mtp_weight / depth * mtp + balance_weight * balance, each a sum over this
    batch divided by `step_weight`, so that the gradients of a step's batches simply add up.
    """
    output = model(batch.tokens_BT, valid_BT=batch.valid_BT)
    next_token = (
        _weighted_cross_entropy(model, output.hidden_BTD, batch.targets_BT, batch.weights_BT) / step_weight
    )
    mtp, balance, loads_LE = next_token.new_zeros(()), output.balance_loss, output.expert_loads_LE
    if config.mtp_weight and len(model.mtp):
        ahead = model.mtp_forward(output.trunk_BTD, batch.tokens_BT, valid_BT=batch.valid_BT)
        mtp = _mtp_loss(model, ahead.hidden, batch) / step_weight
        balance = balance + ahead.balance_loss
        loads_LE = torch.cat([loads_LE, ahead.expert_loads_LE]) if len(ahead.expert_loads_LE) else loads_LE
    balance = balance * (float(batch.weights_BT.sum()) / step_weight)
    return LossParts(
        total=next_token + config.mtp_weight * mtp + config.balance_weight * balance,
        next_token=next_token.detach(),
        mtp=mtp.detach(),
        balance=balance.detach(),
        expert_loads_LE=loads_LE,
    )


def _mtp_loss(model: Transformer, hidden_by_depth: Sequence[Tensor], batch: Batch) -> Tensor:
    """Mean over depths of the summed cross-entropy (DeepSeek-V3 eq. 24 and 25).

    The module of depth k at position t has read the tokens up to t + k and predicts token t + k + 1.
    """
    losses = [
        _weighted_cross_entropy(model, hidden_BTD, batch.targets_BT[:, depth:], batch.weights_BT[:, depth:])
        for depth, hidden_BTD in enumerate(hidden_by_depth, start=1)
    ]
    return torch.stack(losses).mean()


def _weighted_cross_entropy(
    model: Transformer, hidden_BTD: Tensor, targets_BT: Tensor, weights_BT: Tensor
) -> Tensor:
    """Sum of weight * cross-entropy; the head runs only where the weight is not zero."""
    chosen = weights_BT.flatten().nonzero(as_tuple=True)[0]
    hidden_ND = hidden_BTD.flatten(0, 1).index_select(0, chosen)
    losses_N = F.cross_entropy(
        model.logits(hidden_ND).float(), targets_BT.flatten()[chosen], reduction="none"
    )
    return (losses_N * weights_BT.flatten()[chosen]).sum()
