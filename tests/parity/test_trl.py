"""Every loss, advantage and correction beside TRL 1.16.0's own code, on the same tensors.

The trainer is made without its constructor: it has no model, and is told the log-probabilities of the tokens.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from openbook.rl.advantage import advantages
from openbook.rl.aggregation import StepSize
from openbook.rl.correction import importance_weights
from openbook.rl.loss import LossInputs, policy_loss
from openbook.rl.objective import ObjectiveConfig

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import trl
        from trl.trainer.grpo_trainer import GRPOTrainer
        from trl.trainer.rloo_trainer import RLOOTrainer
except ImportError as error:
    pytest.skip(f"TRL is not installed ({error}): pip install '.[trl]'", allow_module_level=True)
if trl.__version__ != "1.16.0":
    pytest.skip(f"TRL is {trl.__version__}; these comparisons are with 1.16.0", allow_module_level=True)

NUM_ROWS, NUM_TOKENS, MAX_TOKENS = 8, 11, 16
TIGHT = {"atol": 1e-6, "rtol": 1e-6}


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What a policy, its older selves and a reference say of some completions."""

    logprobs: Tensor
    entropy: Tensor
    old: Tensor
    sampler: Tensor
    ref: Tensor
    advantages: Tensor
    mask: Tensor


def draw(seed: int, spread: float = 0.4) -> Numbers:
    """Ragged completions, ratios on both sides of every clip, advantages of both signs and one of 0."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    old = -2.0 + 0.5 * noise(NUM_ROWS, NUM_TOKENS)
    lengths = torch.randint(1, NUM_TOKENS + 1, (NUM_ROWS,), generator=generator)
    lengths[0] = NUM_TOKENS
    mask = (torch.arange(NUM_TOKENS) < lengths[:, None]).long()
    scores = noise(NUM_ROWS)
    scores[3] = 0.0
    return Numbers(
        logprobs=(old + spread * noise(NUM_ROWS, NUM_TOKENS)).requires_grad_(),
        entropy=torch.rand(NUM_ROWS, NUM_TOKENS, generator=generator).requires_grad_(),
        old=old,
        sampler=old + 0.2 * noise(NUM_ROWS, NUM_TOKENS),
        ref=old + 0.3 * noise(NUM_ROWS, NUM_TOKENS),
        advantages=scores,
        mask=mask,
    )


def trainer_of(cls: Any, **settings: Any) -> Any:
    """A trainer with these settings and TRL's defaults, and with nothing to train."""
    trainer = cls.__new__(cls)
    accelerator = SimpleNamespace(
        device=torch.device("cpu"),
        num_processes=1,
        process_index=0,
        sync_gradients=True,
        gather=lambda one: one,
        gather_for_metrics=lambda one: one,
        reduce=lambda one, reduction: one,
        pad_across_processes=lambda one, dim, pad_index: one,
    )
    args = {
        "use_bias_correction_kl": False,
        "delta": None,
        "sapo_temperature_pos": 1.0,
        "sapo_temperature_neg": 1.05,
        "steps_per_generation": 1,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing_kwargs": None,
        "per_device_train_batch_size": NUM_ROWS,
        "normalize_advantages": False,
    }
    own = {
        "accelerator": accelerator,
        "model": SimpleNamespace(training=True, is_gradient_checkpointing=False),
        "ref_model": "reference",
        "aux_loss_enabled": False,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "importance_sampling_level": "token",
        "beta": 0.0,
        "loss_type": "grpo",
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "use_vllm": False,
        "vllm_importance_sampling_correction": False,
        "vllm_importance_sampling_mode": "sequence_mask",
        "vllm_importance_sampling_clip_min": None,
        "vllm_importance_sampling_clip_max": 3.0,
        "current_gradient_accumulation_steps": 1,
        "max_completion_length": MAX_TOKENS,
        "_entropy_bonus_enabled": False,
        "use_adaptive_entropy": False,
        "entropy_coef": 0.0,
        "_metrics": defaultdict(lambda: defaultdict(list)),
        "_logs": defaultdict(list, rewards=defaultdict(list), extra=defaultdict(list)),
        "environment_factories": None,
        "tools": [],
        "environments": [],
        "num_iterations": 1,
        "num_generations": 4,
        "mask_truncated_completions": False,
        "eos_token_ids": [1],
        "_tokenizer": SimpleNamespace(pad_token_id=0),
        "pad_to_multiple_of": None,
        "multi_objective_aggregation": "sum_then_normalize",
        "scale_rewards": "group",
        "reward_weights": torch.ones(1),
        "reward_funcs": [None],
        "reward_func_names": ["reward"],
        "reward_clip_range": None,
        "normalize_advantages": False,
        "_pending_extra_logs": {},
        "_pending_metrics": {},
        "log_multimodal": False,
    }
    for name in [name for name in settings if name in args]:
        args[name] = settings.pop(name)
    for name, value in {**own, **settings, "args": SimpleNamespace(**args)}.items():
        setattr(trainer, name, value)
    return trainer


def loss_of_trl(numbers: Numbers, settings: Mapping[str, Any], **inputs: Tensor) -> Tensor:
    trainer = trainer_of(GRPOTrainer, **settings)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (numbers.logprobs, numbers.entropy, None)
    inputs = {
        "prompt_ids": torch.zeros(NUM_ROWS, 2, dtype=torch.long),
        "prompt_mask": torch.ones(NUM_ROWS, 2, dtype=torch.long),
        "completion_ids": torch.zeros(NUM_ROWS, NUM_TOKENS, dtype=torch.long),
        "completion_mask": numbers.mask,
        "advantages": numbers.advantages,
        "old_per_token_logps": numbers.old,
        "sampling_per_token_logps": numbers.sampler,
        "ref_per_token_logps": numbers.ref,
        "num_items_in_batch": numbers.mask.sum(),
        **inputs,
    }
    loss: Tensor = trainer._compute_loss(None, inputs)
    return loss


def loss_of_ours(
    numbers: Numbers, config: ObjectiveConfig, whole: Tensor | None = None, num_batches: int = 1
) -> Tensor:
    mask = numbers.mask.float()
    whole = mask if whole is None else whole.float()
    size = StepSize(
        num_completions=len(whole),
        num_tokens=int(whole.sum()),
        num_batches=num_batches,
        max_tokens=MAX_TOKENS,
        num_measured=len(whole),
    )
    inputs = LossInputs(
        logprobs_BT=numbers.logprobs,
        entropy_BT=numbers.entropy * mask,
        old_logprobs_BT=numbers.old,
        sampler_logprobs_BT=numbers.sampler,
        ref_logprobs_BT=numbers.ref if config.kl_in_loss else None,
        weights=importance_weights(numbers.old, numbers.sampler, mask, config),
        advantages_B=numbers.advantages,
        mask_BT=mask,
    )
    return policy_loss(inputs, config, size).total


def assert_same(ours: Tensor, theirs: Tensor, numbers: Numbers) -> None:
    """In value, and in the gradients of the log-probabilities and of the entropies."""
    torch.testing.assert_close(ours.detach(), theirs.detach(), **TIGHT)
    for leaf in (numbers.logprobs, numbers.entropy):
        one, other = (
            torch.autograd.grad(loss, leaf, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
            for loss in (ours, theirs)
        )
        torch.testing.assert_close(one, other, **TIGHT)


def config_of(**fields: Any) -> ObjectiveConfig:
    return ObjectiveConfig(**{"beta": 0.0, **fields})


# Ours, TRL's where it is called otherwise.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "grpo": ({}, {}),
    "grpo, clip-higher": ({"epsilon_high": 0.28}, {}),
    "grpo as in R1": ({"epsilon": 10.0, "beta": 0.001}, {}),
    "grpo, two-sided": ({"delta": 1.5}, {}),
    "grpo, KL": ({"beta": 0.04}, {}),
    "grpo, corrected KL": ({"beta": 0.04, "use_bias_correction_kl": True}, {}),
    "dr_grpo": ({"loss_type": "dr_grpo"}, {}),
    "dapo": ({"loss_type": "dapo", "epsilon_high": 0.28}, {}),
    "dapo, KL": ({"loss_type": "dapo", "beta": 0.04}, {}),
    "bnpo": ({"loss_type": "bnpo", "epsilon_high": 0.28}, {}),
    "cispo": ({"loss_type": "cispo", "epsilon_high": 1.3}, {}),
    "cispo by sequence": (
        {"loss_type": "cispo", "epsilon_high": 1.1, "importance_sampling_level": "sequence"},
        {},
    ),
    "gspo": (
        {"loss_type": "gspo", "epsilon": 3e-2, "epsilon_high": 4e-2},
        {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    ),
    "gspo, corrected KL": (
        {"loss_type": "gspo", "epsilon": 3e-2, "beta": 0.04, "use_bias_correction_kl": True},
        {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    ),
    "dapo by sequence": (
        {"loss_type": "dapo", "epsilon": 3e-2, "importance_sampling_level": "sequence"},
        {},
    ),
    "sapo": ({"loss_type": "sapo"}, {}),
    "sapo, other taus": (
        {"loss_type": "sapo", "sapo_temperature_pos": 2.0, "sapo_temperature_neg": 3.0},
        {},
    ),
    "sapo by sequence": ({"loss_type": "sapo", "importance_sampling_level": "sequence"}, {}),
    "off-policy mask": ({"off_policy_mask_threshold": 0.05}, {}),
    "entropy bonus": ({"entropy_coef": 0.01}, {"_entropy_bonus_enabled": True}),
    "top entropy": ({"top_entropy_quantile": 0.2, "beta": 0.04}, {}),
    "top entropy, bonus": (
        {"loss_type": "dapo", "top_entropy_quantile": 0.5, "entropy_coef": 0.1},
        {"_entropy_bonus_enabled": True},
    ),
}


def settings_of_trl(fields: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """TRL's settings for ours: the same names, but for the two sides of epsilon."""
    settings = {**fields, **more}
    low = settings.pop("epsilon", 0.2)
    return {**settings, "epsilon_low": low, "epsilon_high": settings.pop("epsilon_high", low)}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_a_loss_is_trls_in_value_and_gradient(name: str, seed: int) -> None:
    fields, more = CASES[name]
    numbers = draw(seed)
    theirs = loss_of_trl(numbers, settings_of_trl(fields, more))
    assert_same(loss_of_ours(numbers, config_of(**fields)), theirs, numbers)
    assert float(theirs.detach()) != 0.0


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "gspo", "sapo"])
def test_a_step_in_two_batches_is_trls_accumulation(name: str) -> None:
    fields, more = CASES[name]
    first, second = draw(3), draw(4)
    whole = torch.cat([first.mask, second.mask])
    for numbers in (first, second):
        settings = settings_of_trl(fields, more)
        settings |= {"current_gradient_accumulation_steps": 2, "steps_per_generation": 2}
        theirs = loss_of_trl(numbers, settings, num_items_in_batch=whole.sum())
        ours = loss_of_ours(numbers, config_of(**fields), whole, num_batches=2)
        assert_same(ours, theirs, numbers)


# --- What happens to a rollout before the loss: rewards to advantages, importance weights.

SCORES = {
    "plain": [1.0, 0.0, 0.0, 0.0, 0.3, 2.5, -1.0, 0.25],
    "one group equal": [1.0, 1.0, 1.0, 1.0, 0.3, 2.5, -1.0, 0.25],
    "some unscored": [1.0, None, 0.0, 0.5, None, 2.5, -1.0, None],
    "one scored": [1.0, None, None, None, 0.3, 2.5, -1.0, 0.25],
    "none scored": [None, None, None, None, 0.3, 2.5, -1.0, 0.25],
}


def prepared_by_trl(cls: Any, numbers: Numbers, scores: Sequence[float | None], **settings: Any) -> Any:
    """What TRL hands from a rollout to its loss."""
    trainer = trainer_of(cls, **settings)
    lengths = numbers.mask.sum(1).tolist()
    ids = [[5] * (length - 1) + [1] for length in lengths]
    logprobs = [row[:length].tolist() for row, length in zip(numbers.sampler, lengths, strict=True)]
    prompts = [[7, 7]] * NUM_ROWS
    generated = (
        (prompts, ids, None, ids, logprobs, {}, None, []) if cls is GRPOTrainer else (prompts, ids, ids)
    )
    trainer._generate = lambda _: generated
    trainer._get_per_token_logps_and_entropies = lambda model, *_, **__: (
        numbers.ref if model == "reference" else numbers.old,
        None,
        None,
    )
    rewards = torch.tensor([[float("nan") if score is None else score] for score in scores])
    trainer._calculate_rewards = lambda *_: rewards
    return trainer._generate_and_score_completions([{"prompt": "?"}] * NUM_ROWS)


def ours(scores: Sequence[float | None], **fields: Any) -> Tensor:
    rows = advantages([scores[:4], scores[4:]], ObjectiveConfig(**fields))
    return torch.tensor([one for row in rows for one in row])


@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_are_trls(scores: Sequence[float | None], scale: str) -> None:
    output = prepared_by_trl(GRPOTrainer, draw(0), scores, scale_rewards=scale)
    torch.testing.assert_close(ours(scores, scale_rewards=scale), output["advantages"], **TIGHT)


@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES)
def test_leave_one_out_is_trls_rloo(scores: Sequence[float | None]) -> None:
    output = prepared_by_trl(RLOOTrainer, draw(0), scores)
    mine = ours(scores, baseline="leave_one_out", scale_rewards="none")
    torch.testing.assert_close(mine, output["advantages"], **TIGHT)


def test_a_kl_in_the_reward_is_trls_rloo() -> None:
    numbers, scores = draw(0), SCORES["plain"]
    output = prepared_by_trl(RLOOTrainer, numbers, scores, beta=0.05)
    kl = ((numbers.old - numbers.ref) * numbers.mask).sum(1).tolist()
    less = [score - 0.05 * one for score, one in zip(scores, kl, strict=True) if score is not None]
    mine = ours(less, baseline="leave_one_out", scale_rewards="none")
    torch.testing.assert_close(mine, output["advantages"], **TIGHT)


@pytest.mark.parametrize("kind", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
@pytest.mark.parametrize(("floor", "cap"), [(None, 1.2), (0.8, 1.5)])
def test_importance_weights_and_their_loss_are_trls(kind: str, floor: float | None, cap: float) -> None:
    numbers = draw(5)
    settings = {
        "use_vllm": True,
        "vllm_importance_sampling_correction": True,
        "vllm_importance_sampling_mode": kind,
        "vllm_importance_sampling_clip_min": floor,
        "vllm_importance_sampling_clip_max": cap,
        "beta": 0.04,
    }
    output = prepared_by_trl(GRPOTrainer, numbers, SCORES["plain"], **settings)
    config = ObjectiveConfig(
        importance_correction=kind,
        importance_cap=cap,
        importance_floor=floor or 0.0,
        old_logprobs="trainer",
        beta=0.04,
    )
    weights = importance_weights(numbers.old, numbers.sampler, numbers.mask.float(), config)
    torch.testing.assert_close(weights, output["importance_sampling_ratio"], **TIGHT)
    assert len(weights.unique()) > 2
    numbers = replace(numbers, advantages=output["advantages"])
    inputs = {"importance_sampling_ratio": output["importance_sampling_ratio"]}
    theirs = loss_of_trl(numbers, settings, **inputs)
    assert_same(loss_of_ours(numbers, config), theirs, numbers)
