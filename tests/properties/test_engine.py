"""Whatever arrives, is cancelled or gets no block: everything ends, with the tokens it has alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.types import Completion, FinishReason, SamplingParams
from openbook.kernels.native import Missing, load_native
from openbook.model.transformer import Transformer
from openbook.runs.usage import Usage

VOCAB = 24
MOST_STEPS = 3000
STOP = 1
STEMS = [[5] * 20, [6, 7] * 17, [8]]
"""Prompts begin alike in a few ways, so that they are found in the cache."""

Alone = Callable[[tuple[int, ...], int, int], Completion]


@pytest.fixture(scope="module", params=[False, True], ids=["mla", "gqa"])
def model(request: pytest.FixtureRequest, make_tiny: Callable[..., Transformer]) -> Transformer:
    return make_tiny(
        seed=4, gqa=request.param, vocab_size=VOCAB, init_std=0.3, max_position_embeddings=128
    ).requires_grad_(False)


@pytest.fixture(scope="module", autouse=True)
def one_thread_for_all() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def decode() -> str:
    return "torch" if isinstance(load_native(), Missing) else "native"


@pytest.fixture(scope="module")
def alone(model: Transformer, decode: str) -> Alone:
    """The completion of a request that nothing else was beside, remembered."""
    known: dict[tuple[tuple[int, ...], int, int], Completion] = {}

    def run(prompt: tuple[int, ...], max_tokens: int, seed: int) -> Completion:
        key = (prompt, max_tokens, seed)
        if key not in known:
            engine = engine_of(model, decode)
            engine.submit(prompt, params(max_tokens, seed))
            known[key] = finish(engine)[0]
        return known[key]

    return run


def engine_of(model: Transformer, decode: str, *, num_drafts: int = 0, **fields: Any) -> Engine:
    """In deterministic mode; guessing ahead where the model has a module for it."""
    num_drafts *= model.config.num_nextn_predict_layers
    config = EngineConfig(decode=decode, deterministic=True, num_drafts=num_drafts, **fields)  # type: ignore[arg-type]
    return Engine(model, config, stop_token_ids=(STOP,))


def params(max_tokens: int, seed: int) -> SamplingParams:
    """Greedy for even seeds."""
    return SamplingParams(max_tokens=max_tokens, seed=seed, temperature=float(seed % 2))


def finish(engine: Engine) -> dict[int, Completion]:
    done: dict[int, Completion] = {}
    for _ in range(MOST_STEPS):
        if not engine.has_unfinished:
            return done
        take(engine, done)
    raise AssertionError("no end")


def take(engine: Engine, done: dict[int, Completion]) -> None:
    for update in engine.step():
        if update.completion is not None:
            assert update.request_id not in done
            done[update.request_id] = update.completion
    engine.scheduler.check()


arrivals = st.tuples(
    st.sampled_from(range(len(STEMS))),
    st.lists(st.integers(2, VOCAB - 1), max_size=20),
    st.integers(1, 30),
    st.integers(0, 3),
    st.integers(0, 3),
)
configs = st.fixed_dictionaries(
    {
        "num_blocks": st.integers(6, 14),
        "max_running": st.integers(1, 8),
        "max_tokens_per_step": st.integers(8, 40),
        "chunk_tokens": st.integers(1, 40),
        "prefix_caching": st.booleans(),
        "num_drafts": st.integers(0, 2),
    }
)
"""Six blocks hold the longest request of all, and little beside it."""


@settings(max_examples=60)
@given(
    fields=configs,
    arriving=st.lists(arrivals, min_size=1, max_size=7),
    random=st.randoms(use_true_random=False),
    cancels=st.integers(0, 3),
)
def test_all_requests_end_as_if_each_had_been_alone(
    fields: dict[str, Any],
    arriving: list[tuple[int, list[int], int, int, int]],
    random: Random,
    cancels: int,
    model: Transformer,
    decode: str,
    alone: Alone,
) -> None:
    engine = engine_of(model, decode, return_experts=True, **fields)
    wanted: dict[int, tuple[tuple[int, ...], int, int]] = {}
    done: dict[int, Completion] = {}
    cancelled: dict[int, Completion] = {}
    for stem, rest, max_tokens, num_siblings, num_steps in arriving:
        prompt = (*STEMS[stem], *rest)
        leader = None
        for number in range(num_siblings + 1):
            request = engine.submit(prompt, params(max_tokens, number), leader_id=leader)
            wanted[request] = (prompt, max_tokens, number)
            leader = request if leader is None else leader
        for _ in range(num_steps):
            take(engine, done)
        if cancels > len(cancelled) and random.random() < 0.5:
            victim = random.choice(list(wanted))
            ended = engine.cancel(victim)
            assert (ended is None) == (victim in done or victim in cancelled)
            if ended is not None:
                cancelled[victim] = ended
            engine.scheduler.check()
    done |= finish(engine)
    assert set(done) | set(cancelled) == set(wanted) and not set(done) & set(cancelled)
    for request, one in done.items():
        expected = alone(*wanted[request])
        assert one.token_ids == expected.token_ids
        assert one.logprobs == pytest.approx(expected.logprobs, abs=0 if decode == "native" else 1e-5)
        assert one.finish_reason == expected.finish_reason
    for request, one in cancelled.items():
        assert one.finish_reason is FinishReason.ABORTED
        assert one.token_ids == alone(*wanted[request]).token_ids[: len(one.token_ids)]
    check_accounts(engine, done, cancelled)


def check_accounts(engine: Engine, done: dict[int, Completion], cancelled: dict[int, Completion]) -> None:
    pool = engine.scheduler.pool
    assert pool.num_held == 0 and pool.num_free == pool.num_blocks and not engine.has_unfinished
    for one in done.values():
        usage, size = one.usage, len(one.prompt_ids)
        assert usage.prompt_tokens + usage.cached_tokens == size
        assert usage.completion_tokens == len(one.token_ids)
        if engine.model.config.moe is not None:
            assert one.experts is not None and len(one.experts) == size + len(one.token_ids) - 1
    usage = sum((one.usage for one in [*done.values(), *cancelled.values()]), Usage())
    fed_back = sum(len(one.token_ids) - 1 for one in done.values())
    least = usage.prompt_tokens + usage.recomputed_tokens + usage.rejected_tokens + fed_back
    # A last token that was a guess is in the cache; of what was cancelled any part may have been read.
    most = least + sum(1 + len(one.token_ids) for one in [*cancelled.values()])
    most += len(done) if engine.config.num_drafts else 0
    assert least <= engine.num_computed_tokens <= most


@settings(max_examples=25)
@given(fields=configs, length=st.integers(1, 60), max_tokens=st.integers(1, 30))
def test_a_group_shares_its_prompt_and_no_block_that_one_writes_to(
    fields: dict[str, Any], length: int, max_tokens: int, model: Transformer, decode: str, alone: Alone
) -> None:
    engine, prompt = engine_of(model, decode, **fields), tuple(9 + n % 7 for n in range(length))
    leader = engine.submit(prompt, params(max_tokens, 0))
    for number in range(1, 5):
        engine.submit(prompt, params(max_tokens, number), leader_id=leader)
    done = finish(engine)
    for number in range(5):
        assert done[number].token_ids == alone(prompt, max_tokens, number).token_ids
    assert engine.scheduler.pool.num_held == 0
