from __future__ import annotations

import math

import pytest
import torch

from openbook.rl.kl import k1, k2, k3


@pytest.mark.parametrize(
    ("log_ratio", "value"),
    [(0.0, 0.0), (0.1, 0.0051709), (-0.1, 0.0048374), (1.0, 0.718282), (-1.0, 0.367879)],
)
def test_k3_has_the_values_of_the_text_book(log_ratio: float, value: float) -> None:
    """At ln(reference / policy), as John Schulman wrote the estimate down."""
    policy = torch.tensor(-2.0, dtype=torch.float64)
    assert float(k3(policy, policy + log_ratio)) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("log_ratio", [0.0, 0.3, -0.7])
def test_k1_and_k2_by_hand(log_ratio: float) -> None:
    policy = torch.tensor(-2.0, dtype=torch.float64)
    assert float(k1(policy, policy + log_ratio)) == pytest.approx(-log_ratio)
    assert float(k2(policy, policy + log_ratio)) == pytest.approx(log_ratio**2 / 2)


def test_k3_pulls_towards_the_reference() -> None:
    for reference in (-1.0, -3.0):
        policy = torch.tensor(-2.0, requires_grad=True)
        k3(policy, torch.tensor(reference)).backward()
        assert policy.grad is not None
        assert (float(policy.grad) < 0) == (reference > -2.0)
        assert float(policy.grad) == pytest.approx(1 - math.exp(reference + 2.0), abs=1e-6)


def test_the_means_of_k1_and_k3_are_the_divergence() -> None:
    policy = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    reference = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64).log()
    divergence = float((policy.exp() * (policy - reference)).sum())
    for estimate in (k1, k3):
        assert float((policy.exp() * estimate(policy, reference)).sum()) == pytest.approx(divergence)
