from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openbook.data.batch import Batch, Example
from openbook.data.packing import make_batch, pack
from openbook.model.transformer import ModelOutput, MTPOutput, Transformer
from openbook.train.config import LossConfig
from openbook.train.losses import LossParts, supervised_loss

PLAIN = LossConfig(mtp_weight=0.0, balance_weight=0.0)
BOTH = LossConfig(mtp_weight=0.3, balance_weight=0.0)


class Scripted:
    """A model whose hidden states are its logits and were written beforehand."""

    def __init__(self, logits_BTV: Tensor, ahead: Sequence[Tensor] = (), balance: float = 0.0) -> None:
        self.mtp = list(ahead)
        self.balance = torch.tensor(balance)
        self.logits_BTV = logits_BTV
        self.seen: list[Tensor] = []

    def __call__(self, tokens_BT: Tensor, *, valid_BT: Tensor) -> ModelOutput:
        self.seen += [tokens_BT, valid_BT]
        loads = torch.tensor([[3, 1]])
        return ModelOutput(
            hidden_BTD=self.logits_BTV,
            trunk_BTD=self.logits_BTV,
            expert_loads_LE=loads,
            balance_loss=self.balance,
        )

    def mtp_forward(self, trunk_BTD: Tensor, tokens_BT: Tensor, *, valid_BT: Tensor) -> MTPOutput:
        loads = torch.tensor([[0, 4]])
        return MTPOutput(hidden=self.mtp, expert_loads_LE=loads, balance_loss=self.balance)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden


def loss_of(scripted: Scripted, batch: Batch, config: LossConfig, step_weight: float = 1.0) -> LossParts:
    return supervised_loss(cast(Transformer, scripted), batch, config, step_weight=step_weight)


def certain(targets: Sequence[int], vocab_size: int) -> Tensor:
    """Logits that put all probability on the given tokens: [1, T, V]."""
    return 100.0 * F.one_hot(torch.tensor([list(targets)]), vocab_size).float()


def test_the_loss_is_the_weighted_cross_entropy_of_a_literal() -> None:
    # Probabilities 1/4 and 3/4 everywhere; -ln 0.25 = 1.386294, -ln 0.75 = 0.287682.
    logits = torch.tensor([0.0, math.log(3)]).expand(1, 3, 2)
    batch = make_batch([Example(token_ids=(0, 1, 0, 1), weights=(9.0, 1.0, 0.5, 2.0))], pad_id=0)
    parts = loss_of(Scripted(logits), batch, PLAIN)
    expected = 1.0 * 0.287682 + 0.5 * 1.386294 + 2.0 * 0.287682
    assert float(parts.total) == pytest.approx(expected, abs=1e-5)
    assert float(parts.next_token) == float(parts.total)
    assert float(loss_of(Scripted(logits), batch, PLAIN, step_weight=7.0).total) == pytest.approx(
        expected / 7
    )


def test_padding_and_weight_zero_cost_nothing_and_the_model_is_told_what_is_padding() -> None:
    long = Example(token_ids=(0, 1, 2, 3), weights=(0.0, 0.0, 1.0, 1.0))
    short = Example(token_ids=(0, 1), weights=(0.0, 1.0))
    batch = make_batch([long, short], pad_id=0)
    scripted = Scripted(torch.zeros(2, 3, 4))
    assert float(loss_of(scripted, batch, PLAIN).total) == pytest.approx(3 * math.log(4), abs=1e-5)
    assert scripted.seen[0].tolist() == [[0, 1, 2], [0, 1, 0]]
    assert scripted.seen[1].tolist() == [[True, True, True], [True, False, False]]


def test_each_mtp_depth_predicts_one_token_further() -> None:
    ids = (0, 1, 2, 3, 4, 5)
    batch = make_batch([Example(token_ids=ids, weights=(0.0,) + (1.0,) * 5)], pad_id=0)
    right = [certain(ids[2:], 6), certain(ids[3:], 6)]
    parts = loss_of(Scripted(certain(ids[1:], 6), right), batch, BOTH)
    assert float(parts.mtp) == pytest.approx(0.0, abs=1e-6)
    assert float(parts.total) == pytest.approx(0.0, abs=1e-6)
    for shifted in ([certain(ids[1:5], 6), right[1]], [right[0], certain(ids[2:5], 6)]):
        assert float(loss_of(Scripted(certain(ids[1:], 6), shifted), batch, BOTH).mtp) > 10


def test_mtp_is_averaged_over_its_depths_and_keeps_the_weights_of_its_targets() -> None:
    # Uniform over 6: each of 5, 4 and 3 predictions costs ln 6; the third token has no weight.
    batch = make_batch([Example(token_ids=(0, 1, 2, 3, 4, 5), weights=(0, 1, 0, 1, 1, 1))], pad_id=0)
    ahead = [torch.zeros(1, 4, 6), torch.zeros(1, 3, 6)]
    parts = loss_of(Scripted(torch.zeros(1, 5, 6), ahead), batch, BOTH, step_weight=4.0)
    assert float(parts.next_token) == pytest.approx(4 * math.log(6) / 4, abs=1e-5)
    assert float(parts.mtp) == pytest.approx((3 + 3) / 2 * math.log(6) / 4, abs=1e-5)
    assert float(parts.total) == pytest.approx(float(parts.next_token) + 0.3 * float(parts.mtp), abs=1e-5)
    without = loss_of(Scripted(torch.zeros(1, 5, 6), ahead), batch, PLAIN, step_weight=4.0)
    assert float(without.mtp) == 0.0 and float(without.total) == float(without.next_token)


def test_the_balance_loss_counts_as_the_batch_does_in_the_step() -> None:
    batch = make_batch([Example(token_ids=(0, 1, 2), weights=(0.0, 1.0, 1.0))], pad_id=0)
    scripted = Scripted(certain((1, 2), 3), [certain((2,), 3)], balance=1.5)
    config = LossConfig(mtp_weight=0.3, balance_weight=0.01)
    parts = loss_of(scripted, batch, config, step_weight=8.0)
    assert float(parts.balance) == pytest.approx((1.5 + 1.5) * 2 / 8)  # the layers' and the MTP module's
    assert float(parts.total) == pytest.approx(0.01 * 0.75, abs=1e-6)
    assert parts.expert_loads_LE.tolist() == [[3, 1], [0, 4]]


def draw_examples(lengths: Sequence[int]) -> list[Example]:
    generator = torch.Generator().manual_seed(5)
    return [
        Example(
            token_ids=tuple(torch.randint(0, 320, (length,), generator=generator).tolist()),
            weights=(0.0, *([1.0] * (length - 1))),
        )
        for length in lengths
    ]


def gradients(
    model: Transformer, examples: list[Example], config: LossConfig, tokens_per_batch: int
) -> tuple[dict[str, Tensor], float, int]:
    """The gradients of one step over as many batches as its size asks for, its loss, and their number."""
    model.zero_grad(set_to_none=True)
    batches = pack(examples, tokens_per_batch=tokens_per_batch, pad_id=0)
    step_weight = sum(float(batch.weights_BT.sum()) for batch in batches)
    loss = 0.0
    for batch in batches:
        parts = supervised_loss(model, batch, config, step_weight=step_weight)
        parts.total.backward()  # type: ignore[no-untyped-call]
        loss += float(parts.total.detach())
    named = model.named_parameters()
    return {name: one.grad.clone() for name, one in named if one.grad is not None}, loss, len(batches)


@pytest.mark.parametrize(
    ("lengths", "balance_weight"),
    [((5, 9, 9, 14, 20, 7), 0.0), ((12,) * 6, 0.1)],
    ids=["ragged rows", "even rows with balance"],
)
def test_a_step_in_many_batches_has_the_gradient_of_one_batch(
    make_tiny: Callable[..., Transformer], lengths: tuple[int, ...], balance_weight: float
) -> None:
    model = make_tiny().double()
    examples = draw_examples(lengths)
    config = LossConfig(mtp_weight=0.3, balance_weight=balance_weight)
    whole, whole_loss, one = gradients(model, examples, config, 1000)
    parts, parts_loss, many = gradients(model, examples, config, 24)
    assert (one, many > 2) == (1, True)
    assert parts_loss == pytest.approx(whole_loss, rel=1e-6)
    assert parts.keys() == whole.keys()
    assert "mtp.0.eh_proj.weight" in whole
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-6, rtol=1e-5)


def test_a_real_model_gives_the_cross_entropy_of_its_own_logits(
    make_tiny: Callable[..., Transformer],
) -> None:
    model = make_tiny()
    ids = draw_examples([12])[0].token_ids
    batch = make_batch([Example(token_ids=ids, weights=(0.0,) * 6 + (1.0,) * 6)], pad_id=0)
    with torch.no_grad():
        output = model(torch.tensor([ids[:-1]]))
        logprobs = torch.log_softmax(model.logits(output.hidden_BTD)[0].double(), -1)
        ahead = model.mtp_hidden(output.trunk_BTD, torch.tensor([ids[:-1]]))[0]
        ahead_logprobs = torch.log_softmax(model.logits(ahead)[0].double(), -1)
    parts = supervised_loss(model, batch, BOTH, step_weight=1.0)
    by_hand = -sum(float(logprobs[at - 1, ids[at]]) for at in range(6, 12))
    mtp_by_hand = -sum(float(ahead_logprobs[at - 2, ids[at]]) for at in range(6, 12))
    assert float(parts.next_token) == pytest.approx(by_hand, rel=1e-5)
    assert float(parts.mtp) == pytest.approx(mtp_by_hand, rel=1e-5)
