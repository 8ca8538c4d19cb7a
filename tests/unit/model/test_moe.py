from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from openbook.model.config import MoEConfig
from openbook.model.moe import Gate, sequence_balance_loss


def make_gate(**fields: Any) -> Gate:
    defaults: dict[str, Any] = {
        "n_routed_experts": 4,
        "n_shared_experts": 0,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 8,
    }
    return Gate(8, MoEConfig(**{**defaults, **fields}))


def chosen(gate: Gate, scores: list[float]) -> set[int]:
    return set(gate.choose(torch.tensor([scores]))[0][0].tolist())


def test_the_bias_moves_the_choice_but_not_the_shares() -> None:
    gate = make_gate(routed_scaling_factor=2.5)
    gate.e_score_correction_bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    experts_NK, shares_NK = gate.choose(torch.tensor([[0.6, 0.5, 0.4, 0.2]]))
    assert set(experts_NK[0].tolist()) == {0, 3}
    share = dict(zip(experts_NK[0].tolist(), shares_NK[0].tolist(), strict=True))
    assert share == pytest.approx({0: 2.5 * 0.6 / 0.8, 3: 2.5 * 0.2 / 0.8})


def test_a_lost_group_stays_out_even_where_all_biases_are_negative() -> None:
    gate = make_gate(n_group=2, topk_group=1)
    gate.e_score_correction_bias.fill_(-5.0)
    # Masked with zero instead of -inf, the group that lost would win every place.
    assert chosen(gate, [0.1, 0.2, 0.6, 0.7]) == {2, 3}


def test_v3_ranks_groups_by_their_two_best_and_v2_by_the_best() -> None:
    groups = {"n_routed_experts": 6, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 1}
    scores = [0.5, 0.45, 0.0, 0.6, 0.1, 0.05]
    assert chosen(make_gate(**groups), scores) == {0}
    assert chosen(make_gate(**groups, topk_method="group_limited_greedy"), scores) == {3}


def test_greedy_choice_knows_no_groups_and_no_bias() -> None:
    gate = make_gate(n_group=2, topk_group=1, topk_method="greedy", norm_topk_prob=False)
    assert chosen(gate, [0.9, 0.1, 0.8, 0.2]) == {0, 2}
    assert "e_score_correction_bias" not in gate.state_dict()


def test_unnormalised_shares_are_the_scores_themselves() -> None:
    gate = make_gate(norm_topk_prob=False, scoring_func="softmax", topk_method="greedy")
    _, shares_NK = gate.choose(torch.tensor([[0.4, 0.3, 0.2, 0.1]]))
    assert sorted(shares_NK[0].tolist()) == pytest.approx([0.3, 0.4])


@pytest.mark.parametrize("scoring_func", ["sigmoid", "softmax"])
def test_scores_are_fp32_in_a_bf16_model(scoring_func: str) -> None:
    gate = make_gate(scoring_func=scoring_func)
    torch.nn.init.normal_(gate.weight, generator=torch.Generator().manual_seed(0))
    gate.to(torch.bfloat16)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(1)).bfloat16()
    logits = x.float() @ gate.weight.float().T
    expected = logits.sigmoid() if scoring_func == "sigmoid" else logits.softmax(-1)
    assert gate.scores(x).dtype == torch.float32
    torch.testing.assert_close(gate.scores(x), expected)


def test_a_cast_to_bf16_leaves_the_bias_unrounded() -> None:
    gate = make_gate()
    bias = torch.tensor([0.001, -0.1234567, 1.0009765, 0.0])
    gate.e_score_correction_bias.copy_(bias)
    gate.to(torch.bfloat16)
    assert gate.weight.dtype == torch.bfloat16
    assert torch.equal(gate.e_score_correction_bias, bias)


def test_balance_loss_follows_the_printed_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(3, 5, 6, generator=generator)
    lengths, num_choices = [5, 3, 0], 2
    valid = torch.arange(5) < torch.tensor(lengths)[:, None]
    by_row = []
    for row, length in zip(scores, lengths, strict=True):
        if length == 0:
            continue
        total = 0.0
        for expert in range(6):
            ranked = sum(expert in row[t].topk(num_choices).indices.tolist() for t in range(length))
            f = 6 / (num_choices * length) * ranked
            p = sum((row[t, expert] / row[t].sum()).item() for t in range(length)) / length
            total += f * p
        by_row.append(total)
    expected = math.fsum(by_row) / len(by_row)
    assert sequence_balance_loss(scores, valid, num_choices).item() == pytest.approx(expected, rel=1e-5)


def test_balance_loss_is_one_for_even_use_and_falls_towards_it() -> None:
    even = torch.tensor([[[0.9, 0.1], [0.1, 0.9]]])
    crowded = torch.tensor([[[0.9, 0.1], [0.8, 0.2]]], requires_grad=True)
    assert sequence_balance_loss(even, None, 1).item() == pytest.approx(1.0)
    loss = sequence_balance_loss(crowded, None, 1)
    assert loss.item() > 1.5
    loss.backward()
    assert crowded.grad is not None
    assert (crowded.grad[..., 0] > 0).all() and (crowded.grad[..., 1] < 0).all()
