"""The loss on what a model was not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from openbook.data.batch import Example
from openbook.data.packing import pack
from openbook.kernels.precision import autocast
from openbook.model.transformer import Transformer
from openbook.train.config import LossConfig
from openbook.train.losses import supervised_loss

_EXAMPLES_AT_ONCE = 256
_NEXT_TOKEN_ALONE = LossConfig(mtp_weight=0.0, balance_weight=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutLoss:
    """Cross-entropy in nats, summed over `num_tokens` predicted tokens."""

    nats: float
    num_tokens: int

    @property
    def per_token(self) -> float:
        """Mean nats a token; its exponential is the perplexity. It depends on the tokenizer."""
        return self.nats / self.num_tokens

    def bits_per_byte(self, num_bytes: int) -> float:
        """Bits a byte of the text that the tokens spell: the same measure for every tokenizer."""
        return self.nats / math.log(2) / num_bytes


def held_out_loss(
    model: Transformer, examples: Sequence[Example], *, tokens_per_batch: int, pad_id: int
) -> HeldOutLoss:
    """The next-token loss over all weighted tokens of the examples. The model is left as it was."""
    device = next(model.parameters()).device
    nats, num_tokens, was_training = 0.0, 0.0, model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(examples), _EXAMPLES_AT_ONCE):
            some = examples[start : start + _EXAMPLES_AT_ONCE]
            for batch in pack(some, tokens_per_batch=tokens_per_batch, pad_id=pad_id):
                with autocast(device):
                    parts = supervised_loss(model, batch.to(device), _NEXT_TOKEN_ALONE, step_weight=1.0)
                nats += float(parts.next_token)
                num_tokens += float(batch.weights_BT.sum())
    model.train(was_training)
    return HeldOutLoss(nats=nats, num_tokens=round(num_tokens))
