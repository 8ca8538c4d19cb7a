"""Several steps in a row sample what as many single steps would, and leave the same accounts behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.thinking import ReasoningTags
from openbook.engine.types import Completion, FinishReason, SamplingParams
from openbook.kernels.native import Missing, load_native
from openbook.model.transformer import Transformer

VOCAB = 40
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12], list(range(2, 36)), [13, 14, 15], [16]]
TAGS = ReasoningTags(open_id=30, close_id=31, closing_ids=(31, 32))

pytestmark = pytest.mark.skipif(isinstance(load_native(), Missing), reason="there is no compiler here")


@pytest.fixture(params=[False, True], ids=["mla", "gqa"])
def model(request: pytest.FixtureRequest, make_tiny: Callable[..., Transformer]) -> Transformer:
    return make_tiny(seed=4, gqa=request.param, vocab_size=VOCAB, init_std=0.3)


def make(model: Transformer, config: EngineConfig) -> Engine:
    return Engine(model, config, stop_token_ids=(1, 2, 3), tags=TAGS)


def run(engine: Engine, num_tokens: int) -> tuple[list[Completion], int]:
    """Three samples of each prompt, each of a length of its own, and how many calls of `step` they took."""
    for number, prompt in enumerate(PROMPTS * 3):
        engine.submit(prompt, SamplingParams(max_tokens=9 + 7 * (number % 5), seed=number))
    done: dict[int, Completion] = {}
    said: dict[int, tuple[int, ...]] = {}
    num_calls = 0
    while engine.has_unfinished:
        for update in engine.step(num_tokens):
            said[update.request_id] = said.get(update.request_id, ()) + update.token_ids
            if update.completion is not None:
                done[update.request_id] = update.completion
        engine.scheduler.check()
        num_calls += 1
    assert {number: one.token_ids for number, one in done.items()} == said
    return [done[number] for number in sorted(done)], num_calls


@pytest.mark.parametrize(
    "config",
    [
        EngineConfig(num_blocks=64),
        EngineConfig(num_blocks=64, max_running=4),
        EngineConfig(num_blocks=64, return_experts=True),
        EngineConfig(num_blocks=9, max_running=4),
    ],
    ids=["all at once", "others wait", "experts", "hardly any room"],
)
def test_a_burst_is_so_many_steps(model: Transformer, config: EngineConfig) -> None:
    config = replace(config, deterministic=True, decode="native")
    engines = [make(model, config) for _ in range(2)]
    (singly, num_steps), (in_bursts, num_calls) = run(engines[0], 1), run(engines[1], 8)
    assert {one.finish_reason for one in singly} == {FinishReason.STOP, FinishReason.LENGTH}
    for one, other in zip(singly, in_bursts, strict=True):
        same = {"experts": None}
        if config.num_blocks > 9:  # there some are preempted, here perhaps others
            assert one.usage == other.usage
        assert replace(one, **same, usage=other.usage) == replace(other, **same)  # type: ignore[arg-type]
        if one.experts is not None:
            assert other.experts is not None and (one.experts == other.experts).all()
    assert num_calls < num_steps
    if config.num_blocks > 9:
        assert engines[0].num_computed_tokens == engines[1].num_computed_tokens


def test_what_is_not_plain_goes_step_by_step(model: Transformer) -> None:
    engine = make(model, EngineConfig(num_blocks=64, decode="native"))
    engine.submit([5, 6], SamplingParams(max_tokens=12, ignore_stops=True))
    engine.submit([7, 8], SamplingParams(max_tokens=12, ignore_stops=True, top_k=3))
    sizes = [len(one.token_ids) for _ in range(3) for one in engine.step(8)]
    assert set(sizes) == {1}


@torch.no_grad()
def test_a_sequence_that_turns_into_no_numbers_ends_alone(model: Transformer) -> None:
    model.model.embed_tokens.weight[5] = torch.nan
    engine = make(model, EngineConfig(num_blocks=64, decode="native"))
    params = SamplingParams(max_tokens=20, ignore_stops=True)
    requests = [engine.submit([6, number], replace(params, seed=number)) for number in range(7, 23)]
    done: dict[int, Completion] = {}
    while engine.has_unfinished:
        done |= {one.request_id: one.completion for one in engine.step(16) if one.completion is not None}
        engine.scheduler.check()
    broken = [one for one in done.values() if one.finish_reason is FinishReason.ERROR]
    assert 0 < len(broken) < len(requests), "some say the token that breaks them, and some do not"
    assert all(one.token_ids[-1] == 5 for one in broken)
    assert all(
        5 not in one.token_ids[:-1] and len(one.token_ids) == 20 for one in done.values() if one not in broken
    )
