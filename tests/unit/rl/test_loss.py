from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from openbook.rl.aggregation import StepSize
from openbook.rl.loss import AGGREGATIONS, LossInputs, LossTerms, policy_loss
from openbook.rl.objective import OPTIONS, ObjectiveConfig
from openbook.rl.surrogate import SURROGATES

EPSILON, BETA = 0.2, 0.04
GRPO = ObjectiveConfig(epsilon=EPSILON, beta=BETA)


def loss_of(
    logprobs: Tensor,
    old: Tensor,
    ref: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    *,
    config: ObjectiveConfig = GRPO,
    whole: Tensor | None = None,
    num_batches: int = 1,
    **more: Tensor,
) -> LossTerms:
    """The loss of a batch; `whole` is the mask of the step that it is part of."""
    whole = mask if whole is None else whole
    size = StepSize(
        num_completions=len(whole),
        num_tokens=int(whole.sum()),
        num_batches=num_batches,
        max_tokens=10,
        num_measured=int(whole.any(1).sum()),
    )
    inputs = LossInputs(
        logprobs_BT=logprobs,
        entropy_BT=more.get("entropy", torch.zeros_like(mask)),
        old_logprobs_BT=old,
        sampler_logprobs_BT=more.get("sampler", old),
        ref_logprobs_BT=ref,
        weights=more.get("weights"),
        advantages_B=advantages,
        mask_BT=mask,
    )
    return policy_loss(inputs, config, size)


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
    terms = loss_of(logprob, old, None, torch.tensor([advantage]), ones)
    terms.total.backward()  # type: ignore[no-untyped-call]
    assert float(terms.total.detach()) == pytest.approx(-surrogate, abs=1e-6)
    assert logprob.grad is not None
    assert float(logprob.grad) == pytest.approx(-advantage * ratio if moves else 0.0, abs=1e-5)
    assert float(terms.clipped) == float(not moves)


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


ALL = {
    "grpo": GRPO,
    "dr_grpo": ObjectiveConfig(loss_type="dr_grpo", beta=BETA),
    "dapo": ObjectiveConfig(loss_type="dapo", epsilon_high=0.28, clip_ratio_c=3.0, beta=BETA),
    "bnpo": ObjectiveConfig(loss_type="bnpo", beta=BETA),
    "cispo": ObjectiveConfig(loss_type="cispo", epsilon_high=5.0, beta=BETA),
    "gspo": ObjectiveConfig(loss_type="gspo", epsilon=3e-4, epsilon_high=4e-4, beta=BETA),
    "sapo": ObjectiveConfig(loss_type="sapo", beta=BETA),
    "reinforce": ObjectiveConfig(loss_type="reinforce", beta=BETA),
}


def test_every_loss_is_known_to_every_table() -> None:
    assert ALL.keys() == OPTIONS.keys() == SURROGATES.keys() == AGGREGATIONS.keys()


@pytest.mark.parametrize("name", [name for name in ALL if name != "bnpo"])
def test_batches_of_a_step_add_up_to_the_whole(name: str) -> None:
    config = replace(ALL[name], entropy_coef=0.01)
    logprobs, old, ref, advantages, mask = draw()
    entropy = -logprobs * mask
    whole = loss_of(logprobs, old, ref, advantages, mask, config=config, entropy=entropy)
    (gradient,) = torch.autograd.grad(whole.total, logprobs, retain_graph=True)
    for cuts in ((0, 1, 6), (0, 2, 4, 6), tuple(range(7))):
        parts = [
            loss_of(
                *(one[a:b] for one in (logprobs, old, ref, advantages, mask)),
                config=config,
                whole=mask,
                entropy=entropy[a:b],
            )
            for a, b in pairwise(cuts)
        ]
        total = torch.stack([part.total for part in parts]).sum()
        torch.testing.assert_close(total, whole.total, atol=1e-12, rtol=1e-12)
        again = torch.autograd.grad(total, logprobs, retain_graph=True)[0]
        torch.testing.assert_close(again, gradient, atol=1e-12, rtol=1e-12)
        for part in ("kl", "clipped", "weight"):
            added = sum(float(getattr(one, part)) for one in parts)
            assert added == pytest.approx(float(getattr(whole, part)), rel=1e-12)


# On policy, every ratio 1, with advantages 1 for one token and -3 for four: minus the mean advantage.
MEANS = {
    "grpo": -(1 - 3) / 2,
    "gspo": -(1 - 3) / 2,
    "dapo": -(1 - 12) / 5,
    "dr_grpo": -(1 - 12) / (2 * 10),
    "sapo": -(2 * 1 - 2 / 1.05 * 3) / 2,  # sigmoid(0) 4 / tau = 2 / tau
    "cispo": -(1 - 12) / 5 * -1.0,  # times log pi = -1
    "reinforce": -(1 - 12) / 5 * -1.0,
    "bnpo": -(1 - 12) / 5,
}


@pytest.mark.parametrize("name", ALL)
def test_who_counts_how_much_by_hand(name: str) -> None:
    mask = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1]])
    logprobs = torch.full((2, 4), -1.0)
    terms = loss_of(logprobs, logprobs, logprobs, torch.tensor([1.0, -3.0]), mask, config=ALL[name])
    assert float(terms.total) == pytest.approx(MEANS[name], rel=1e-6)
    assert (float(terms.kl), float(terms.clipped), float(terms.weight)) == (0.0, 0.0, 1.0)


def test_bnpo_depends_on_how_the_step_is_cut() -> None:
    mask = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1]])
    logprobs, advantages = torch.full((2, 4), -1.0), torch.tensor([1.0, -3.0])
    parts = [
        loss_of(
            *(one[row : row + 1] for one in (logprobs, logprobs, logprobs, advantages, mask)),
            config=ALL["bnpo"],
            whole=mask,
            num_batches=2,
        )
        for row in range(2)
    ]
    assert sum(float(part.total) for part in parts) == pytest.approx(-(1 - 3) / 2)


def test_the_kl_with_its_correction_has_the_gradient_of_the_ratio_times_it() -> None:
    logprobs, old, ref, advantages, mask = draw()
    config = replace(GRPO, use_bias_correction_kl=True, kl_estimator="k1")
    plain = loss_of(logprobs, old, None, advantages, mask, config=config).total
    total = loss_of(logprobs, old, ref, advantages, mask, config=config).total
    per_token = (logprobs - old).exp() * (logprobs - ref)
    expected = BETA * ((per_token * mask).sum(1) / mask.sum(1)).mean()
    torch.testing.assert_close(total - plain, expected, atol=1e-12, rtol=1e-9)
    actual = torch.autograd.grad(total - plain, logprobs)[0]
    torch.testing.assert_close(actual, torch.autograd.grad(expected, logprobs)[0], atol=1e-12, rtol=1e-9)


def test_importance_weights_scale_the_surrogate_and_not_the_kl() -> None:
    logprobs, old, ref, advantages, mask = draw()
    kl = loss_of(logprobs, old, ref, 0 * advantages, mask).total
    whole = loss_of(logprobs, old, ref, advantages, mask).total
    half = loss_of(logprobs, old, ref, advantages, mask, weights=torch.full((6, 1), 0.5))
    torch.testing.assert_close(half.total, (whole + kl) / 2, atol=1e-12, rtol=1e-9)
    assert float(half.weight) == pytest.approx(0.5) and float(half.dropped) == 0.0


def test_a_masked_sequence_is_counted_and_has_its_kl_alone() -> None:
    logprobs, old, ref, advantages, mask = draw()
    weights = torch.ones(6, 1)
    weights[2] = 0
    terms = loss_of(logprobs, old, ref, advantages, mask, weights=weights)
    advantages = advantages.clone()
    advantages[2] = 0
    expected = loss_of(logprobs, old, ref, advantages, mask).total
    torch.testing.assert_close(terms.total, expected, atol=1e-12, rtol=1e-9)
    assert float(terms.dropped) == pytest.approx(1 / 6)
    assert float(terms.weight) == pytest.approx(5 / 6)


def test_the_entropy_bonus_is_the_mean_over_tokens_whatever_the_loss() -> None:
    logprobs, old, _, advantages, mask = draw()
    entropy = torch.rand(mask.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for config in ALL.values():
        plain = loss_of(logprobs, old, None, advantages, mask, config=config, entropy=entropy)
        config = replace(config, entropy_coef=0.3)
        bonus = loss_of(logprobs, old, None, advantages, mask, config=config, entropy=entropy)
        expected = -0.3 * float(entropy[mask.bool()].mean())
        assert float((bonus.total - plain.total).detach()) == pytest.approx(expected, abs=1e-9)


def test_only_the_most_uncertain_tokens_have_a_policy_loss() -> None:
    logprobs = torch.full((1, 5), -1.0, requires_grad=True)
    old, mask = torch.full((1, 5), -1.0), torch.tensor([[1.0, 1, 1, 1, 0]])
    entropy = torch.tensor([[0.1, 0.9, 0.5, 0.7, 3.0]])
    config = ObjectiveConfig(beta=0.0, top_entropy_quantile=0.5)
    loss_of(logprobs, old, None, torch.ones(1), mask, config=config, entropy=entropy).total.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [[0, -0.25, 0, -0.25, 0]]


def test_what_stands_outside_the_mask_does_not_matter() -> None:
    logprobs, old, ref, advantages, mask = draw()
    noise = 3.0 * (1 - mask)
    whole = loss_of(logprobs, old, ref, advantages, mask).total
    noisy = loss_of(logprobs + noise, old - noise, ref + 2 * noise, advantages, mask).total
    assert float(noisy.detach()) == float(whole.detach())
