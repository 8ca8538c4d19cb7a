"""Our choice of experts against DeepSeek's rule written out for one token at a time (DeepSeek-V3 2.1.2)."""

from __future__ import annotations

import torch

from openbook.model.config import MoEConfig
from openbook.model.moe import Gate

MOE = MoEConfig(
    n_routed_experts=12,
    n_shared_experts=1,
    num_experts_per_tok=4,
    moe_intermediate_size=8,
    n_group=4,
    topk_group=2,
    routed_scaling_factor=2.5,
)


def rule(scores: list[float], biases: list[float], moe: MoEConfig) -> dict[int, float]:
    """The experts of one token with their shares, by plain sorting."""
    biased = [score + bias for score, bias in zip(scores, biases, strict=True)]
    size = len(scores) // moe.n_group
    groups = [range(first, first + size) for first in range(0, len(scores), size)]
    groups.sort(key=lambda group: -sum(sorted(biased[expert] for expert in group)[-2:]))
    candidates = [expert for group in groups[: moe.topk_group] for expert in group]
    chosen = sorted(candidates, key=lambda expert: -biased[expert])[: moe.num_experts_per_tok]
    whole = sum(scores[expert] for expert in chosen)
    return {expert: scores[expert] / whole * moe.routed_scaling_factor for expert in chosen}


def test_with_negative_biases_no_expert_outside_the_kept_groups_is_chosen() -> None:
    generator = torch.Generator().manual_seed(0)
    gate = Gate(16, MOE)
    # Every biased score is below zero: a discarded group masked with zeros would win each choice.
    gate.e_score_correction_bias.copy_(-1.5 + 0.4 * torch.rand(12, generator=generator))
    scores_NE = torch.rand(50, 12, generator=generator)
    experts_NK, shares_NK = gate.choose(scores_NE)
    for scores, experts, shares in zip(scores_NE.tolist(), experts_NK.tolist(), shares_NK, strict=True):
        expected = rule(scores, gate.e_score_correction_bias.tolist(), MOE)
        assert set(experts) == set(expected)
        torch.testing.assert_close(shares, torch.tensor([expected[expert] for expert in experts]))


def test_the_bias_moves_the_choice_but_not_the_shares() -> None:
    gate = Gate(16, MOE)
    scores_NE = torch.full((1, 12), 0.5)
    gate.e_score_correction_bias[[3, 4, 9, 10]] = 0.3
    experts_NK, shares_NK = gate.choose(scores_NE)
    assert set(experts_NK[0].tolist()) == {3, 4, 9, 10}
    torch.testing.assert_close(shares_NK, torch.full((1, 4), 2.5 / 4))
