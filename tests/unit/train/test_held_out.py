from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from openbook.data.batch import Example
from openbook.model.transformer import Transformer
from openbook.train.held_out import HeldOutLoss, held_out_loss

EXAMPLES = [
    Example(token_ids=(1, 5, 9, 13, 2), weights=(0.0, 1.0, 0.0, 1.0, 1.0)),
    Example(token_ids=(1, 7, 2), weights=(1.0, 1.0, 0.0)),
]


def test_the_loss_is_summed_over_the_weighted_tokens(make_tiny: Callable[..., Transformer]) -> None:
    model = make_tiny()
    loss = held_out_loss(model, EXAMPLES, tokens_per_batch=8, pad_id=0)
    expected = 0.0
    for example in EXAMPLES:
        with torch.no_grad():
            hidden = model(torch.tensor([example.token_ids[:-1]])).hidden_BTD
            losses = torch.nn.functional.cross_entropy(
                model.logits(hidden)[0].float(), torch.tensor(example.token_ids[1:]), reduction="none"
            )
        expected += float((losses * torch.tensor(example.weights[1:])).sum())
    assert loss.num_tokens == 4
    assert loss.nats == pytest.approx(expected, rel=1e-5)


def test_measuring_leaves_the_model_as_it_was(make_tiny: Callable[..., Transformer]) -> None:
    model = make_tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    held_out_loss(model, EXAMPLES, tokens_per_batch=8, pad_id=0)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_byte_that_is_guessed_among_256_costs_eight_bits() -> None:
    loss = HeldOutLoss(nats=10 * math.log(256), num_tokens=5)
    assert loss.bits_per_byte(10) == pytest.approx(8)
    assert math.exp(loss.per_token) == pytest.approx(256**2)
