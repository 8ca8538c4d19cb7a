from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from openbook.engine.types import Completion, FinishReason
from openbook.model.transformer import Transformer
from openbook.rl.config import RLConfig
from openbook.rl.experience import Policies, gather, kl_of_rollout
from openbook.rl.types import Group, RewardedGroup, Rollout
from openbook.rl.update import Updated, update
from openbook.train.config import OptimConfig, ScheduleConfig
from openbook.train.optim import Optimizers
from openbook.train.state import TrainState

BARE = RLConfig(
    num_steps=10,
    num_problems=4,
    num_generations=3,
    max_tokens=12,
    beta=0.0,
    balance_weight=0.0,
    bias_update_rate=0.0,
    tokens_per_batch=40,
    optim=OptimConfig(muon_learning_rate=5e-3, adamw_learning_rate=1e-3, max_grad_norm=0.0),
    schedule=ScheduleConfig(warmup_steps=0, decay="none"),
)
PAD = 0
MakeTiny = Callable[..., Transformer]
MakeRollout = Callable[..., Rollout]


@pytest.fixture
def make_groups(make_rollout: MakeRollout) -> Callable[..., list[RewardedGroup]]:
    """Groups with these advantages; ragged completions whose log-probabilities are about the model's."""

    def make(*rows: Sequence[float], **fields: Any) -> list[RewardedGroup]:
        rng = np.random.default_rng(5)

        def rollout(number: int) -> Rollout:
            ids = tuple(int(one) for one in rng.integers(1, 40, size=2 + number % 5))
            made = make_rollout(prompt_ids=tuple(range(1, 4 + number % 3)), token_ids=ids)
            logprobs = tuple(float(one) for one in rng.normal(-3.7, 0.3, size=len(ids)))
            completion = replace(made.attempt.completion, logprobs=logprobs, **fields)
            return replace(made, attempt=replace(made.attempt, completion=completion))

        return [
            RewardedGroup(
                group=Group(rollouts=tuple(rollout(3 * row + one) for one in range(len(advantages)))),
                advantages=tuple(advantages),
            )
            for row, advantages in enumerate(rows)
        ]

    return make


MIXED = ((1.0, -0.5, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.3, 0.0, -0.9))


def policies_of(model: Transformer, reference: Transformer | None = None) -> Policies:
    return Policies(policy=model, reference=reference, pad_id=PAD)


def learn(
    model: Transformer,
    groups: Sequence[RewardedGroup],
    config: RLConfig,
    reference: Transformer | None = None,
) -> Updated:
    state = TrainState(model=model, optimizers=Optimizers(model, config.optim))
    return update(state, policies_of(model, reference), groups, config)


def weights(model: Transformer) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in model.named_parameters()}


LOSSES: dict[str, dict[str, Any]] = {
    "grpo": {},
    "dapo": {"epsilon_high": 0.28},
    "dr_grpo": {},
    "gspo": {},
    "sapo": {},
    "cispo": {"epsilon_high": 5.0},
    "reinforce": {},
}


@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize("num_minibatches", [1, 2, 4])
def test_the_gradient_without_the_rows_of_no_advantage_is_the_same_gradient(
    make_tiny: MakeTiny,
    make_groups: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    loss_type: Any,
    num_minibatches: int,
) -> None:
    """Of four minibatches two have nothing to say, and a gradient of zeros all the same."""
    gradients: list[dict[str, Tensor]] = []

    def keep(optimizers: Optimizers, share: float) -> None:
        named = {name: one for name, one in optimizers._named.items() if one.grad is not None}
        gradients.append({name: one.grad.clone() for name, one in named.items() if one.grad is not None})
        for one in named.values():
            one.grad = None

    monkeypatch.setattr(Optimizers, "step", keep)
    tokens = []
    for skips in (True, False):
        config = replace(
            BARE,
            loss_type=loss_type,
            num_minibatches=num_minibatches,
            skip_zero_advantages=skips,
            **LOSSES[loss_type],
        )
        tokens.append(learn(make_tiny(vocab_size=40), make_groups(*MIXED), config).num_tokens)
    assert tokens[0] < 0.6 * tokens[1]
    skipping, whole = gradients[:num_minibatches], gradients[num_minibatches:]
    for less, more in zip(skipping, whole, strict=True):
        assert less.keys() == more.keys()
        for name, value in less.items():
            torch.testing.assert_close(value, more[name], atol=1e-7, rtol=1e-5, msg=name)
    assert max(float(one.abs().max()) for one in whole[0].values()) > 1e-3


def test_an_optimizer_with_momentum_takes_the_steps_it_would_have_taken(
    make_tiny: MakeTiny, make_groups: Callable[..., Any]
) -> None:
    adamw = OptimConfig(matrix_optimizer="adamw", adamw_learning_rate=1e-3, max_grad_norm=0.0)
    config = replace(BARE, num_minibatches=4, optim=adamw)
    skipping, whole = make_tiny(vocab_size=40), make_tiny(vocab_size=40)
    less = learn(skipping, make_groups(*MIXED), config).metrics
    more = learn(whole, make_groups(*MIXED), replace(config, skip_zero_advantages=False)).metrics
    assert less["grad_norm"] == pytest.approx(more["grad_norm"], rel=1e-4)
    assert less["loss"] == pytest.approx(more["loss"], abs=1e-6)
    expected, start = weights(whole), weights(make_tiny(vocab_size=40))
    name = "model.embed_tokens.weight"
    torch.testing.assert_close(weights(skipping)[name], expected[name], atol=1e-5, rtol=0)
    assert float((expected[name] - start[name]).abs().max()) > 2e-3


def test_where_rows_have_another_part_in_the_update_none_is_left_out(
    make_tiny: MakeTiny, make_groups: Callable[..., Any]
) -> None:
    groups = make_groups(*MIXED)
    num_tokens = sum(
        len(one.attempt.completion.prompt_ids) + len(one.attempt.completion.token_ids) - 1
        for group in groups
        for one in group.group.rollouts
    )
    for fields in ({"balance_weight": 0.1}, {"entropy_coef": 0.1}, {"loss_type": "bnpo"}, {"beta": 0.1}):
        config = replace(BARE, share_prompts=False, **fields)
        updated = learn(make_tiny(vocab_size=40), groups, config, make_tiny(seed=7, vocab_size=40))
        assert updated.num_tokens == num_tokens, fields


def test_a_step_is_the_same_however_it_is_cut_into_batches(
    make_tiny: MakeTiny, make_groups: Callable[..., Any]
) -> None:
    for loss_type in ("grpo", "dapo", "dr_grpo"):
        metrics = [
            learn(
                make_tiny(vocab_size=40),
                make_groups(*MIXED),
                replace(BARE, loss_type=loss_type, tokens_per_batch=size, entropy_coef=0.1),
            ).metrics
            for size in (13, 1000)
        ]
        assert metrics[0] == pytest.approx(metrics[1], rel=1e-4, abs=1e-7)


def test_a_rollout_can_be_gone_through_several_times(
    make_tiny: MakeTiny, make_groups: Callable[..., Any]
) -> None:
    model = make_tiny(vocab_size=40)
    config = replace(BARE, num_iterations=3, num_minibatches=2, skip_zero_advantages=False)
    state = TrainState(model=model, optimizers=Optimizers(model, config.optim))
    updated = update(state, policies_of(model), make_groups(*MIXED), config)
    assert state.optimizers.state_tensors()["model.norm.weight/step"].item() == 6
    once = learn(make_tiny(vocab_size=40), make_groups(*MIXED), replace(config, num_iterations=1))
    assert updated.num_tokens == 3 * once.num_tokens


def test_the_trainers_own_log_probabilities_are_from_before_the_first_update(
    make_tiny: MakeTiny, make_groups: Callable[..., Any]
) -> None:
    """The first update finds every ratio 1, whatever the sampler says; the second what the first did."""
    config = replace(BARE, old_logprobs="trainer", epsilon=0.0)
    groups = make_groups((1.0, -1.0, 1.0))
    once = learn(make_tiny(vocab_size=40), groups, config).metrics
    assert once["clipped_share"] == pytest.approx(0.0)
    assert once["loss"] == pytest.approx(-1 / 3, rel=1e-5)
    again = learn(make_tiny(vocab_size=40), groups, replace(config, num_iterations=2)).metrics
    assert again["clipped_share"] > 0.3
    by_sampler = learn(make_tiny(vocab_size=40), groups, replace(config, old_logprobs="sampler")).metrics
    assert by_sampler["clipped_share"] > 0.3


def test_importance_weights_are_of_the_trainer_before_its_first_update_against_the_sampler(
    make_tiny: MakeTiny, make_groups: Callable[..., Any]
) -> None:
    groups = make_groups((1.0, -1.0, 1.0))
    config = replace(BARE, old_logprobs="trainer", importance_correction="token_truncate", importance_cap=1.1)
    model = make_tiny(vocab_size=40)
    (experience,) = gather(policies_of(model), groups, config).experiences
    mask = experience.batch.mask_BT
    ratio = (experience.old_logprobs_BT - experience.batch.sampler_logprobs_BT).exp().clamp(max=1.1)
    mean = float((ratio * mask / mask.sum(1, keepdim=True)).sum() / 3)
    for num_iterations in (1, 4):
        updated = learn(make_tiny(vocab_size=40), groups, replace(config, num_iterations=num_iterations))
        assert updated.metrics["importance_weight_mean"] == pytest.approx(mean, rel=1e-5)
    assert 0.5 < mean < 1.1
    assert learn(model, groups, BARE).metrics["importance_weight_mean"] == 1.0


def test_sequences_that_a_correction_drops_are_counted(
    make_tiny: MakeTiny, make_groups: Callable[..., Any]
) -> None:
    config = replace(
        BARE, old_logprobs="trainer", importance_correction="sequence_mask", importance_floor=1.0
    )
    groups = make_groups((1.0, -1.0, 1.0))
    updated = learn(make_tiny(vocab_size=40), groups, config)
    (experience,) = gather(policies_of(make_tiny(vocab_size=40)), groups, config).experiences
    assert experience.weights is not None
    num_dropped = int((experience.weights == 0).sum())
    assert num_dropped > 0 and updated.metrics["dropped_share"] == pytest.approx(num_dropped / 3)
    never = replace(BARE, off_policy_mask_threshold=-100.0)
    assert learn(make_tiny(vocab_size=40), groups, never).metrics["dropped_share"] == pytest.approx(1 / 3)


def test_masked_and_forced_tokens_count_in_no_denominator(
    make_tiny: MakeTiny, make_groups: Callable[..., Any]
) -> None:
    model, groups = make_tiny(vocab_size=40), make_groups((1.0, -1.0, 1.0), forced=(0,))
    lengths = [len(one.attempt.completion.token_ids) for one in groups[0].group.rollouts]
    assert gather(policies_of(model), groups, BARE).size.num_tokens == sum(lengths) - 3
    cut = make_groups((1.0, -1.0, 1.0), finish_reason=FinishReason.LENGTH)
    config = replace(BARE, mask_truncated_completions=True, skip_zero_advantages=False)
    size = gather(policies_of(model), cut, config).size
    assert (size.num_completions, size.num_tokens, size.num_measured) == (3, 0, 0)
    updated = learn(model, cut, config)
    assert (updated.metrics["loss"], updated.metrics["grad_norm"]) == (0.0, 0.0)


def test_an_update_that_is_no_number_is_left_out_and_the_next_is_not_spoilt(
    make_tiny: MakeTiny, make_groups: Callable[..., Any]
) -> None:
    groups = make_groups((-1.0, 0.5, 0.5), (1.0, -1.0, 0.0))
    first = groups[0].group.rollouts[0]
    broken: Completion = replace(
        first.attempt.completion, logprobs=(-1000.0,) * len(first.attempt.completion.logprobs)
    )
    rollouts = (
        replace(first, attempt=replace(first.attempt, completion=broken)),
        *groups[0].group.rollouts[1:],
    )
    groups[0] = replace(groups[0], group=Group(rollouts=rollouts))
    config = replace(BARE, num_problems=2, num_minibatches=2)
    model, other = make_tiny(vocab_size=40), make_tiny(vocab_size=40)
    updated = learn(model, groups, config)
    assert updated.metrics["skipped_updates"] == 1.0
    assert learn(other, groups[1:], replace(BARE, num_problems=1)).metrics["skipped_updates"] == 0.0
    expected = weights(other)
    assert all(torch.equal(value, expected[name]) for name, value in weights(model).items())


def test_an_entropy_bonus_keeps_the_policy_open(make_tiny: MakeTiny, make_groups: Callable[..., Any]) -> None:
    entropies = []
    for coefficient in (0.0, 5.0):
        model = make_tiny(vocab_size=40, init_std=0.3)
        config = replace(BARE, entropy_coef=coefficient, num_iterations=15)
        learn(model, make_groups((1.0, -1.0, 1.0)), config)
        after = learn(model, make_groups((1.0, -1.0, 1.0)), replace(BARE, num_iterations=1))
        entropies.append(after.metrics["entropy"])
    assert entropies[1] > entropies[0] + 0.1


def test_the_kl_of_a_rollout_is_the_samplers_to_the_reference(
    make_tiny: MakeTiny, make_groups: Callable[..., Any]
) -> None:
    model, reference = make_tiny(vocab_size=40), make_tiny(seed=7, vocab_size=40)
    groups = [group.group for group in make_groups((0.0, 0.0), (0.0, 0.0, 0.0))]
    config = replace(BARE, beta=0.1, kl_in="reward", kl_estimator="k1", tokens_per_batch=13)
    kl = kl_of_rollout(policies_of(model, reference), groups, config)
    assert [len(row) for row in kl] == [2, 3]
    for row, group in zip(kl, groups, strict=True):
        for value, rollout in zip(row, group.rollouts, strict=True):
            one = rollout.attempt.completion
            ids = torch.tensor([[*one.prompt_ids, *one.token_ids]])
            with torch.no_grad():
                hidden = reference(ids[:, :-1]).hidden_BTD[0, len(one.prompt_ids) - 1 :]
                spread = reference.logits(hidden).log_softmax(-1)
            ref = spread.gather(1, ids[0, len(one.prompt_ids) :, None]).sum()
            assert value == pytest.approx(sum(one.logprobs) - float(ref), abs=1e-4)
