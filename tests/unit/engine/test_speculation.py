from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch

from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.speculation import SETTLED_STEPS, TRIAL_STEPS, DraftPolicy, DraftStatistics
from openbook.engine.types import Completion, SamplingParams
from openbook.errors import UserError
from openbook.kernels.native import Missing, load_native
from openbook.model.transformer import Transformer

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15], list(range(20, 39))]
DECODES = ["torch", pytest.param("native", marks=pytest.mark.skipif(
    isinstance(load_native(), Missing), reason="no C++ compiler for the native kernels"))]  # fmt: skip


class Always:
    """A policy that guesses in every step, so that a test does not depend on the clock."""

    is_drafting = True

    def observe(self, seconds: float, num_tokens: int) -> None:
        pass


@pytest.fixture
def model(make_tiny: Callable[..., Transformer]) -> Transformer:
    return make_tiny(seed=4, vocab_size=40, init_std=0.3)


def run(
    model: Transformer,
    decode: Literal["torch", "native"],
    num_drafts: int,
    params: SamplingParams,
    *,
    num_generations: int = 3,
) -> tuple[list[Completion], Engine]:
    config = EngineConfig(num_drafts=num_drafts, decode=decode, deterministic=True, max_running=8)
    engine = Engine(model, config, stop_token_ids=(1, 2))
    engine.draft_policy = Always()  # type: ignore[assignment]
    generation = engine.generate(PROMPTS, params, num_generations=num_generations, seed=11)
    engine.scheduler.check()
    return [one for group in generation.completions for one in group], engine


@pytest.mark.parametrize("decode", DECODES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("num_drafts", [1, 3])
def test_guessing_changes_no_token_and_no_log_probability(
    model: Transformer, decode: Literal["torch", "native"], temperature: float, num_drafts: int
) -> None:
    params = SamplingParams(max_tokens=40, temperature=temperature)
    plain, _ = run(model, decode, 0, params)
    guessed, engine = run(model, decode, num_drafts, params)
    assert [one.token_ids for one in guessed] == [one.token_ids for one in plain]
    for one, other in zip(guessed, plain, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    assert sum(engine.draft_statistics.num_proposed) > 20


@pytest.mark.parametrize("decode", DECODES)
def test_both_executors_make_the_same_guesses(model: Transformer, decode: Literal["torch", "native"]) -> None:
    params = SamplingParams(max_tokens=40, temperature=0.0)
    _, ours = run(model, decode, 2, params, num_generations=1)
    _, plain = run(model, "torch", 2, params, num_generations=1)
    assert ours.draft_statistics == plain.draft_statistics
    assert ours.num_computed_tokens == plain.num_computed_tokens


def test_a_module_that_knows_what_follows_saves_steps(model: Transformer) -> None:
    """With its output zeroed, every state is alike, and the module guesses what the model says each time."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")) or "down_proj" in name:
                parameter.zero_()
        model.lm_head.weight.zero_()
        model.lm_head.weight[7] = 1.0
        model.model.embed_tokens.weight.fill_(0.5)
        for module in model.mtp_modules():
            module.eh_proj.weight.zero_()
            module.eh_proj.weight[:, : model.config.hidden_size].fill_diagonal_(1.0)
    params = SamplingParams(max_tokens=41, temperature=0.0)
    _, engine = run(model, "torch", 3, params, num_generations=1)
    assert engine.draft_statistics.acceptance == [1.0, 1.0, 1.0]
    assert engine.num_computed_tokens < sum(map(len, PROMPTS)) + 4 * 44


@pytest.mark.parametrize("decode", DECODES)
def test_rejected_guesses_are_counted_and_all_work_is_accounted_for(
    model: Transformer, decode: Literal["torch", "native"]
) -> None:
    params = SamplingParams(max_tokens=30, ignore_stops=True)
    config = EngineConfig(num_drafts=2, decode=decode, deterministic=True, max_running=8)
    engine = Engine(model, config, stop_token_ids=(1,))
    engine.draft_policy = Always()  # type: ignore[assignment]
    usage = engine.generate(PROMPTS, params, num_generations=2, seed=3).usage
    statistics = engine.draft_statistics
    assert usage.rejected_tokens == sum(statistics.num_proposed) - sum(statistics.num_accepted) > 0
    num_unread = 8  # the last token of each completion is never read
    work = usage.prompt_tokens + usage.completion_tokens + usage.rejected_tokens - num_unread
    assert engine.num_computed_tokens == work


def test_guessing_without_a_module_is_refused(make_tiny: Callable[..., Transformer]) -> None:
    with pytest.raises(UserError, match="no MTP module; set it to 0"):
        Engine(make_tiny(gqa=True), EngineConfig(num_drafts=1), stop_token_ids=(1,))


def test_statistics_tell_the_places_apart() -> None:
    statistics = DraftStatistics(num_proposed=[0, 0, 0], num_accepted=[0, 0, 0])
    for num_proposed, num_accepted in ((3, 3), (3, 1), (2, 0), (1, 1)):
        statistics.count(num_proposed, num_accepted)
    assert statistics.num_proposed == [4, 3, 2]
    assert statistics.num_accepted == [3, 1, 1]
    assert statistics.acceptance == [0.75, pytest.approx(1 / 3), 0.5]


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_the_policy_settles_for_the_faster_way_and_compares_again(gain: float) -> None:
    policy, seen = DraftPolicy(), []
    for _ in range(2 * TRIAL_STEPS + SETTLED_STEPS + 1):
        seen.append(policy.is_drafting)
        policy.observe(1.0, 2 if not policy.is_drafting else round(2 * gain))
    assert seen[:TRIAL_STEPS] == [True] * TRIAL_STEPS
    assert seen[TRIAL_STEPS : 2 * TRIAL_STEPS] == [False] * TRIAL_STEPS
    assert set(seen[2 * TRIAL_STEPS : -1]) == {gain > 1}
    for _ in range(TRIAL_STEPS):
        policy.observe(1.0, 2)
    assert policy.is_drafting != (gain > 1), "the other way has its turn"
