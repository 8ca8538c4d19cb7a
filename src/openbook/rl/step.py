"""One step of reinforcement learning, in the order of the paper.

    problems -> roll out -> judge -> compare within groups -> pack -> update -> publish

Only the update needs gradients; everything before it works with any Generator and any Scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openbook.engine.types import PolicyGenerator, SamplingParams
from openbook.kernels.precision import autocast
from openbook.model.transformer import Transformer
from openbook.rl.advantage import with_advantages
from openbook.rl.batch import PolicyBatch, pack_groups
from openbook.rl.config import RLConfig
from openbook.rl.logprobs import completion_logprobs
from openbook.rl.loss import grpo_loss
from openbook.rl.metrics import rollout_metrics
from openbook.rl.rollout import judge, roll_out
from openbook.rl.types import RewardedGroup, Scorer
from openbook.tasks.problem import Problem
from openbook.tokens.renderer import Renderer
from openbook.train.device import Stopwatch
from openbook.train.report import StepReport
from openbook.train.schedule import rate_share
from openbook.train.state import TrainState
from openbook.train.step import clip_gradients, load_imbalance

REFERENCE = "reference"
"""The name of the reference policy among a state's companions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """What the policy acts in: problems by number, a judge, and the renderer between text and ids."""

    draw: Callable[[int, int], Sequence[Problem]]
    """`draw(position, count)`: the problems of a stream from `position` on."""
    scorer: Scorer
    renderer: Renderer
    seed: int
    watch: Callable[[Sequence[RewardedGroup]], Mapping[str, float]] = lambda _: {}
    """More metrics of a step's groups: what the reward does not see."""


def policy_step(
    config: RLConfig, environment: Environment, generator: PolicyGenerator
) -> Callable[[TrainState], StepReport]:
    """The `advance` of reinforcement learning. `generator` must sample from the state's own model."""
    params = SamplingParams(max_tokens=config.max_tokens, temperature=config.temperature)
    watch: list[Stopwatch] = []

    def advance(state: TrainState) -> StepReport:
        model = state.model
        assert isinstance(model, Transformer)
        if not watch:
            watch.append(Stopwatch(next(model.parameters()).device))
        generator.publish(state.step)
        problems = environment.draw(state.position, config.num_problems)
        attempts, sampled = roll_out(
            problems,
            generator,
            environment.renderer,
            params,
            num_generations=config.num_generations,
            seed=environment.seed * 1_000_003 + state.step,
        )
        groups = [with_advantages(group) for group in judge(attempts, environment.scorer)]
        pad_id = environment.renderer.tokenizer.pad_id
        metrics, loads, num_tokens = update(state, groups, config, pad_id=pad_id)
        state.position += len(problems)
        state.step += 1
        refresh_reference(state, config.reference_refresh_steps)
        usage = watch[0].lap(trained_tokens=num_tokens) + sampled
        return StepReport(
            step=state.step,
            metrics={**rollout_metrics(groups), **environment.watch(groups), **metrics},
            usage=usage,
            expert_loads=loads.cpu().numpy(),
        )

    return advance


def update(
    state: TrainState, groups: Sequence[RewardedGroup], config: RLConfig, *, pad_id: int
) -> tuple[dict[str, float], Tensor, int]:
    """`num_minibatches` optimizer steps over the groups: metrics, expert loads, tokens trained on."""
    share = rate_share(config.schedule, state.step, config.num_steps)
    size = -(-len(groups) // config.num_minibatches)
    minibatches = [groups[start : start + size] for start in range(0, len(groups), size)]
    reports: list[dict[str, float]] = []
    total_loads: Tensor | None = None
    num_tokens = 0
    for minibatch in minibatches:
        batches = pack_groups(minibatch, tokens_per_batch=config.tokens_per_batch, pad_id=pad_id)
        metrics, loads = _optimizer_step(state, batches, config, share)
        reports.append(metrics)
        num_tokens += sum(batch.num_tokens for batch in batches)
        total_loads = loads if total_loads is None else total_loads + loads
    assert total_loads is not None
    mean = {name: sum(report[name] for report in reports) / len(reports) for name in reports[0]}
    mean["learning_rate"] = config.optim.learning_rate * share
    mean["load_max_over_mean"] = load_imbalance(total_loads)
    return mean, total_loads, num_tokens


def _optimizer_step(
    state: TrainState, batches: Sequence[PolicyBatch], config: RLConfig, share: float
) -> tuple[dict[str, float], Tensor]:
    model = state.model
    assert isinstance(model, Transformer)
    device = next(model.parameters()).device
    num_completions = sum(len(batch.advantages_B) for batch in batches)
    sums: dict[str, float] = {}
    loads: Tensor | None = None
    for batch in batches:
        parts, batch_loads = _backward(state, batch.to(device), config, num_completions)
        sums = {name: sums.get(name, 0.0) + value for name, value in parts.items()}
        loads = batch_loads if loads is None else loads + batch_loads
    assert loads is not None
    sums["grad_norm"] = clip_gradients(model, config.optim.max_grad_norm)
    if all(value == value and abs(value) != float("inf") for value in sums.values()):
        state.optimizers.step(share)
        model.update_expert_biases(loads, config.bias_update_rate)
    return sums, loads


def _backward(
    state: TrainState, batch: PolicyBatch, config: RLConfig, num_completions: int
) -> tuple[dict[str, float], Tensor]:
    """Add one batch's gradients; its share of loss, KL, entropy, clipped tokens, and the mismatch."""
    model = state.model
    assert isinstance(model, Transformer)
    with autocast(batch.tokens_BT.device):
        logprobs_BT, entropy_BT, output = completion_logprobs(model, batch, temperature=config.temperature)
        reference_BT = reference_logprobs(state, batch, config, logprobs_BT)
    terms = grpo_loss(
        logprobs_BT,
        batch.old_logprobs_BT,
        reference_BT,
        batch.advantages_B,
        batch.mask_BT,
        epsilon=config.epsilon,
        beta=config.beta,
        num_completions=num_completions,
    )
    share = len(batch.advantages_B) / num_completions
    (terms.total + config.balance_weight * share * output.balance_loss).backward()  # type: ignore[no-untyped-call]
    lengths_B = batch.mask_BT.sum(1).clamp(min=1)
    gap_BT = (logprobs_BT.detach() - batch.old_logprobs_BT).abs()
    parts = {
        "loss": float(terms.total.detach()),
        "kl": float(terms.kl),
        "clipped_share": float(terms.clipped),
        "entropy": float((entropy_BT.sum(1) / lengths_B).sum()) / num_completions,
        "sampler_gap": float((gap_BT.sum(1) / lengths_B).sum()) / num_completions,
    }
    return parts, output.expert_loads_LE


@torch.no_grad()
def reference_logprobs(
    state: TrainState, batch: PolicyBatch, config: RLConfig, logprobs_BT: Tensor
) -> Tensor:
    """The reference policy's log-probabilities; the policy's own when no KL is asked for."""
    reference = state.companions.get(REFERENCE)
    if reference is None or config.beta == 0:
        return logprobs_BT.detach()
    assert isinstance(reference, Transformer)
    return completion_logprobs(reference, batch, temperature=config.temperature)[0]


def refresh_reference(state: TrainState, every: int) -> None:
    """Make the latest policy the reference, every so many steps (R1: 400)."""
    reference = state.companions.get(REFERENCE)
    if reference is not None and every and state.step % every == 0:
        reference.load_state_dict(state.model.state_dict())
