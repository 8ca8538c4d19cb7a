from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from openbook.rl.objective import ObjectiveConfig
from openbook.rl.surrogate import SURROGATES, Surrogate, Taken, importance_ratio


def surrogate(config: ObjectiveConfig, ratio: Tensor, advantages: Tensor) -> tuple[Surrogate, Tensor]:
    """The surrogate of tokens with these ratios, one a row, and its gradient at their log-probabilities."""
    logprobs = ratio.log().clone().requires_grad_()
    taken = Taken(
        ratio=logprobs.exp()[:, None], logprobs_BT=logprobs[:, None], advantages_B1=advantages[:, None]
    )
    result = SURROGATES[config.loss_type](taken, config)
    (gradient,) = torch.autograd.grad(result.loss.sum(), logprobs)
    return result, gradient


RATIOS = torch.tensor([0.2, 0.75, 0.9, 1.0, 1.15, 1.25, 1.5, 3.0, 12.0], dtype=torch.float64)
SIGNS = [1.5, -0.7]


@pytest.mark.parametrize("advantage", SIGNS)
def test_a_higher_clip_gives_more_room_above_only(advantage: float) -> None:
    config = ObjectiveConfig(epsilon=0.2, epsilon_high=0.28)
    result, gradient = surrogate(config, RATIOS, torch.full_like(RATIOS, advantage))
    for ratio, loss, slope, cut in zip(
        RATIOS.tolist(), result.loss[:, 0].tolist(), gradient.tolist(), result.was_cut[:, 0], strict=True
    ):
        free = (ratio <= 1.28) if advantage > 0 else (ratio >= 0.8)
        counted = ratio if free else (1.28 if advantage > 0 else 0.8)
        assert loss == pytest.approx(-counted * advantage)
        assert slope == pytest.approx(-ratio * advantage if free else 0.0)
        assert bool(cut) == (not free)


def test_delta_caps_what_a_negative_advantage_may_cost() -> None:
    config = ObjectiveConfig(delta=2.0)
    result, gradient = surrogate(config, torch.tensor([1.5, 3.0]), torch.tensor([-1.0, -1.0]))
    assert result.loss[:, 0].tolist() == pytest.approx([1.5, 2.0])
    assert gradient.tolist() == pytest.approx([1.5, 0.0])
    assert result.was_cut[:, 0].tolist() == [False, True]


def dual_clip_of_verl(ratio: float, advantage: float, low: float, high: float, c: float) -> float:
    """verl's compute_policy_loss, term by term."""
    pg_losses1 = -advantage * ratio
    pg_losses2 = -advantage * min(max(ratio, 1 - low), 1 + high)
    clip_pg_losses1 = max(pg_losses1, pg_losses2)
    pg_losses3 = -advantage * c
    return min(pg_losses3, clip_pg_losses1) if advantage < 0 else clip_pg_losses1


@pytest.mark.parametrize("advantage", SIGNS)
def test_the_dual_clip_is_verls(advantage: float) -> None:
    config = ObjectiveConfig(loss_type="dapo", epsilon=0.2, epsilon_high=0.28, clip_ratio_c=3.0)
    result, gradient = surrogate(config, RATIOS, torch.full_like(RATIOS, advantage))
    expected = [dual_clip_of_verl(ratio, advantage, 0.2, 0.28, 3.0) for ratio in RATIOS.tolist()]
    assert result.loss[:, 0].tolist() == pytest.approx(expected, abs=1e-12)
    if advantage < 0:
        assert float(result.loss[-1, 0].detach()) == pytest.approx(2.1) and float(gradient[-1]) == 0.0
        assert bool(result.was_cut[-1, 0])


@pytest.mark.parametrize("advantage", SIGNS)
def test_cispo_with_both_bounds_is_verls(advantage: float) -> None:
    """verl: -A sg(clamp(ratio, 1 - clip_ratio_low, 1 + clip_ratio_high)) log pi, here with 0.9 and 4."""
    config = ObjectiveConfig(loss_type="cispo", epsilon_high=1 + 4.0, cispo_ratio_min=1 - 0.9)
    ratios = torch.tensor([0.05, 0.5, 1.0, 4.9, 7.0], dtype=torch.float64)
    result, gradient = surrogate(config, ratios, torch.full_like(ratios, advantage))
    bounded = [min(max(ratio, 1 - 0.9), 1 + 4.0) for ratio in ratios.tolist()]
    expected = [-advantage * one * math.log(r) for one, r in zip(bounded, ratios.tolist(), strict=True)]
    assert result.loss[:, 0].tolist() == pytest.approx(expected, abs=1e-12)
    assert gradient.tolist() == pytest.approx([-advantage * one for one in bounded])
    assert result.was_cut[:, 0].tolist() == [True, False, False, False, True]


def test_cispo_takes_trls_epsilon_high_as_the_cap_itself() -> None:
    config = ObjectiveConfig(loss_type="cispo", epsilon_high=5.0)
    _, gradient = surrogate(config, torch.tensor([0.01, 4.0, 6.0]), torch.ones(3))
    assert gradient.tolist() == pytest.approx([-0.01, -4.0, -5.0])


@pytest.mark.parametrize("advantage", SIGNS)
def test_sapo_by_the_formula(advantage: float) -> None:
    config = ObjectiveConfig(loss_type="sapo", sapo_temperature_pos=1.0, sapo_temperature_neg=1.05)
    result, _ = surrogate(config, RATIOS, torch.full_like(RATIOS, advantage))
    tau = 1.0 if advantage > 0 else 1.05
    expected = [-4 / tau / (1 + math.exp(-tau * (ratio - 1))) * advantage for ratio in RATIOS.tolist()]
    assert result.loss[:, 0].tolist() == pytest.approx(expected, abs=1e-6)  # tau is fp32, as in TRL


def test_reinforce_knows_no_ratio() -> None:
    config = ObjectiveConfig(loss_type="reinforce")
    _, gradient = surrogate(config, RATIOS, torch.full_like(RATIOS, 0.7))
    assert gradient.tolist() == pytest.approx([-0.7] * len(RATIOS))


def test_the_ratio_of_a_sequence_is_the_geometric_mean_of_its_tokens() -> None:
    logprobs = torch.tensor([[math.log(2), math.log(8), 9.0], [math.log(3), 0.0, 0.0]], requires_grad=True)
    old, mask = torch.zeros(2, 3), torch.tensor([[1.0, 1, 0], [1, 0, 0]])
    ratio = importance_ratio(logprobs, old, mask, "sequence")
    assert ratio.tolist() == [[pytest.approx(4.0)], [pytest.approx(3.0)]]
    (gradient,) = torch.autograd.grad(ratio.sum(), logprobs)
    assert gradient.tolist() == [pytest.approx([2.0, 2.0, 0.0]), pytest.approx([3.0, 0.0, 0.0])]
