"""Tokens come from the distribution that was asked for, by seeds of their own, with its log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from openbook.engine.config import EngineConfig
from openbook.engine.engine import Engine
from openbook.engine.types import Completion, SamplingParams
from openbook.model.transformer import Transformer

Scripted = Callable[..., Engine]
Decode = Literal["native", "torch"]

VOCAB = 40
PROMPT = [5, 6, 7]
SHAPES = {
    "plain": {},
    "cool": {"temperature": 0.6},
    "top_k": {"top_k": 5},
    "top_p": {"top_p": 0.7},
    "min_p": {"min_p": 0.2},
    "all of them": {"temperature": 1.3, "top_k": 12, "top_p": 0.9, "min_p": 0.05},
    "penalties": {"repetition_penalty": 1.5, "presence_penalty": 0.4, "frequency_penalty": -0.3},
}


@pytest.fixture
def model(make_tiny: Callable[..., Transformer]) -> Transformer:
    return make_tiny(seed=4, vocab_size=VOCAB, init_std=0.3)


@torch.no_grad()
def logits_behind(model: Transformer, ids: list[int]) -> Tensor:
    return model.logits(model(torch.tensor([ids])).hidden_BTD[0, -1])


def by_hand(logits: Tensor, prompt: list[int], said: list[int], **fields: Any) -> Tensor:
    """The probabilities that `fields` ask for, step by step in fp64."""
    scores = logits.double().clone()
    factor = fields.get("repetition_penalty", 1.0)
    for token in {*prompt, *said}:
        scores[token] = scores[token] / factor if scores[token] > 0 else scores[token] * factor
    for token in set(said):
        count = said.count(token)
        scores[token] -= fields.get("presence_penalty", 0.0) + count * fields.get("frequency_penalty", 0.0)
    mass = (scores / fields.get("temperature", 1.0)).softmax(-1)
    order = mass.argsort(descending=True)
    keep = order[: fields.get("top_k") or len(order)]
    mass = torch.zeros_like(mass).index_copy(0, keep, mass[keep] / mass[keep].sum())
    before = mass[keep].cumsum(0) - mass[keep]
    keep = keep[before < fields.get("top_p", 1.0)]
    mass = torch.zeros_like(mass).index_copy(0, keep, mass[keep] / mass[keep].sum())
    mass[mass < fields.get("min_p", 0.0) * mass.max()] = 0.0
    return mass / mass.sum()


def chi_square(tokens: list[int], expected: Tensor) -> tuple[float, int]:
    """The statistic and its degrees of freedom; cells that expect fewer than five are put together."""
    counts, wanted = torch.bincount(torch.tensor(tokens), minlength=len(expected)), expected * len(tokens)
    assert counts[expected == 0].sum() == 0, "an impossible token was sampled"
    rare = wanted < 5
    cells = [(int(counts[one]), float(wanted[one])) for one in (~rare).nonzero()[:, 0]]
    if wanted[rare].sum() >= 5:
        cells.append((int(counts[rare].sum()), float(wanted[rare].sum())))
    return sum((count - want) ** 2 / want for count, want in cells), len(cells) - 1


def assert_drawn_from(tokens: list[int], expected: Tensor) -> None:
    """At the given seed; a right sampler would pass at all but one in ten thousand."""
    statistic, freedom = chi_square(tokens, expected)
    assert statistic < freedom + 4 * math.sqrt(2 * max(freedom, 1)) + 4, (statistic, freedom)


def first_tokens(engine: Engine, count: int, **fields: Any) -> list[Completion]:
    generation = engine.generate(
        [PROMPT], SamplingParams(max_tokens=1, **fields), num_generations=count, seed=3
    )
    return list(generation.completions[0])


@pytest.mark.parametrize("name", SHAPES)
def test_tokens_are_drawn_from_the_distribution_asked_for(
    name: str, model: Transformer, decode: Decode
) -> None:
    engine = Engine(model, EngineConfig(decode=decode, num_blocks=512), stop_token_ids=())
    done = first_tokens(engine, 1500, **SHAPES[name])
    expected = by_hand(logits_behind(model, PROMPT), PROMPT, [], **SHAPES[name])
    assert_drawn_from([one.token_ids[0] for one in done], expected)


def test_a_wrong_distribution_would_be_noticed(model: Transformer, decode: Decode) -> None:
    engine = Engine(model, EngineConfig(decode=decode, num_blocks=512), stop_token_ids=())
    done = first_tokens(engine, 1500)
    logits = logits_behind(model, PROMPT)
    with pytest.raises(AssertionError):
        assert_drawn_from([one.token_ids[0] for one in done], by_hand(logits, PROMPT, [], temperature=1.3))


def test_tokens_at_neighbouring_places_are_independent(scripted: Scripted) -> None:
    logits = torch.full((VOCAB,), -60.0)
    logits[:5] = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25]).log()
    engine = scripted(lambda token, position: logits, stops=())
    done = engine.generate([[2]], SamplingParams(max_tokens=4), num_generations=800, seed=0).completions[0]
    single = logits[:5].exp()
    pairs = (single[:, None] * single).flatten()
    for place in range(3):
        assert_drawn_from([5 * one.token_ids[place] + one.token_ids[place + 1] for one in done], pairs)


@pytest.mark.parametrize("name", SHAPES)
def test_log_probabilities_are_those_of_the_distribution_sampled_from(
    name: str, model: Transformer, decode: Decode
) -> None:
    engine = Engine(model, EngineConfig(decode=decode), stop_token_ids=())
    params = SamplingParams(max_tokens=12, **SHAPES[name])
    for one in engine.generate([PROMPT], params, num_generations=3, seed=1).completions[0]:
        for place, (token, logprob) in enumerate(zip(one.token_ids, one.logprobs, strict=True)):
            said = list(one.token_ids[:place])
            expected = by_hand(logits_behind(model, PROMPT + said), PROMPT, said, **SHAPES[name])
            assert logprob == pytest.approx(float(expected[token].log()), abs=2e-5), place


def test_the_likeliest_are_named_at_every_place(model: Transformer, decode: Decode) -> None:
    engine = Engine(model, EngineConfig(decode=decode), stop_token_ids=())
    params = SamplingParams(max_tokens=6, num_top_logprobs=3, top_k=20, temperature=0.8)
    (one,) = engine.generate([PROMPT], params, num_generations=1, seed=1).completions[0]
    assert len(one.top_logprobs) == 6
    for place, pairs in enumerate(one.top_logprobs):
        ids = PROMPT + list(one.token_ids[:place])
        expected = by_hand(logits_behind(model, ids), PROMPT, [], top_k=20, temperature=0.8)
        best = expected.topk(3)
        assert [token for token, _ in pairs] == best.indices.tolist()
        assert [value for _, value in pairs] == pytest.approx(best.values.log().tolist(), abs=2e-5)
    plain = SamplingParams(max_tokens=6, top_k=20, temperature=0.8)
    (other,) = engine.generate([PROMPT], plain, num_generations=1, seed=1).completions[0]
    assert other.top_logprobs == () and other.token_ids == one.token_ids, "asking changes no token"


def test_greedy_tokens_are_certain(model: Transformer, decode: Decode) -> None:
    engine = Engine(model, EngineConfig(decode=decode), stop_token_ids=())
    params = SamplingParams(max_tokens=8, temperature=0.0, top_k=3, top_p=0.5)
    (one,) = engine.generate([PROMPT], params, num_generations=1, seed=1).completions[0]
    assert one.logprobs == (0.0,) * 8


def test_a_seed_gives_its_tokens_again_and_another_gives_others(model: Transformer, decode: Decode) -> None:
    params = SamplingParams(max_tokens=20)

    def tokens(seed: int) -> list[tuple[int, ...]]:
        engine = Engine(model, EngineConfig(decode=decode), stop_token_ids=())
        generation = engine.generate([PROMPT, [9]], params, num_generations=3, seed=seed)
        return [one.token_ids for group in generation.completions for one in group]

    first = tokens(0)
    assert tokens(0) == first and len(set(first)) == 6
    assert not set(tokens(1)) & set(first)


def test_the_seed_of_a_request_is_its_own(
    model: Transformer, decode: Decode, drive: Callable[[Engine], dict[int, Completion]]
) -> None:
    def tokens(*seeds: int | None) -> list[tuple[int, ...]]:
        engine = Engine(model, EngineConfig(decode=decode, deterministic=True), stop_token_ids=())
        for seed in seeds:
            engine.submit(PROMPT, SamplingParams(max_tokens=20, seed=seed))
        return [completion.token_ids for _, completion in sorted(drive(engine).items())]

    seven, eight = tokens(7, 8)
    assert tokens(None, 8, 7)[1:] == [eight, seven] and seven != eight
    assert len(set(tokens(None, None, None))) == 3, "without one each draws its own"


def test_each_sample_of_a_group_is_that_of_its_place_alone(model: Transformer, decode: Decode) -> None:
    engine = Engine(model, EngineConfig(decode=decode, deterministic=True), stop_token_ids=())
    params = SamplingParams(max_tokens=10)
    few = engine.generate([PROMPT], params, num_generations=2, seed=5).completions[0]
    many = engine.generate([PROMPT], params, num_generations=6, seed=5).completions[0]
    assert [one.token_ids for one in few] == [one.token_ids for one in many[:2]]
