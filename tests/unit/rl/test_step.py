from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from openbook.engine.engine import Engine
from openbook.engine.types import Generator
from openbook.errors import Diverged
from openbook.model.transformer import Transformer
from openbook.rl.config import RLConfig
from openbook.rl.step import REFERENCE, Environment, policy_step
from openbook.rl.types import Attempt, Scored
from openbook.runs.stop import StopSignal
from openbook.tasks.problem import Outcome, Problem, Verdict
from openbook.tasks.rewards import RewardParts
from openbook.tokens.renderer import Renderer
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.config import OptimConfig, ScheduleConfig
from openbook.train.loop import LoopPlan, run_loop
from openbook.train.optim import Optimizers
from openbook.train.state import TrainState

CONFIG = RLConfig(
    num_steps=10,
    num_problems=2,
    num_generations=3,
    max_tokens=12,
    beta=0.1,
    balance_weight=0.0,
    bias_update_rate=0.0,
    optim=OptimConfig(muon_learning_rate=5e-3, adamw_learning_rate=1e-3, max_grad_norm=0.0),
    schedule=ScheduleConfig(warmup_steps=0, decay="none"),
)
TEXTS = (" b = seven", " c", " <think> b </think> <answer> 7 </answer>")
QUESTIONS = ["a 3, b +4. b?", "c 1, d +1. d?"]
UNIFORM = -5.8
"""About the log-probability of any token under an untrained model of 320 tokens."""

MakeTiny = Callable[..., Transformer]
MakeScript = Callable[..., Any]


def scorer_of(rewards: dict[str, float]) -> Callable[[Sequence[Attempt]], list[Scored]]:
    """A judge that knows the reward of each text; a text it does not know is not scored."""

    def judge(attempts: Sequence[Attempt]) -> list[Scored]:
        results = []
        for one in attempts:
            known = one.text in rewards
            verdict = Verdict(outcome=Outcome.CORRECT if known else Outcome.UNSCORABLE, reason="")
            parts = {"accuracy": rewards[one.text]} if known else {}
            results.append(Scored(verdict=verdict, reward=RewardParts(parts=parts, scored=known, reason="")))
        return results

    return judge


@pytest.fixture
def environment(tokenizer: Tokenizer, make_problem: Callable[[str], Problem]) -> Environment:
    """Two problems over and over; the completions of a group are all worth the same."""
    problems = [make_problem(question) for question in QUESTIONS]
    decoded = [tokenizer.decode(tokenizer.encode(text)) for text in TEXTS]
    return Environment(
        draw=lambda position, count: [problems[index % 2] for index in range(position, position + count)],
        scorer=scorer_of(dict.fromkeys(decoded, 1.0)),
        renderer=Renderer.ours(tokenizer),
        seed=3,
    )


def make_state(make_tiny: MakeTiny, config: RLConfig, *, seed: int = 0) -> TrainState:
    model = make_tiny(seed=seed)
    companions = {REFERENCE: make_tiny(seed=7)} if config.beta else {}
    return TrainState(model=model, optimizers=Optimizers(model, config.optim), companions=companions)


def everything(state: TrainState) -> dict[str, Tensor]:
    parts = {f"model/{name}": value for name, value in state.model.state_dict().items()}
    parts |= {f"optimizers/{name}": value for name, value in state.optimizers.state_tensors().items()}
    for name, module in state.companions.items():
        parts |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    return {name: value.detach().clone() for name, value in parts.items()}


def differences(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    assert actual.keys() == expected.keys()
    return [name for name, value in expected.items() if not torch.equal(actual[name], value)]


def scores(model: Transformer, prompt: Sequence[int], ids: Sequence[int]) -> Tensor:
    """The log-probabilities of a completion, one forward pass for it alone: [tokens of the completion]."""
    row = torch.tensor([[*prompt, *ids]])
    hidden = model(row[:, :-1]).hidden_BTD[0, len(prompt) - 1 :]
    logprobs = torch.log_softmax(model.logits(hidden), -1)
    return logprobs[torch.arange(len(ids)), torch.tensor(ids)]


def rows(tokenizer: Tokenizer) -> list[tuple[list[int], list[int]]]:
    """Prompt and completion of every scripted rollout."""
    return [
        (Renderer.ours(tokenizer).prompt_ids(question), [*tokenizer.encode(text), tokenizer.eos_id])
        for question in QUESTIONS
        for text in TEXTS
    ]


def test_without_differences_in_reward_only_the_kl_has_a_gradient(
    make_tiny: MakeTiny, environment: Environment, script: MakeScript, tokenizer: Tokenizer
) -> None:
    state = make_state(make_tiny, CONFIG)
    model, reference = make_tiny(seed=0), make_tiny(seed=7)
    kl = torch.zeros(())
    for prompt, ids in rows(tokenizer):
        difference = scores(reference, prompt, ids).detach() - scores(model, prompt, ids)
        kl = kl + (difference.exp() - difference - 1).mean() / 6
    (0.1 * kl).backward()  # type: ignore[no-untyped-call]
    squares = [one.grad.square().sum() for one in model.parameters() if one.grad is not None]
    by_hand = float(torch.stack(squares).sum().sqrt())

    report = policy_step(CONFIG, environment, script(*TEXTS, logprob=UNIFORM))(state)
    assert report.metrics["zero_variance_groups"] == 1.0
    assert report.metrics["kl"] == pytest.approx(float(kl.detach()), rel=1e-4)
    assert report.metrics["loss"] == pytest.approx(0.1 * float(kl.detach()), rel=1e-4)
    assert report.metrics["grad_norm"] == pytest.approx(by_hand, rel=1e-4)
    assert report.metrics["clipped_share"] == 0.0
    assert all(parameter.grad is None for parameter in state.companions[REFERENCE].parameters())


def test_the_kl_alone_draws_the_policy_to_the_reference(
    make_tiny: MakeTiny, environment: Environment, script: MakeScript
) -> None:
    state = make_state(make_tiny, CONFIG)
    reference = {name: one.clone() for name, one in state.companions[REFERENCE].state_dict().items()}
    step = policy_step(CONFIG, environment, script(*TEXTS, logprob=UNIFORM))
    kls = [step(state).metrics["kl"] for _ in range(8)]
    assert kls[-1] < 0.3 * kls[0]
    assert not differences(dict(state.companions[REFERENCE].state_dict()), reference)


def test_without_differences_in_reward_and_without_kl_nothing_moves(
    make_tiny: MakeTiny, environment: Environment, script: MakeScript
) -> None:
    config = replace(CONFIG, beta=0.0)
    state = make_state(make_tiny, config)
    before = {name: one.clone() for name, one in state.model.state_dict().items()}
    report = policy_step(config, environment, script(*TEXTS))(state)
    assert (report.metrics["grad_norm"], report.metrics["loss"], report.metrics["kl"]) == (0.0, 0.0, 0.0)
    assert not differences(dict(state.model.state_dict()), before)
    assert (state.step, state.position) == (1, 2)


def test_what_is_rewarded_becomes_likelier_and_what_is_not_scored_stays_out(
    make_tiny: MakeTiny, environment: Environment, script: MakeScript, tokenizer: Tokenizer
) -> None:
    decoded = [tokenizer.decode(tokenizer.encode(text)) for text in TEXTS]
    config = replace(CONFIG, beta=0.0)
    judged = replace(environment, scorer=scorer_of({decoded[0]: 1.0, decoded[1]: 0.0}))
    state = make_state(make_tiny, config)
    model = state.model
    assert isinstance(model, Transformer)

    def margins() -> list[float]:
        with torch.no_grad():
            means = [float(scores(model, prompt, ids).mean()) for prompt, ids in rows(tokenizer)]
        return [means[0] - means[1], means[3] - means[4]]

    before = margins()
    step = policy_step(config, judged, script(*TEXTS, logprob=UNIFORM))
    reports = [step(state) for _ in range(4)]
    assert all(after > earlier + 0.5 for after, earlier in zip(margins(), before, strict=True))
    assert reports[0].metrics["unscored_share"] == pytest.approx(1 / 3)
    assert reports[0].metrics["reward"] == 0.5


def test_a_report_says_what_was_asked_sampled_and_learned(
    make_tiny: MakeTiny, environment: Environment, script: MakeScript, tokenizer: Tokenizer
) -> None:
    watched = replace(environment, watch=lambda groups: {"num_groups": float(len(groups))})
    config = replace(CONFIG, temperature=0.7, schedule=ScheduleConfig(warmup_steps=4))
    state, generator = make_state(make_tiny, config), script(*TEXTS, logprob=-3.0)
    model = make_tiny(seed=0)
    with torch.no_grad():
        gaps = []
        for prompt, ids in rows(tokenizer):
            hidden = model(torch.tensor([[*prompt, *ids]])).hidden_BTD[0, len(prompt) - 1 : -1]
            logprobs = torch.log_softmax(model.logits(hidden) / 0.7, -1)
            gaps.append((logprobs.gather(1, torch.tensor(ids)[:, None]) + 3.0).abs().mean())
    report = policy_step(config, watched, generator)(state)
    (prompts, params, num_generations, _) = generator.calls[0]
    assert prompts == [Renderer.ours(tokenizer).prompt_ids(question) for question in QUESTIONS]
    assert (params.max_tokens, params.temperature, num_generations) == (12, 0.7, 3)
    assert (report.step, report.metrics["num_groups"]) == (1, 2.0)
    assert report.metrics["sampler_gap"] == pytest.approx(float(torch.stack(gaps).mean()), rel=1e-4)
    assert report.metrics["learning_rate"] == pytest.approx(5e-3 / 4)
    assert report.metrics["reward"] == 1.0 and report.metrics["format"] == pytest.approx(1 / 3)
    lengths = [(len(prompt), len(ids)) for prompt, ids in rows(tokenizer)]
    assert report.metrics["mean_completion_tokens"] == pytest.approx(sum(n for _, n in lengths) / 6)
    prompts_once = sum(len(prompt) for prompt in prompts)
    assert report.usage.trained_tokens == prompts_once + sum(n - 1 for _, n in lengths)
    assert report.usage.completion_tokens == sum(n for _, n in lengths)
    assert report.usage.prompt_tokens == 5
    assert report.expert_loads.sum() == report.usage.trained_tokens * 2  # one MoE layer, two experts a token


def test_every_step_and_every_seed_samples_anew(
    make_tiny: MakeTiny, environment: Environment, script: MakeScript
) -> None:
    seeds = []
    for seed in (3, 4):
        generator = script(*TEXTS)
        step = policy_step(CONFIG, replace(environment, seed=seed), generator)
        state = make_state(make_tiny, CONFIG)
        for _ in range(2):
            step(state)
        seeds += [call[3] for call in generator.calls]
    assert len(set(seeds)) == 4


def test_a_step_in_many_batches_equals_a_step_in_one(
    make_tiny: MakeTiny, environment: Environment, script: MakeScript, tokenizer: Tokenizer
) -> None:
    decoded = [tokenizer.decode(tokenizer.encode(text)) for text in TEXTS]
    judged = replace(environment, scorer=scorer_of(dict(zip(decoded, (1.0, 0.0, 0.5), strict=True))))

    def after(tokens_per_batch: int) -> dict[str, float]:
        config = replace(CONFIG, tokens_per_batch=tokens_per_batch, balance_weight=0.05)
        state = make_state(make_tiny, config)
        metrics = policy_step(config, judged, script(*TEXTS, logprob=UNIFORM))(state).metrics
        return {name: value for name, value in metrics.items() if "per_second" not in name}

    longest = max(len(prompt) + len(ids) for prompt, ids in rows(tokenizer))
    assert after(longest) == pytest.approx(after(10_000), rel=1e-4)


def test_minibatches_are_updates_of_their_own(
    make_tiny: MakeTiny, environment: Environment, script: MakeScript
) -> None:
    for num_minibatches in (1, 2):
        config = replace(CONFIG, num_minibatches=num_minibatches)
        state = make_state(make_tiny, config)
        policy_step(config, environment, script(*TEXTS, logprob=UNIFORM))(state)
        assert state.optimizers.state_tensors()["model.norm.weight/step"].item() == num_minibatches
        assert state.step == 1


def test_the_reference_becomes_the_policy_now_and_then(
    make_tiny: MakeTiny, environment: Environment, script: MakeScript
) -> None:
    config = replace(CONFIG, reference_refresh_steps=2)
    state = make_state(make_tiny, config)
    step = policy_step(config, environment, script(*TEXTS, logprob=UNIFORM))
    first = dict(make_tiny(seed=7).state_dict())
    same = []
    for _ in range(3):
        step(state)
        reference = dict(state.companions[REFERENCE].state_dict())
        same.append((not differences(reference, first), not differences(reference, state.model.state_dict())))
    assert same == [(True, False), (False, True), (False, False)]


def test_a_loss_that_is_no_number_updates_nothing(
    make_tiny: MakeTiny, environment: Environment, script: MakeScript, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    decoded = [tokenizer.decode(tokenizer.encode(text)) for text in TEXTS]
    judged = replace(environment, scorer=scorer_of(dict(zip(decoded, (1.0, 0.0, 0.0), strict=True))))
    state = make_state(make_tiny, CONFIG)
    before = everything(state)
    step = policy_step(CONFIG, judged, script(*TEXTS, logprob=-1000.0))  # the ratio overflows
    plan = LoopPlan(num_steps=10, save_every=1, state_folder=tmp_path)
    with pytest.raises(Diverged, match="loss became inf at step 1"):
        run_loop(state, step, plan, on_step=lambda _: None, stop=StopSignal())
    assert not differences(everything(state), before)


def real_sampler(state: TrainState, tokenizer: Tokenizer) -> Generator:
    assert isinstance(state.model, Transformer)
    return Engine(state.model, stop_token_ids=(tokenizer.eos_id,))


def test_a_resumed_stage_equals_the_uninterrupted_one_bit_for_bit(
    make_tiny: MakeTiny, environment: Environment, tokenizer: Tokenizer, tmp_path: Path, one_thread: None
) -> None:
    def length_judge(attempts: Sequence[Attempt]) -> list[Scored]:
        rewards = {one.text: float(len(one.text)) for one in attempts}
        return scorer_of(rewards)(attempts)

    config = replace(CONFIG, reference_refresh_steps=3, balance_weight=1e-3, bias_update_rate=1e-3)
    judged = replace(environment, scorer=length_judge)

    def run(state: TrainState, until: int) -> list[float]:
        step = policy_step(config, judged, real_sampler(state, tokenizer))
        return [step(state).metrics["reward"] for _ in range(until - state.step)]

    straight = make_state(make_tiny, config)
    rewards = run(straight, 5)
    interrupted = make_state(make_tiny, config)
    run(interrupted, 2)
    interrupted.save(tmp_path)
    resumed = make_state(make_tiny, config, seed=9)
    assert resumed.load(tmp_path)
    assert run(resumed, 5) == rewards[2:]
    assert not differences(everything(resumed), everything(straight))


def test_the_sampler_and_the_update_agree_while_on_policy(
    make_tiny: MakeTiny, environment: Environment, tokenizer: Tokenizer
) -> None:
    state = make_state(make_tiny, CONFIG)
    step = policy_step(CONFIG, replace(environment, scorer=scorer_of({})), real_sampler(state, tokenizer))
    for _ in range(2):
        assert step(state).metrics["sampler_gap"] < 1e-5


def test_reward_rises_where_it_is_easy_to_earn(
    make_tiny: MakeTiny, environment: Environment, tokenizer: Tokenizer
) -> None:
    """Reward: the share of tokens in the lower half of the vocabulary, a half at first."""

    def share_judge(attempts: Sequence[Attempt]) -> list[Scored]:
        rewards = [
            sum(token < 160 for token in one.completion.token_ids) / len(one.completion.token_ids)
            for one in attempts
        ]
        verdict = Verdict(outcome=Outcome.CORRECT, reason="")
        return [
            Scored(verdict=verdict, reward=RewardParts(parts={"accuracy": reward}, scored=True, reason=""))
            for reward in rewards
        ]

    optim = OptimConfig(muon_learning_rate=0.02, adamw_learning_rate=0.01)
    config = replace(CONFIG, num_generations=16, max_tokens=8, beta=0.001, optim=optim)
    state = make_state(make_tiny, config)
    step = policy_step(config, replace(environment, scorer=share_judge), real_sampler(state, tokenizer))
    rewards = [step(state).metrics["reward"] for _ in range(25)]
    assert sum(rewards[:3]) / 3 < 0.65
    assert sum(rewards[-3:]) / 3 > 0.9
