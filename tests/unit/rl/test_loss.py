from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from openbook.rl.loss import LossTerms, grpo_loss, k3

EPSILON, BETA = 0.2, 0.04


def loss_of(
    logprobs: Tensor, old: Tensor, ref: Tensor, advantages: Tensor, mask: Tensor, count: int | None = None
) -> LossTerms:
    return grpo_loss(
        logprobs, old, ref, advantages, mask, epsilon=EPSILON, beta=BETA, num_completions=count or len(mask)
    )


def by_the_formula(
    logprobs: Tensor, old: Tensor, ref: Tensor, advantages: Tensor, mask: Tensor
) -> tuple[Tensor, float, float]:
    """DeepSeekMath equation 3 with equation 4, sum by sum: loss, mean KL, clipped share."""
    objective, kl_mean, clipped_share = torch.zeros((), dtype=logprobs.dtype), 0.0, 0.0
    num_outputs = len(mask)
    for i in range(num_outputs):
        tokens = [t for t in range(mask.shape[1]) if mask[i, t]]
        for t in tokens:
            ratio = (logprobs[i, t] - old[i, t]).exp()
            advantage = float(advantages[i])
            if advantage >= 0:
                surrogate = advantage * (ratio if ratio <= 1 + EPSILON else torch.tensor(1 + EPSILON))
                clipped = bool(ratio > 1 + EPSILON)
            else:
                surrogate = advantage * (ratio if ratio >= 1 - EPSILON else torch.tensor(1 - EPSILON))
                clipped = bool(ratio < 1 - EPSILON)
            inverse = ref[i, t].exp() / logprobs[i, t].exp()
            kl = inverse - inverse.log() - 1
            objective = objective + (surrogate - BETA * kl) / len(tokens) / num_outputs
            kl_mean += float(kl.detach()) / len(tokens) / num_outputs
            clipped_share += clipped / len(tokens) / num_outputs
    return -objective, kl_mean, clipped_share


def draw(num_rows: int = 6, num_tokens: int = 9) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities, the sampler's, the reference's, advantages and a ragged mask, in fp64."""
    generator = torch.Generator().manual_seed(1)

    def near(center: Tensor, spread: float) -> Tensor:
        return center + spread * torch.randn(center.shape, generator=generator, dtype=torch.float64)

    old = near(torch.full((num_rows, num_tokens), -2.0, dtype=torch.float64), 0.5)
    mask = torch.zeros_like(old)
    for row in range(num_rows):
        mask[row, row % 3 : num_tokens - row] = 1
    advantages = near(torch.zeros(num_rows, dtype=torch.float64), 1.0)
    return near(old, 0.3).requires_grad_(), old, near(old, 0.3), advantages, mask


def test_the_loss_its_gradient_and_its_parts_are_those_of_the_formula() -> None:
    logprobs, old, ref, advantages, mask = draw()
    terms = loss_of(logprobs, old, ref, advantages, mask)
    expected, kl, clipped = by_the_formula(logprobs, old, ref, advantages, mask)
    assert float(terms.total.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
    assert float(terms.kl) == pytest.approx(kl, abs=1e-6)
    assert float(terms.clipped) == pytest.approx(clipped, abs=1e-6)
    assert 0.1 < clipped < 0.9 and {bool(value > 0) for value in advantages} == {True, False}
    (gradient,) = torch.autograd.grad(terms.total, logprobs)
    (expected_gradient,) = torch.autograd.grad(expected, logprobs)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-6, rtol=0)
    assert (gradient[mask == 0] == 0).all() and gradient[mask == 1].any()


# ratio, advantage -> surrogate, and whether the ratio still has a gradient
CLIPS = [
    (1.0, 1.0, 1.0, True),
    (1.1, 1.0, 1.1, True),
    (1.5, 1.0, 1.2, False),
    (0.5, 1.0, 0.5, True),
    (1.0, -1.0, -1.0, True),
    (0.9, -1.0, -0.9, True),
    (0.5, -1.0, -0.8, False),
    (1.5, -1.0, -1.5, True),
    (1.5, -2.0, -3.0, True),
    (7.0, 0.0, 0.0, True),
]


@pytest.mark.parametrize(("ratio", "advantage", "surrogate", "moves"), CLIPS)
def test_the_clip_is_one_sided_for_each_sign_of_the_advantage(
    ratio: float, advantage: float, surrogate: float, moves: bool
) -> None:
    logprob = torch.tensor([[math.log(ratio) - 1.0]], requires_grad=True)
    old, ones = torch.tensor([[-1.0]]), torch.ones(1, 1)
    terms = grpo_loss(
        logprob, old, old, torch.tensor([advantage]), ones, epsilon=0.2, beta=0.0, num_completions=1
    )
    terms.total.backward()  # type: ignore[no-untyped-call]
    assert float(terms.total.detach()) == pytest.approx(-surrogate, abs=1e-6)
    assert logprob.grad is not None
    assert float(logprob.grad) == pytest.approx(-advantage * ratio if moves else 0.0, abs=1e-5)
    assert float(terms.clipped) == float(not moves)


@pytest.mark.parametrize(
    ("log_ratio", "value"),
    [(0.0, 0.0), (0.1, 0.0051709), (-0.1, 0.0048374), (1.0, 0.718282), (-1.0, 0.367879)],
)
def test_k3_has_the_values_of_the_text_book(log_ratio: float, value: float) -> None:
    """At ln(reference / policy), as John Schulman wrote the estimate down."""
    policy = torch.tensor(-2.0, dtype=torch.float64)
    assert float(k3(policy, policy + log_ratio)) == pytest.approx(value, abs=1e-6)


def test_k3_pulls_towards_the_reference() -> None:
    for reference in (-1.0, -3.0):
        policy = torch.tensor(-2.0, requires_grad=True)
        k3(policy, torch.tensor(reference)).backward()  # type: ignore[no-untyped-call]
        assert policy.grad is not None
        assert (float(policy.grad) < 0) == (reference > -2.0)
        assert float(policy.grad) == pytest.approx(1 - math.exp(reference + 2.0), abs=1e-6)


def test_every_completion_counts_the_same_whatever_its_length() -> None:
    # One completion of one token, one of four: each mean is its own advantage.
    mask = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1]])
    logprobs = torch.full((2, 4), -1.0)
    terms = loss_of(logprobs, logprobs, logprobs, torch.tensor([1.0, -3.0]), mask)
    assert float(terms.total) == pytest.approx(-(1.0 - 3.0) / 2)


def test_a_group_by_hand() -> None:
    """Two completions, advantages 0.5 and -0.5, one token with ratio 1.1 and one with ratio 0.7 and 1."""
    old = torch.tensor([[-1.0, 0.0], [-1.0, -2.0]])
    logprobs = old + torch.tensor([[math.log(1.1), 0.0], [math.log(0.7), 0.0]])
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    ref = logprobs + torch.tensor([[0.1, 5.0], [0.0, -0.1]])
    terms = loss_of(logprobs, old, ref, torch.tensor([0.5, -0.5]), mask)
    surrogate = (0.5 * 1.1 + (-0.5 * 0.8 - 0.5 * 1.0) / 2) / 2
    kl = (0.0051709 + (0.0 + 0.0048374) / 2) / 2
    assert float(terms.total) == pytest.approx(-surrogate + 0.04 * kl, abs=1e-6)
    assert float(terms.kl) == pytest.approx(kl, abs=1e-6)
    assert float(terms.clipped) == pytest.approx((0 + 1 / 2) / 2)


def test_batches_of_a_step_add_up_to_the_whole() -> None:
    logprobs, old, ref, advantages, mask = draw()
    whole = loss_of(logprobs, old, ref, advantages, mask)
    (gradient,) = torch.autograd.grad(whole.total, logprobs)
    for cuts in ((0, 1, 6), (0, 2, 4, 6), tuple(range(7))):
        parts = [
            loss_of(logprobs[a:b], old[a:b], ref[a:b], advantages[a:b], mask[a:b], count=6)
            for a, b in pairwise(cuts)
        ]
        total = torch.stack([part.total for part in parts]).sum()
        torch.testing.assert_close(total, whole.total, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(torch.autograd.grad(total, logprobs)[0], gradient, atol=1e-12, rtol=1e-12)
        assert sum(float(part.kl) for part in parts) == pytest.approx(float(whole.kl), rel=1e-12)
        assert sum(float(part.clipped) for part in parts) == pytest.approx(float(whole.clipped), rel=1e-12)


def test_what_stands_outside_the_mask_does_not_matter() -> None:
    logprobs, old, ref, advantages, mask = draw()
    noise = 3.0 * (1 - mask)
    whole = loss_of(logprobs, old, ref, advantages, mask).total
    noisy = loss_of(logprobs + noise, old - noise, ref + 2 * noise, advantages, mask).total
    assert float(noisy.detach()) == float(whole.detach())
