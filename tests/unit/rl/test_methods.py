"""What changes in a whole step under the settings that change it: sampling, replay, the KL in the reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.types import Generation, SamplingParams
from openbook.model.transformer import Transformer
from openbook.rl.config import RLConfig
from openbook.rl.step import REFERENCE, Environment, policy_step
from openbook.rl.types import Attempt, Scored
from openbook.tasks.problem import Outcome, Problem, Verdict
from openbook.tasks.rewards import RewardParts
from openbook.tokens.renderer import Renderer
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.config import OptimConfig, ScheduleConfig
from openbook.train.optim import Optimizers
from openbook.train.state import TrainState

CONFIG = RLConfig(
    num_steps=10,
    num_problems=2,
    num_generations=2,
    max_tokens=8,
    beta=0.0,
    balance_weight=0.0,
    bias_update_rate=0.0,
    optim=OptimConfig(muon_learning_rate=5e-3, adamw_learning_rate=1e-3),
    schedule=ScheduleConfig(warmup_steps=0, decay="none"),
)
TEXTS = (" b = seven", " c")
MakeTiny = Callable[..., Transformer]


def environment_of(
    tokenizer: Tokenizer, make_problem: Callable[[str], Problem], reward: Callable[[Attempt], float]
) -> Environment:
    """A stream of problems `0`, `1`, `2`, ..."""

    def scorer(attempts: Sequence[Attempt]) -> list[Scored]:
        verdict = Verdict(outcome=Outcome.CORRECT, reason="")
        return [
            Scored(
                verdict=verdict, reward=RewardParts(parts={"accuracy": reward(one)}, scored=True, reason="")
            )
            for one in attempts
        ]

    return Environment(
        draw=lambda position, count: [make_problem(str(n)) for n in range(position, position + count)],
        scorer=scorer,
        renderer=Renderer.ours(tokenizer),
        seed=3,
    )


def state_of(model: Transformer, reference: Transformer | None = None) -> TrainState:
    companions = {} if reference is None else {REFERENCE: reference}
    return TrainState(model=model, optimizers=Optimizers(model, CONFIG.optim), companions=companions)


def test_dynamic_sampling_goes_on_to_problems_that_teach(
    make_tiny: MakeTiny,
    tokenizer: Tokenizer,
    make_problem: Callable[[str], Problem],
    script: Callable[..., Any],
) -> None:
    """Only problems 1, 4 and 6 tell the two completions apart."""

    def reward(one: Attempt) -> float:
        return float(len(one.text)) if one.problem.question in ("1", "4", "6") else 1.0

    environment = environment_of(tokenizer, make_problem, reward)
    watched: list[list[str]] = []

    def watch(groups: Sequence[Any]) -> dict[str, float]:
        watched.append([group.group.rollouts[0].attempt.problem.question for group in groups])
        return {}

    environment = replace(environment, watch=watch)
    config = replace(CONFIG, dynamic_sampling=True)
    generator, state = script(*TEXTS), state_of(make_tiny())
    step = policy_step(config, environment, generator)
    report = step(state)
    # 0 and 1; then, as 1 of 2 had a signal, 2 and 3, then 4 and 5.
    assert state.position == 6 and watched == [["1", "4"]]
    assert report.metrics["generation_batches"] == 3
    assert report.metrics["zero_variance_groups"] == pytest.approx(4 / 6)
    assert report.usage.prompt_tokens == 3 * 5 and len(generator.calls) == 3
    assert len({call[3] for call in generator.calls}) == 3, "every batch has its own seed"
    step(state)
    assert watched[1][0] == "6"

    again, other = script(*TEXTS), state_of(make_tiny())
    policy_step(config, environment, again)(other)
    assert again.calls == generator.calls[:3]


class Meddler:
    """Samples from the model, then moves the biases of its gates: the trainer would choose other experts."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, *, tells: bool) -> None:
        config = EngineConfig(return_experts=tells)
        self.model, self.engine = model, Engine(model, config, stop_token_ids=(tokenizer.eos_id,))

    def publish(self, version: int) -> None:
        self.engine.publish(version)

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, *, num_generations: int, seed: int
    ) -> Generation:
        made = self.engine.generate(prompts, params, num_generations=num_generations, seed=seed)
        for name, buffer in self.model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer += torch.tensor([0.0, 2.0, 0.0, -2.0])
        return made


def test_with_routing_replay_the_trainer_agrees_with_the_sampler_though_its_gates_would_not(
    make_tiny: MakeTiny, tokenizer: Tokenizer, make_problem: Callable[[str], Problem]
) -> None:
    environment = environment_of(tokenizer, make_problem, lambda one: float(len(one.text)))
    gaps, loads = {}, {}
    for replays, tells in ((True, True), (False, True), (True, False)):
        model = make_tiny(init_std=0.3, num_hidden_layers=3)
        config = replace(CONFIG, routing_replay=replays, old_logprobs="sampler")
        report = policy_step(config, environment, Meddler(model, tokenizer, tells=tells))(state_of(model))
        gaps[replays, tells] = report.metrics["sampler_gap"]
        loads[replays, tells] = report.expert_loads
    assert gaps[True, True] < 2e-6
    assert gaps[False, True] > 1e-2
    assert gaps[True, False] == gaps[False, True], "experts that nobody told cannot be replayed"
    assert (loads[True, True] != loads[False, True]).any()
    assert loads[True, True].sum() == loads[False, True].sum()


def test_a_kl_in_the_reward_tells_equal_rewards_apart(
    make_tiny: MakeTiny,
    tokenizer: Tokenizer,
    make_problem: Callable[[str], Problem],
    script: Callable[..., Any],
) -> None:
    environment = environment_of(tokenizer, make_problem, lambda one: 1.0)
    seen: list[tuple[float, ...]] = []

    def watch(groups: Sequence[Any]) -> dict[str, float]:
        seen.extend(group.advantages for group in groups)
        return {}

    environment = replace(environment, watch=watch)
    config = replace(CONFIG, beta=0.1, kl_in="reward", kl_estimator="k1", scale_rewards="none")
    state = state_of(make_tiny(), make_tiny(seed=7))
    report = policy_step(config, environment, script(*TEXTS, logprob=-1.0))(state)
    # The reference finds every token about as likely as any, ln 320 = 5.8: the longer text costs more.
    lengths = [len(tokenizer.encode(text)) + 1 for text in TEXTS]
    expected = 0.1 * (5.77 - 1.0) * (lengths[1] - lengths[0]) / 2
    for first, second in seen:
        assert first == pytest.approx(expected, rel=0.1) and second == pytest.approx(-first)
    assert report.metrics["kl"] == pytest.approx(5.77 - 1.0, rel=0.1)
    assert report.metrics["grad_norm"] > 0 and report.metrics["zero_variance_groups"] == 1.0


def test_what_the_limit_cut_off_is_dropped_if_asked(
    make_tiny: MakeTiny, tokenizer: Tokenizer, make_problem: Callable[[str], Problem]
) -> None:
    environment = environment_of(tokenizer, make_problem, lambda one: float(len(one.text)))
    config = replace(CONFIG, mask_truncated_completions=True)
    model = make_tiny()
    engine = Engine(model, EngineConfig(), stop_token_ids=(tokenizer.eos_id,))
    report = policy_step(config, environment, engine)(state_of(model))
    assert report.metrics["dropped_share"] == report.metrics["truncated_share"] > 0.5
