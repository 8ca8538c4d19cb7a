"""Sampling with a cache and scoring whole rows: same mathematics, same tokens, same log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from openbook.cli.shelf import all_recipes
from openbook.config import load_recipe
from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.types import Completion, FinishReason, SamplingParams
from openbook.kernels.native import Missing, load_native
from openbook.model.init import initialize
from openbook.model.transformer import Transformer
from openbook.r1.schemas import SCHEMAS
from openbook.rl.batch import make_policy_batch
from openbook.rl.logprobs import completion_logprobs

Decode = Literal["native", "torch"]

STOPS = (1, 2, 3)
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15], [39, 38, 37, 36, 35, 34, 33, 32, 31, 30, 29]]
LONG = [
    [(7 * place + start) % 40 for place in range(length)] for start, length in ((0, 50), (3, 21), (0, 67))
]
"""The first and the last begin alike."""


@pytest.fixture(params=[False, True], ids=["mla-moe", "gqa"])
def model(request: pytest.FixtureRequest, make_tiny: Callable[..., Transformer]) -> Transformer:
    return make_tiny(seed=4, gqa=request.param, vocab_size=40, init_std=0.3)


@pytest.fixture(params=["native", "torch"])
def decode(request: pytest.FixtureRequest) -> Decode:
    found = load_native()
    if request.param == "native" and isinstance(found, Missing):
        pytest.skip(found.reason)
    choice: Decode = request.param
    return choice


def sample_from(
    model: Transformer,
    params: SamplingParams,
    *,
    prompts: Sequence[Sequence[int]] = PROMPTS,
    stops: tuple[int, ...] = STOPS,
    num_generations: int = 1,
    **fields: Any,
) -> list[Completion]:
    engine = Engine(model, EngineConfig(**fields), stop_token_ids=stops)
    generation = engine.generate(prompts, params, num_generations=num_generations, seed=11)
    return [one for group in generation.completions for one in group]


@torch.no_grad()
def most_likely(model: Transformer, prompt: list[int], num_tokens: int) -> list[int]:
    """Greedy decoding the slow way: the whole row anew for every token."""
    ids = list(prompt)
    for _ in range(num_tokens):
        ids.append(int(model.logits(model(torch.tensor([ids])).hidden_BTD[0, -1]).argmax()))
    return ids[len(prompt) :]


def test_greedy_decoding_of_ragged_prompts_takes_the_argmax_of_the_whole_row(
    model: Transformer, decode: Decode
) -> None:
    completions = sample_from(model, SamplingParams(max_tokens=16, temperature=0.0), stops=(), decode=decode)
    found = [list(one.token_ids) for one in completions]
    assert found == [most_likely(model, prompt, 16) for prompt in PROMPTS]
    assert len({tuple(row) for row in found}) == len(PROMPTS)
    assert any(len(set(row)) > 4 for row in found), "a model that repeats itself would hide a mistake"


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_sampler_and_the_trainer_agree_on_every_log_probability(
    model: Transformer, decode: Decode, temperature: float
) -> None:
    params = SamplingParams(max_tokens=24, temperature=temperature)
    completions = sample_from(model, params, num_generations=3, decode=decode)
    assert {one.finish_reason for one in completions} == {FinishReason.STOP, FinishReason.LENGTH}, (
        "rows should end at different times"
    )
    batch = make_policy_batch([(one, 0.0) for one in completions], pad_id=0)
    with torch.no_grad():
        scored, entropy, _ = completion_logprobs(model, batch, temperature=temperature)
    torch.testing.assert_close(scored, batch.sampler_logprobs_BT, atol=1e-5, rtol=0)
    assert (scored[batch.mask_BT.bool()] < 0).all()
    assert (scored[~batch.mask_BT.bool()] == 0).all() and (entropy[~batch.mask_BT.bool()] == 0).all()


def test_the_entropy_is_that_of_the_distribution_sampled_from(model: Transformer) -> None:
    one = sample_from(model, SamplingParams(max_tokens=5, temperature=0.7))[0]
    batch = make_policy_batch([(one, 0.0)], pad_id=0)
    with torch.no_grad():
        _, entropy, _ = completion_logprobs(model, batch, temperature=0.7)
        hidden = model(torch.tensor([[*one.prompt_ids, *one.token_ids][:-1]])).hidden_BTD[0]
        probabilities = torch.softmax(model.logits(hidden) / 0.7, -1)
    by_hand = -(probabilities * probabilities.log()).sum(-1)
    start = len(one.prompt_ids) - 1
    torch.testing.assert_close(entropy[0, start:], by_hand[start:], atol=1e-5, rtol=1e-5)


GREEDY = SamplingParams(max_tokens=20, temperature=0.0)


def tokens_of(completions: Sequence[Completion]) -> list[tuple[int, ...]]:
    return [one.token_ids for one in completions]


@pytest.mark.parametrize(
    "fields",
    [
        {"chunk_tokens": 7},
        {"chunk_tokens": 16, "max_tokens_per_step": 20, "max_running": 4},
        {"chunk_tokens": 1, "max_tokens_per_step": 3, "max_running": 3},
        {"prefix_caching": False},
        {"num_blocks": 7, "max_running": 3},
        {"max_running": 1},
    ],
    ids=["chunks of 7", "chunks among decoding", "chunks of 1", "no prefix cache", "tiny pool", "one by one"],
)
def test_how_prompts_are_computed_changes_no_greedy_token(
    fields: dict[str, Any], model: Transformer, decode: Decode
) -> None:
    expected = sample_from(model, GREEDY, prompts=LONG, stops=(), decode=decode)
    found = sample_from(model, GREEDY, prompts=LONG, stops=(), decode=decode, **fields)
    assert tokens_of(found) == tokens_of(expected)
    assert [list(one.token_ids) for one in found] == [most_likely(model, prompt, 20) for prompt in LONG]


def test_a_prefix_that_is_found_changes_no_greedy_token(model: Transformer, decode: Decode) -> None:
    expected = sample_from(model, GREEDY, prompts=LONG, stops=(), decode=decode)
    engine = Engine(model, EngineConfig(decode=decode), stop_token_ids=())
    for number in (0, 2, 1, 2, 0):
        generation = engine.generate([LONG[number]], GREEDY, num_generations=2, seed=0)
        for one in generation.completions[0]:
            assert one.token_ids == expected[number].token_ids
    assert generation.usage.cached_tokens > 2 * 40
    turn = [*LONG[0], *expected[0].token_ids, 8, 9]
    follow = engine.generate([turn], GREEDY, num_generations=1, seed=0)
    assert follow.usage.cached_tokens == 64, "the answer is part of the next prompt's prefix"
    assert list(follow.completions[0][0].token_ids) == most_likely(model, turn, 20)


@pytest.mark.parametrize(
    "fields", [{}, {"temperature": 0.7}, {"top_p": 0.8, "top_k": 20}, {"repetition_penalty": 1.2}], ids=str
)
def test_native_kernels_and_modules_sample_the_same_tokens(
    model: Transformer, fields: dict[str, float]
) -> None:
    if isinstance(load_native(), Missing):
        pytest.skip("no native kernels")
    params = SamplingParams(max_tokens=30, **fields)  # type: ignore[arg-type]
    native, plain = (
        sample_from(model, params, prompts=[*PROMPTS, *LONG], num_generations=2, decode=decode)
        for decode in ("native", "torch")
    )
    assert tokens_of(native) == tokens_of(plain)
    for one, other in zip(native, plain, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def replayed_logprobs(model: Transformer, one: Completion, *, replays: bool) -> list[float]:
    """What the trainer gives each token of a completion, with the sampler's experts or with its own."""
    ids = torch.tensor([[*one.prompt_ids, *one.token_ids]])
    given = None
    if replays:
        assert one.experts is not None
        given = torch.from_numpy(one.experts.astype(np.int64))[None]
    with torch.no_grad():
        hidden = model(ids[:, :-1], experts_BTLK=given).hidden_BTD[0]
        logprobs = model.logits(hidden).log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return logprobs[len(one.prompt_ids) - 1 :].tolist()


def nano(seed: int) -> Transformer:
    """The network of `make run`, with weights large enough to have opinions."""
    recipe = load_recipe(all_recipes()["run/nano"], SCHEMAS)
    config = replace(recipe.config.model, init_std=0.08)
    made = Transformer(config)
    initialize(made, config, torch.Generator().manual_seed(seed))
    return made


@pytest.mark.parametrize("deterministic", [False, True], ids=["fast", "exact"])
def test_log_probabilities_of_the_nano_model_are_the_trainers_with_the_experts_replayed(
    decode: Decode, deterministic: bool
) -> None:
    model = nano(0)
    prompts = [[(31 * place + start) % 640 for place in range(9 + start)] for start in range(4)]
    completions = sample_from(
        model,
        SamplingParams(max_tokens=40),
        prompts=prompts,
        num_generations=2,
        decode=decode,
        deterministic=deterministic,
        return_experts=True,
        num_blocks=24,
        max_running=8,
    )
    for one in completions:
        assert replayed_logprobs(model, one, replays=True) == pytest.approx(one.logprobs, abs=1e-5)


def test_experts_are_replayed_where_the_gate_would_choose_others_by_now(
    make_tiny: Callable[..., Transformer], decode: Decode
) -> None:
    """The bias of a gate moves its choice and no share: with the sampler's experts nothing changes."""
    model = make_tiny(seed=4, vocab_size=40, init_std=0.3, num_hidden_layers=3)
    completions = sample_from(
        model, SamplingParams(max_tokens=24), decode=decode, return_experts=True, num_generations=2
    )
    for name, tensor in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            tensor += torch.tensor([0.0, 2.0, 0.0, -2.0])
    num_changed = 0
    for one in completions:
        assert replayed_logprobs(model, one, replays=True) == pytest.approx(one.logprobs, abs=1e-5)
        own = replayed_logprobs(model, one, replays=False)
        num_changed += own != pytest.approx(one.logprobs, abs=1e-3)
    assert num_changed == len(completions)


def test_experts_found_in_the_cache_are_those_that_computed_it(
    make_tiny: Callable[..., Transformer], decode: Decode
) -> None:
    model = make_tiny(seed=4, vocab_size=40, init_std=0.3)
    engine = Engine(model, EngineConfig(decode=decode, return_experts=True), stop_token_ids=())
    for _ in range(2):
        generation = engine.generate(
            [LONG[0], LONG[2]], SamplingParams(max_tokens=9), num_generations=3, seed=0
        )
        for group in generation.completions:
            for one in group:
                assert replayed_logprobs(model, one, replays=True) == pytest.approx(one.logprobs, abs=1e-5)
    assert generation.usage.cached_tokens > 6 * 48


ALONE = SamplingParams(max_tokens=30, seed=7)


def one_among(
    model: Transformer, others: Sequence[Sequence[int]], *, before: int = 0, **fields: Any
) -> Completion:
    """One request, the same each time, among others that come before and behind it."""
    engine = Engine(model, EngineConfig(**{"deterministic": True} | fields), stop_token_ids=(1,))
    for number, prompt in enumerate(others[:before]):
        engine.submit(prompt, SamplingParams(max_tokens=25 + number, seed=number, ignore_stops=True))
    for _ in range(before):
        engine.step()
    wanted = engine.submit(LONG[0], ALONE)
    for number, prompt in enumerate(others[before:]):
        engine.submit(prompt, SamplingParams(max_tokens=30, seed=100 + number, ignore_stops=True))
    found = None
    while engine.has_unfinished:
        for update in engine.step():
            if update.request_id == wanted:
                found = update.completion or found
    assert found is not None
    return found


CIRCUMSTANCES: dict[str, dict[str, Any]] = {
    "a crowd behind": {"others": PROMPTS * 3},
    "a crowd before": {"others": [*LONG, *PROMPTS, *LONG], "before": 6},
    "its own prompt before": {"others": [LONG[0], LONG[2], LONG[0]], "before": 3},
    "preemption": {"others": [LONG[1]] * 3, "before": 3, "num_blocks": 13, "prefix_caching": False},
    "small chunks": {"others": LONG, "chunk_tokens": 5, "max_tokens_per_step": 16, "max_running": 8},
    "no prefix cache": {"others": [LONG[0], LONG[2]], "before": 2, "prefix_caching": False},
    "alone and in chunks": {"others": [], "chunk_tokens": 3},
}


@pytest.mark.parametrize("name", CIRCUMSTANCES)
@pytest.mark.parametrize("weights", ["fp32", "bf16"])
def test_in_deterministic_mode_a_requests_bits_depend_on_nothing_beside_it(
    name: str, weights: str, model: Transformer
) -> None:
    if isinstance(load_native(), Missing):
        pytest.skip("no native kernels")
    if weights == "bf16":
        model = model.to(torch.bfloat16)
    alone = one_among(model, [], decode="native")
    among = one_among(model, **CIRCUMSTANCES[name], decode="native")
    assert among.token_ids == alone.token_ids and len(set(alone.token_ids)) > 4
    assert among.logprobs == alone.logprobs, "to the bit"
    if name == "preemption":
        assert among.usage.recomputed_tokens > 0


@pytest.mark.parametrize("name", CIRCUMSTANCES)
def test_in_deterministic_mode_the_modules_sample_the_same_tokens_in_all_circumstances(
    name: str, model: Transformer
) -> None:
    alone, among = (
        one_among(model, **circumstances, decode="torch")
        for circumstances in ({"others": []}, CIRCUMSTANCES[name])
    )
    assert among.token_ids == alone.token_ids
    assert among.logprobs == pytest.approx(alone.logprobs, abs=1e-5)


def test_in_deterministic_mode_threads_change_no_bit(model: Transformer) -> None:
    if isinstance(load_native(), Missing):
        pytest.skip("no native kernels")
    before = torch.get_num_threads()
    try:
        found = []
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            found.append(one_among(model, PROMPTS, decode="native"))
    finally:
        torch.set_num_threads(before)
    assert found[0].token_ids == found[1].token_ids and found[0].logprobs == found[1].logprobs
