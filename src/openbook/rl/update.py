"""From rewarded groups to new weights: `num_iterations` x `num_minibatches` optimizer steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from openbook.kernels.precision import autocast
from openbook.rl.aggregation import StepSize, measured_mean
from openbook.rl.config import RLConfig
from openbook.rl.experience import Experience, Minibatch, Policies, gather
from openbook.rl.logprobs import completion_logprobs
from openbook.rl.loss import LossInputs, LossTerms, policy_loss
from openbook.rl.types import RewardedGroup
from openbook.train.schedule import rate_share
from openbook.train.state import TrainState
from openbook.train.step import clip_gradients, load_imbalance


@dataclass(frozen=True, kw_only=True, slots=True)
class Updated:
    """What the updates of one rollout came to: means over them, sums of loads and tokens."""

    metrics: dict[str, float]
    expert_loads_LE: Tensor
    num_tokens: int


def update(
    state: TrainState, policies: Policies, groups: Sequence[RewardedGroup], config: RLConfig
) -> Updated:
    """Learn from the groups; what has to be as it was before the first update is gathered first."""
    share = rate_share(config.schedule, state.step, config.num_steps)
    length = -(-len(groups) // config.num_minibatches)
    minibatches = [
        gather(policies, groups[start : start + length], config) for start in range(0, len(groups), length)
    ]
    steps = [
        optimizer_step(state, policies, minibatch, config, share)
        for _ in range(config.num_iterations)
        for minibatch in minibatches
    ]
    metrics = {name: sum(step.metrics[name] for step in steps) / len(steps) for name in steps[0].metrics}
    metrics["skipped_updates"] = float(sum(not is_finite(step.metrics) for step in steps))
    metrics["learning_rate"] = config.optim.learning_rate * share
    loads_LE = sum((step.expert_loads_LE for step in steps[1:]), start=steps[0].expert_loads_LE)
    metrics["load_max_over_mean"] = load_imbalance(loads_LE)
    return Updated(
        metrics=metrics, expert_loads_LE=loads_LE, num_tokens=sum(step.num_tokens for step in steps)
    )


def optimizer_step(
    state: TrainState, policies: Policies, minibatch: Minibatch, config: RLConfig, share: float
) -> Updated:
    """One update, unless a number of it is not finite: then nothing changes."""
    model = policies.policy
    parts, loads = [], []
    for experience in minibatch.experiences:
        numbers, batch_loads_LE = _backward(policies, experience, minibatch.size, config)
        parts.append(numbers)
        loads.append(batch_loads_LE)
    loads_LE = sum(loads[1:], start=loads[0])
    metrics = {name: sum(part[name] for part in parts) for name in parts[0]}
    metrics["grad_norm"] = clip_gradients(model, config.optim.max_grad_norm)
    if is_finite(metrics):
        state.optimizers.step(share)
        model.update_expert_biases(loads_LE, config.bias_update_rate)
    else:
        model.zero_grad(set_to_none=True)
    return Updated(metrics=metrics, expert_loads_LE=loads_LE, num_tokens=minibatch.num_tokens)


def is_finite(metrics: dict[str, float]) -> bool:
    return all(map(math.isfinite, metrics.values()))


def _backward(
    policies: Policies, experience: Experience, size: StepSize, config: RLConfig
) -> tuple[dict[str, float], Tensor]:
    """Add one batch's gradients; its shares of the metrics, and its expert loads."""
    batch = experience.batch
    with autocast(policies.device, config.precision):
        logprobs_BT, entropy_BT, output = completion_logprobs(
            policies.policy,
            batch,
            temperature=config.temperature,
            replays=config.routing_replay,
            entropy_learns=config.entropy_coef > 0,
        )
    inputs = LossInputs(
        logprobs_BT=logprobs_BT,
        entropy_BT=entropy_BT,
        old_logprobs_BT=experience.old_logprobs_BT,
        sampler_logprobs_BT=batch.sampler_logprobs_BT,
        ref_logprobs_BT=experience.ref_logprobs_BT,
        weights=experience.weights,
        advantages_B=batch.advantages_B,
        mask_BT=batch.mask_BT,
    )
    terms = policy_loss(inputs, config, size)
    share = len(batch.advantages_B) / size.num_completions
    (terms.total + config.balance_weight * share * output.balance_loss).backward()  # type: ignore[no-untyped-call]
    return _numbers(inputs, terms, size), output.expert_loads_LE


def _numbers(inputs: LossInputs, terms: LossTerms, size: StepSize) -> dict[str, float]:
    measure_BT = measured_mean(inputs.mask_BT, size)
    gap_BT = (inputs.logprobs_BT.detach() - inputs.sampler_logprobs_BT).abs()
    return {
        "loss": float(terms.total.detach()),
        "kl": float(terms.kl),
        "clipped_share": float(terms.clipped),
        "entropy": float((inputs.entropy_BT.detach() * measure_BT).sum()),
        "sampler_gap": float((gap_BT * measure_BT).sum()),
        "importance_weight_mean": float(terms.weight),
        "dropped_share": float(terms.dropped),
    }
