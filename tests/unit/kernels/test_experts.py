from __future__ import annotations

import torch

from openbook.kernels.experts import (
    ExpertWeights,
    can_group,
    plan_dispatch,
    routed_experts,
)


def make_weights(
    num_experts: int, width: int, inner: int, dtype: torch.dtype = torch.float32
) -> ExpertWeights:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).mul(0.3).to(dtype).requires_grad_()

    return ExpertWeights(
        gate_EID=draw(num_experts, inner, width),
        up_EID=draw(num_experts, inner, width),
        down_EDI=draw(num_experts, width, inner),
    )


def every_pair_by_itself(
    x_ND: torch.Tensor, weights: ExpertWeights, experts_NK: torch.Tensor, shares_NK: torch.Tensor
) -> torch.Tensor:
    """The definition: token by token, choice by choice."""
    rows = []
    for x_D, experts_K, shares_K in zip(x_ND, experts_NK.tolist(), shares_NK, strict=True):
        parts = [
            share
            * (
                weights.down_EDI[expert]
                @ (torch.nn.functional.silu(weights.gate_EID[expert] @ x_D) * (weights.up_EID[expert] @ x_D))
            )
            for expert, share in zip(experts_K, shares_K, strict=True)
        ]
        rows.append(torch.stack(parts).sum(0))
    return torch.stack(rows)


def make_routing(num_tokens: int, num_experts: int, num_choices: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(num_tokens, num_experts, generator=generator)
    scores[:, 1] = -1  # expert 1 gets nothing
    experts_NK = scores.topk(num_choices).indices
    return experts_NK, torch.rand(num_tokens, num_choices, generator=generator)


def test_dispatch_sorts_copies_by_expert_and_knows_the_way_back() -> None:
    dispatch = plan_dispatch(torch.tensor([[2, 0], [0, 2], [2, 3]]), 4)
    assert dispatch.source_M.tolist() == [0, 1, 0, 1, 2, 2]
    assert dispatch.order_M[dispatch.place_NK.flatten()].tolist() == [0, 1, 2, 3, 4, 5]
    assert dispatch.counts_E.tolist() == [2, 0, 3, 1]


def test_routed_experts_are_the_weighted_sum_by_definition() -> None:
    weights, (experts_NK, shares_NK) = make_weights(5, 8, 12), make_routing(17, 5, 2)
    x_ND = torch.randn(17, 8, generator=torch.Generator().manual_seed(2))
    mixed_ND, counts_E = routed_experts(x_ND, weights, experts_NK, shares_NK)
    torch.testing.assert_close(mixed_ND, every_pair_by_itself(x_ND, weights, experts_NK, shares_NK))
    assert counts_E.tolist() == [int((experts_NK == expert).sum()) for expert in range(5)]
    assert counts_E[1] == 0


def test_routed_experts_have_exact_gradients() -> None:
    weights, (experts_NK, shares_NK) = make_weights(3, 4, 3, torch.float64), make_routing(5, 3, 2)
    x_ND = torch.randn(5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64).requires_grad_()

    def mixed(
        x: torch.Tensor, shares: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor
    ):
        return routed_experts(x, ExpertWeights(gate_EID=gate, up_EID=up, down_EDI=down), experts_NK, shares)[
            0
        ]

    inputs = (x_ND, shares_NK.double().requires_grad_(), weights.gate_EID, weights.up_EID, weights.down_EDI)
    assert torch.autograd.gradcheck(mixed, inputs)


def test_weights_that_the_grouped_product_refuses_are_told_apart() -> None:
    assert can_group(make_weights(2, 8, 12))
    assert not can_group(make_weights(2, 6, 12))
    assert not can_group(make_weights(2, 8, 12, torch.float64))
    assert not can_group(make_weights(2, 8, 12, torch.bfloat16))


def test_no_tokens_at_all_give_no_rows() -> None:
    nothing = torch.zeros(0, 2, dtype=torch.int64)
    mixed_ND, counts_E = routed_experts(torch.zeros(0, 8), make_weights(3, 8, 4), nothing, torch.zeros(0, 2))
    assert mixed_ND.shape == (0, 8)
    assert counts_E.tolist() == [0, 0, 0]


def test_an_expanded_gradient_is_taken() -> None:
    # The grouped product refuses one; the way back to the sorted places writes it out.
    weights, (experts_NK, shares_NK) = make_weights(4, 8, 8), make_routing(6, 4, 2)
    x_ND = torch.randn(6, 8, generator=torch.Generator().manual_seed(4))
    mixed_ND, _ = routed_experts(x_ND, weights, experts_NK, shares_NK)
    (grouped,) = torch.autograd.grad(mixed_ND.sum(), weights.gate_EID)
    expected = every_pair_by_itself(x_ND, weights, experts_NK, shares_NK)
    (definition,) = torch.autograd.grad(expected.sum(), weights.gate_EID)
    torch.testing.assert_close(grouped, definition)
