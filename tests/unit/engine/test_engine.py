"""The engine as a whole: what comes and goes, what it is counted as, and that nothing stays behind."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from openbook.engine.choose import make_pool
from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.types import Completion, FinishReason, SamplingParams
from openbook.errors import UserError
from openbook.model.cache import BLOCK_SIZE
from openbook.model.cost import count
from openbook.model.transformer import Transformer
from openbook.runs.usage import Usage

Decode = Literal["native", "torch"]
Drive = Callable[[Engine], dict[int, Completion]]
Scripted = Callable[..., Engine]

VOCAB = 40
PARAMS = SamplingParams(max_tokens=20)
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12], list(range(2, 36)), [13, 14, 15]]


@pytest.fixture(params=[False, True], ids=["mla", "gqa"])
def model(request: pytest.FixtureRequest, make_tiny: Callable[..., Transformer]) -> Transformer:
    return make_tiny(seed=4, gqa=request.param, vocab_size=VOCAB, init_std=0.3)


def make(model: Transformer, decode: Decode, **fields: Any) -> Engine:
    return Engine(model, EngineConfig(**{"decode": decode, "num_blocks": 64} | fields), stop_token_ids=(1,))


def work_of(done: Completion) -> int:
    """Tokens that went through the model for a completion that came to its end."""
    usage, num_unread = done.usage, 1  # the last token is sampled and never read
    assert usage.prompt_tokens + usage.cached_tokens == len(done.prompt_ids)
    assert usage.completion_tokens == len(done.token_ids)
    return (
        usage.prompt_tokens
        + usage.completion_tokens
        - num_unread
        + usage.recomputed_tokens
        + usage.rejected_tokens
    )


def test_requests_that_come_one_by_one_end_as_if_they_had_come_together(
    model: Transformer, decode: Decode, drive: Drive
) -> None:
    together = make(model, decode, deterministic=True)
    for number, prompt in enumerate(PROMPTS):
        together.submit(prompt, SamplingParams(max_tokens=20, seed=number))
    expected = drive(together)
    engine, done = make(model, decode, deterministic=True), {}
    for number, prompt in enumerate(PROMPTS):
        assert engine.submit(prompt, SamplingParams(max_tokens=20, seed=number)) == number
        done |= {one.request_id: one.completion for one in engine.step() if one.completion is not None}
    done |= drive(engine)
    assert {number: one.token_ids for number, one in done.items()} == {
        number: one.token_ids for number, one in expected.items()
    }


def test_an_engine_without_work_steps_in_vain(model: Transformer, decode: Decode) -> None:
    engine = make(model, decode)
    assert engine.step() == [] and not engine.has_unfinished and engine.num_computed_tokens == 0


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prefix_caching": False},
        {"chunk_tokens": 5, "max_tokens_per_step": 9, "max_running": 3},
        {"num_blocks": 5, "max_running": 4},
    ],
    ids=["roomy", "no prefix cache", "small chunks", "tiny pool"],
)
def test_the_kinds_of_tokens_add_up_to_the_work_done(
    fields: dict[str, Any], model: Transformer, decode: Decode
) -> None:
    engine, usage, work = make(model, decode, **fields), Usage(), 0
    for seed in range(3):
        generation = engine.generate(PROMPTS, SamplingParams(max_tokens=30), num_generations=3, seed=seed)
        usage += generation.usage
        work += sum(work_of(one) for group in generation.completions for one in group)
    assert engine.num_computed_tokens == work
    assert usage.cached_tokens > 0, "siblings share their prompt even without a prefix cache"
    assert (usage.recomputed_tokens > 0) == (fields.get("num_blocks") == 5), (
        "preemption in the tiny pool alone"
    )


def test_a_group_computes_its_prompt_once(model: Transformer, decode: Decode) -> None:
    engine = make(model, decode)
    generation = engine.generate([PROMPTS[2]], PARAMS, num_generations=5, seed=0)
    size = len(PROMPTS[2])
    assert (generation.usage.prompt_tokens, generation.usage.cached_tokens) == (size, 4 * size)
    again = engine.generate([PROMPTS[2]], PARAMS, num_generations=1, seed=1).usage
    assert again.cached_tokens == (size - 1) // BLOCK_SIZE * BLOCK_SIZE
    without = make(model, decode, prefix_caching=False)
    without.generate([PROMPTS[2]], PARAMS, num_generations=1, seed=0)
    assert without.generate([PROMPTS[2]], PARAMS, num_generations=1, seed=1).usage.cached_tokens == 0


@pytest.mark.parametrize("num_steps", range(12))
def test_a_request_is_cancelled_at_any_step_and_keeps_what_it_has(
    num_steps: int, make_tiny: Callable[..., Transformer], drive: Drive
) -> None:
    """Alone, leading others, following one, in the middle of its prompt, and when it has ended already."""
    model = make_tiny(vocab_size=VOCAB, init_std=0.3)
    for victim in range(4):
        engine = make(model, "torch", chunk_tokens=8, num_blocks=12, return_experts=True)
        params = SamplingParams(max_tokens=6, ignore_stops=True)
        leader = engine.submit(PROMPTS[2], params)
        for _ in range(2):
            engine.submit(PROMPTS[2], params, leader_id=leader)
        engine.submit(PROMPTS[0], params)
        done = {}
        for _ in range(num_steps):
            done |= {one.request_id: one.completion for one in engine.step() if one.completion is not None}
        cancelled = engine.cancel(victim)
        engine.scheduler.check()
        assert (cancelled is None) == (victim in done)
        if cancelled is not None:
            assert cancelled.finish_reason is FinishReason.ABORTED and len(cancelled.token_ids) < 6
            assert len(cancelled.logprobs) == len(cancelled.token_ids)
            assert cancelled.experts is not None
            assert len(cancelled.experts) <= len(cancelled.prompt_ids) + max(len(cancelled.token_ids) - 1, 0)
        assert engine.cancel(victim) is None and engine.cancel(99) is None
        done |= drive(engine)
        assert set(done) | {victim} == {0, 1, 2, 3}
        assert all(len(one.token_ids) == 6 for number, one in done.items() if number != victim)
        assert_nothing_left(engine)


def test_what_was_cancelled_is_counted_with_its_tokens(scripted: Scripted, drive: Drive) -> None:
    logits = torch.zeros(VOCAB)
    engine = scripted(lambda token, position: logits, stops=())
    engine.submit([2] * 5, SamplingParams(max_tokens=30))
    engine.submit([3] * 5, SamplingParams(max_tokens=30))
    for _ in range(4):
        engine.step()
    cancelled = engine.cancel(0)
    assert cancelled is not None and len(cancelled.token_ids) == 4
    assert (cancelled.usage.prompt_tokens, cancelled.usage.completion_tokens) == (5, 4)
    assert len(drive(engine)[1].token_ids) == 30


def test_a_follower_that_comes_late_samples_behind_the_prompt_and_not_behind_its_leader(
    scripted: Scripted, saying: Callable[..., Any], drive: Drive
) -> None:
    """A long prompt takes all the room of the step in which the follower could be forked."""
    engine = scripted(saying(*range(10, 30), prompt_length=2), stops=(), max_running=3, max_tokens_per_step=4)
    params = SamplingParams(max_tokens=12, temperature=0.0)
    leader = engine.submit([2, 2], params)
    for _ in range(3):
        engine.step()
    engine.submit([3] * 40, params)
    engine.step()
    engine.submit([2, 2], params, leader_id=leader)
    done = drive(engine)
    assert done[0].token_ids == done[2].token_ids == tuple(range(10, 22))


def assert_nothing_left(engine: Engine) -> None:
    engine.scheduler.check()
    assert not engine.has_unfinished and not engine.scheduler.has_unfinished
    assert (engine.scheduler.num_running, engine.scheduler.num_waiting) == (0, 0)
    assert engine.scheduler.pool.num_held == 0
    assert engine.scheduler.pool.num_free == engine.scheduler.pool.num_blocks
    assert not engine._requests and not engine._siblings


def test_a_thousand_requests_leave_nothing_behind(
    make_tiny: Callable[..., Transformer], decode: Decode
) -> None:
    engine = make(make_tiny(vocab_size=VOCAB, init_std=0.3), decode, num_blocks=24, max_running=32)

    def num_objects_after(count: int) -> int:
        prompts = [[2 + number % 30] * 18 for number in range(count // 4)]
        engine.generate(prompts, SamplingParams(max_tokens=4), num_generations=4, seed=0)
        gc.collect()
        return len(gc.get_objects())

    before = num_objects_after(200)
    after = num_objects_after(800)
    assert_nothing_left(engine)
    assert after - before < 400, "less than one for each request"


def test_the_cache_takes_the_bytes_of_the_formula(model: Transformer) -> None:
    cost = count(model.config)
    for dtype, item_bytes in ((torch.float32, 4), (torch.bfloat16, 2)):
        pool = make_pool(model.to(dtype), EngineConfig(num_blocks=11))
        assert pool.num_bytes == 11 * BLOCK_SIZE * cost.kv_bytes_per_token(item_bytes)


def test_the_cache_is_as_large_as_is_useful_or_as_is_allowed(model: Transformer) -> None:
    block_bytes = BLOCK_SIZE * count(model.config).kv_bytes_per_token(4)
    context = model.config.max_position_embeddings // BLOCK_SIZE
    assert make_pool(model, EngineConfig(max_running=3)).num_blocks == 3 * context
    assert make_pool(model, EngineConfig(cache_bytes=10 * block_bytes + 1)).num_blocks == 10
    assert make_pool(model, EngineConfig(cache_bytes=1)).num_blocks == 1


def test_new_weights_are_used_at_once_and_told_in_the_completions(
    make_tiny: Callable[..., Transformer], decode: Decode, drive: Drive
) -> None:
    model, newer = (make_tiny(seed=seed, gqa=True, vocab_size=VOCAB, init_std=0.3) for seed in (4, 5))
    params = SamplingParams(max_tokens=8, temperature=0.0, ignore_stops=True)
    engine = make(model, decode)
    old = engine.generate([PROMPTS[2]], params, num_generations=1, seed=0).completions[0][0]
    assert (old.policy_version, old.versions) == (0, ((0, 0),))
    engine.submit(PROMPTS[2], params)
    for _ in range(3):
        engine.step()
    model.load_state_dict(newer.state_dict())
    engine.publish(1)
    engine.submit(PROMPTS[2], params)
    done = sorted(drive(engine).items())
    (_, running), (_, fresh) = done
    assert (running.policy_version, running.versions) == (1, ((0, 0), (3, 1)))
    assert running.token_ids[:3] == old.token_ids[:3]
    assert (fresh.policy_version, fresh.versions, fresh.usage.cached_tokens) == (1, ((0, 1),), 0)
    expected = make(newer, decode).generate([PROMPTS[2]], params, num_generations=1, seed=0).completions[0][0]
    assert fresh.token_ids == expected.token_ids != old.token_ids
    again = engine.generate([PROMPTS[2]], params, num_generations=1, seed=0).completions[0][0]
    assert again.usage.cached_tokens > 0 and again.token_ids == expected.token_ids


def test_versions_only_rise(scripted: Scripted, saying: Callable[..., Any]) -> None:
    engine = scripted(saying(5))
    engine.publish(3)
    engine.publish(3)
    assert engine.executor.num_refreshs == 1  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="version 2 comes after 3; versions of weights only rise"):
        engine.publish(2)


BROKEN = 39


@torch.no_grad()
def unsaid(model: Transformer) -> Transformer:
    """`BROKEN` is never the likeliest token."""
    model.lm_head.weight[BROKEN] = 0
    return model


@torch.no_grad()
def broken(model: Transformer) -> Transformer:
    """Whoever reads `BROKEN` computes with NaN from there on."""
    model.model.embed_tokens.weight[BROKEN] = torch.nan
    return model


def test_a_request_whose_logits_are_no_numbers_ends_and_the_others_go_on(
    model: Transformer, decode: Decode, drive: Drive
) -> None:
    params = SamplingParams(max_tokens=12, temperature=0.0)
    expected = make(unsaid(model), decode).generate(PROMPTS, params, num_generations=1, seed=0)
    engine = make(broken(model), decode, num_blocks=20)
    for number, prompt in enumerate(PROMPTS):
        engine.submit(prompt, params)
        engine.submit([*prompt, BROKEN, 5, 6], SamplingParams(max_tokens=9, temperature=number % 2))
    done = drive(engine)
    for number, (one,) in enumerate(expected.completions):
        bad, good = done[2 * number + 1], done[2 * number]
        assert bad.finish_reason is FinishReason.ERROR and bad.token_ids == ()
        assert good.token_ids == one.token_ids
    assert_nothing_left(engine)


@pytest.mark.parametrize("deterministic", [False, True])
def test_blocks_that_held_no_numbers_are_taken_over_without_harm(
    deterministic: bool, model: Transformer, decode: Decode, drive: Drive
) -> None:
    """In one step sequences are of many lengths: short ones stand beside the blocks of a broken one."""
    params = SamplingParams(max_tokens=4, temperature=0.0, ignore_stops=True)
    expected = make(unsaid(model), decode).generate(PROMPTS, params, num_generations=1, seed=0)
    broken(model)
    engine = make(model, decode, num_blocks=10, deterministic=deterministic, chunk_tokens=16)
    for _ in range(3):
        engine.submit([BROKEN] * 40, params)
        engine.step()
        engine.cancel(engine.submit([BROKEN] * 20, params))
        tokens = [engine.submit(prompt, params) for prompt in PROMPTS]
        done = drive(engine)
        for number, (one,) in zip(tokens, expected.completions, strict=True):
            assert done[number].token_ids == one.token_ids


def test_a_batch_with_logits_that_are_no_numbers_is_an_error_of_the_weights(
    model: Transformer, decode: Decode
) -> None:
    engine = make(broken(model), decode)
    with pytest.raises(UserError, match="the model gave NaN for 2 of 4 completions; its weights are broken"):
        engine.generate([[5, BROKEN], [6]], SamplingParams(max_tokens=1), num_generations=2, seed=0)
    assert_nothing_left(engine)


def test_an_error_in_the_middle_of_a_batch_leaves_nothing_queued(scripted: Scripted) -> None:
    calls = []

    def follow(token: int, position: int) -> Tensor:
        calls.append(position)
        if len(calls) > 9:
            raise KeyboardInterrupt
        return torch.zeros(VOCAB)

    engine = scripted(follow, stops=())
    with pytest.raises(KeyboardInterrupt):
        engine.generate([[2], [3]], SamplingParams(max_tokens=30), num_generations=2, seed=0)
    assert_nothing_left(engine)


def test_a_batch_beside_requests_on_their_way_is_a_mistake(scripted: Scripted) -> None:
    logits = torch.zeros(VOCAB)
    engine = scripted(lambda token, position: logits)
    engine.submit([2], PARAMS)
    with pytest.raises(AssertionError):
        engine.generate([[2]], PARAMS, num_generations=1, seed=0)


def test_chosen_experts_are_told_for_every_token_that_was_read(
    make_tiny: Callable[..., Transformer], decode: Decode
) -> None:
    model = make_tiny(vocab_size=VOCAB, init_std=0.3, num_hidden_layers=3)
    engine = make(model, decode, return_experts=True, num_blocks=9, max_running=4)
    generation = engine.generate(PROMPTS, SamplingParams(max_tokens=25), num_generations=3, seed=0)
    assert generation.usage.recomputed_tokens > 0 and generation.usage.cached_tokens > 0
    for group in generation.completions:
        for one in group:
            assert one.experts is not None
            assert one.experts.shape == (len(one.prompt_ids) + len(one.token_ids) - 1, 2, 2)
            assert one.experts.min() >= 0 and one.experts.max() < 4
    silent = make(model, decode).generate([[5]], PARAMS, num_generations=1, seed=0)
    assert silent.completions[0][0].experts is None
