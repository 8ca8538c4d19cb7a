"""One step of reinforcement learning, in the order of the paper.

    problems -> roll out -> judge -> compare within groups -> pack -> update -> publish

Only the update needs gradients; everything before it works with any Generator and any Scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from openbook.engine.randomness import derived_seed
from openbook.engine.types import PolicyGenerator, SamplingParams
from openbook.model.lora import merged_state
from openbook.model.transformer import Transformer
from openbook.rl.advantage import with_advantages
from openbook.rl.config import RLConfig
from openbook.rl.curriculum import NOTE, Curriculum
from openbook.rl.experience import Policies, kl_of_rollout
from openbook.rl.filters import dropped_share, without_stale
from openbook.rl.metrics import mean, rollout_metrics
from openbook.rl.rollout import judge, roll_out
from openbook.rl.sampling import Sampled, sample_groups
from openbook.rl.types import Group, RewardedGroup, Scorer
from openbook.rl.update import update
from openbook.runs.usage import Usage
from openbook.tasks.problem import Problem
from openbook.tokens.renderer import Renderer
from openbook.train.device import Stopwatch
from openbook.train.report import StepReport
from openbook.train.state import TrainState

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
    curriculum: Curriculum | None = None
    """Draws in place of `draw`, going by what was solved; what it knows is kept in the training state."""

    @property
    def problems(self) -> Callable[[int, int], Sequence[Problem]]:
        """`problems(position, count)`, from whichever draws."""
        return self.draw if self.curriculum is None else self.curriculum.draw


def policy_step(
    config: RLConfig, environment: Environment, generator: PolicyGenerator
) -> Callable[[TrainState], StepReport]:
    """The `advance` of reinforcement learning. `generator` must sample from the state's own model."""
    watch: list[Stopwatch] = []

    def advance(state: TrainState) -> StepReport:
        policies = policies_of(state, config, pad_id=environment.renderer.tokenizer.pad_id)
        if not watch:
            watch.append(Stopwatch(policies.device))
        if environment.curriculum is not None:
            environment.curriculum.restore(state.notes.get(NOTE, {}))
        generator.publish(state.step)
        sampled = sample(config, environment, generator, state)
        groups, kl = compare(policies, sampled.groups, config)
        groups = without_stale(groups, state.step, config.max_staleness)
        updated = update(state, policies, groups, config)
        metrics = {
            **rollout_metrics(sampled.drawn),
            "generation_batches": float(sampled.num_batches),
            **environment.watch(groups),
            **learned_of_levels(state, environment.curriculum, sampled.drawn),
            **updated.metrics,
            **kl,
        }
        metrics["dropped_share"] += dropped_share(groups, state.step, config)
        state.position += len(sampled.drawn)
        state.step += 1
        refresh_reference(state, config.reference_refresh_steps)
        return StepReport(
            step=state.step,
            metrics=metrics,
            usage=watch[0].lap(trained_tokens=updated.num_tokens) + sampled.usage,
            expert_loads=updated.expert_loads_LE.cpu().numpy(),
        )

    return advance


def sample(
    config: RLConfig, environment: Environment, generator: PolicyGenerator, state: TrainState
) -> Sampled:
    """Judged groups, `num_problems` of them; every step has its own seed, and every further batch of it."""
    params = SamplingParams(max_tokens=config.max_tokens, temperature=config.temperature)
    seed = environment.seed * 1_000_003 + state.step

    def sample_batch(start: int, count: int, number: int) -> tuple[list[Group], Usage]:
        attempts, used = roll_out(
            environment.problems(state.position + start, count),
            generator,
            environment.renderer,
            params,
            num_generations=config.num_generations,
            seed=seed if number == 0 else derived_seed(seed, number),
        )
        return judge(attempts, environment.scorer), used

    max_batches = config.max_generation_batches if config.dynamic_sampling else 1
    return sample_groups(sample_batch, num_problems=config.num_problems, max_batches=max_batches)


def learned_of_levels(
    state: TrainState, curriculum: Curriculum | None, drawn: Sequence[Group]
) -> dict[str, float]:
    """Let the curriculum see what became of its problems, and keep what it knows; its metrics."""
    if curriculum is None:
        return {}
    shares = curriculum.shares()
    curriculum.observe(drawn)
    state.notes[NOTE] = curriculum.state()
    return {f"share_{level}": share for level, share in shares.items()} | {
        f"pass_rate_{level}": rate for level, rate in curriculum.pass_rates().items()
    }


def compare(
    policies: Policies, groups: Sequence[Group], config: RLConfig
) -> tuple[list[RewardedGroup], dict[str, float]]:
    """The groups with their advantages; where the KL is in the reward, also what it is a token."""
    if config.beta == 0 or config.kl_in == "loss" or policies.reference is None:
        return with_advantages(groups, config), {}
    kl = kl_of_rollout(policies, groups, config)
    penalties = [[config.beta * one for one in row] for row in kl]
    per_token = mean(
        one / max(1, len(rollout.attempt.completion.token_ids))
        for row, group in zip(kl, groups, strict=True)
        for one, rollout in zip(row, group.rollouts, strict=True)
    )
    return with_advantages(groups, config, penalties), {"kl": per_token}


def policies_of(state: TrainState, config: RLConfig, *, pad_id: int) -> Policies:
    """The state's policy, and its reference if the objective has a KL."""
    reference = state.companions.get(REFERENCE) if config.beta else None
    assert isinstance(state.model, Transformer)
    assert reference is None or isinstance(reference, Transformer)
    return Policies(policy=state.model, reference=reference, pad_id=pad_id)


def refresh_reference(state: TrainState, every: int) -> None:
    """Make the latest policy the reference, every so many steps (R1: 400)."""
    reference = state.companions.get(REFERENCE)
    if reference is not None and every and state.step % every == 0:
        reference.load_state_dict(merged_state(state.model))
