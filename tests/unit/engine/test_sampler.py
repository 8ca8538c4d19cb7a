from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

import openbook.engine.sampler
from openbook.engine.sampler import Sampler, sample
from openbook.engine.types import Completion, FinishReason, Generation, SamplingParams
from openbook.errors import UserError
from openbook.model.transformer import Transformer

PAD, STOPS = 0, (1, 2, 3, 4, 5)
PROMPTS = [[7, 8, 9, 10], [11], [12, 13]]
CHI_SQUARE_999 = {5: 20.52, 39: 72.05}
"""The 99.9 % quantile by degrees of freedom: with fixed seeds, a bound and no chance of a flaky test."""

MakeTiny = Callable[..., Transformer]


@pytest.fixture(scope="module")
def model(make_tiny: MakeTiny) -> Transformer:
    return make_tiny(seed=4, vocab_size=40, init_std=0.2)


def generate(
    model: Transformer,
    params: SamplingParams,
    *,
    prompts: Sequence[Sequence[int]] = PROMPTS,
    num_generations: int = 4,
    seed: int = 5,
    stops: tuple[int, ...] = STOPS,
) -> Generation:
    sampler = Sampler(model, stop_token_ids=stops, pad_id=PAD, version=3)
    return sampler.generate(prompts, params, num_generations=num_generations, seed=seed)


def flat(generation: Generation) -> list[Completion]:
    return [one for group in generation.completions for one in group]


def tokens_of(generation: Generation) -> list[tuple[int, ...]]:
    return [one.token_ids for one in flat(generation)]


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(model: Transformer) -> None:
    params = SamplingParams(max_tokens=12)
    first = generate(model, params)
    assert generate(model, params) == first
    assert tokens_of(generate(model, params, seed=6)) != tokens_of(first)
    assert len(set(tokens_of(first))) == 12, "every row draws numbers of its own"


def test_completions_come_in_the_order_of_the_prompts_and_carry_the_version(model: Transformer) -> None:
    generation = generate(model, SamplingParams(max_tokens=6))
    assert [len(group) for group in generation.completions] == [4, 4, 4]
    for prompt, group in zip(PROMPTS, generation.completions, strict=True):
        assert all(one.prompt_ids == tuple(prompt) and one.policy_version == 3 for one in group)


def test_a_completion_ends_with_its_stop_token_or_at_the_limit(model: Transformer) -> None:
    completions = flat(generate(model, SamplingParams(max_tokens=12)))
    assert {one.finish_reason for one in completions} == set(FinishReason)
    for one in completions:
        assert len(one.logprobs) == len(one.token_ids)
        assert not set(one.token_ids[:-1]) & set(STOPS)
        if one.finish_reason is FinishReason.STOP:
            assert one.token_ids[-1] in STOPS
        else:
            assert len(one.token_ids) == 12 and one.token_ids[-1] not in STOPS


def test_stop_tokens_of_the_call_are_added_to_those_of_the_sampler(model: Transformer) -> None:
    everything = tuple(range(40))
    for params, stops in (
        (SamplingParams(max_tokens=9, stop_token_ids=everything), ()),
        (SamplingParams(max_tokens=9), everything),
    ):
        completions = flat(generate(model, params, stops=stops))
        assert [len(one.token_ids) for one in completions] == [1] * 12
    endless = flat(generate(model, SamplingParams(max_tokens=9), stops=()))
    assert [len(one.token_ids) for one in endless] == [9] * 12


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_row_does_not_depend_on_when_finished_rows_are_dropped(
    model: Transformer, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    params = SamplingParams(max_tokens=20)
    expected = flat(generate(model, params, num_generations=6))
    assert len({len(one.token_ids) for one in expected}) > 4, "rows should finish at different times"
    sizes: list[int] = []
    real = model.forward_cached

    def counted(tokens: Tensor, cache: object, lengths: Tensor) -> Tensor:
        sizes.append(len(tokens))
        return real(tokens, cache, lengths)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "forward_cached", counted)
    monkeypatch.setattr(openbook.engine.sampler, "COMPACT_BELOW", share)
    found = flat(generate(model, params, num_generations=6))
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    steps = sizes[1:]  # after the prefill
    if share == 0:
        assert set(steps) == {18}
    else:
        running = [sum(len(one.token_ids) > step for one in expected) for step in range(1, len(steps) + 1)]
        assert steps == running


def test_a_row_does_not_depend_on_its_neighbours(model: Transformer) -> None:
    params = SamplingParams(max_tokens=10)
    together = tokens_of(generate(model, params, num_generations=1))
    other_neighbours = [[20, 21, 22, 23, 24, 25], *PROMPTS[1:]]
    assert tokens_of(generate(model, params, prompts=other_neighbours, num_generations=1))[1:] == together[1:]


def test_usage_counts_what_was_read_found_and_sampled(model: Transformer) -> None:
    generation = generate(model, SamplingParams(max_tokens=12))
    usage = generation.usage
    assert (usage.prompt_tokens, usage.cached_tokens) == (7, 7 * 3)
    assert usage.completion_tokens == sum(len(ids) for ids in tokens_of(generation))
    assert usage.trained_tokens == 0


def test_sampling_leaves_the_mode_of_the_model_as_it_was(make_tiny: MakeTiny) -> None:
    model = make_tiny(vocab_size=40)
    for training in (True, False):
        model.train(training)
        completion = flat(generate(model, SamplingParams(max_tokens=2)))[0]
        assert model.training == training
        assert all(math.isfinite(value) for value in completion.logprobs)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_empty_prompt_is_refused_with_its_number(model: Transformer) -> None:
    with pytest.raises(UserError, match="prompt 1 is empty"):
        generate(model, SamplingParams(max_tokens=2), prompts=[[7], []])


def test_a_prompt_that_leaves_no_room_is_refused_and_one_that_just_fits_is_not(make_tiny: MakeTiny) -> None:
    model = make_tiny(vocab_size=40, max_position_embeddings=12)
    with pytest.raises(UserError, match="prompt 0 has 8 tokens and max_tokens is 5") as error:
        generate(model, SamplingParams(max_tokens=5), prompts=[[7] * 8])
    assert "12" in error.value.mend
    fitting = flat(generate(model, SamplingParams(max_tokens=4), prompts=[[7] * 8], stops=()))
    assert [len(one.token_ids) for one in fitting] == [4] * 4


PROBABILITIES = torch.tensor([0.4, 0.05, 0.3, 0.0, 0.2, 0.05])


def draw(params: SamplingParams, num_draws: int = 20_000, probabilities: Tensor = PROBABILITIES) -> Tensor:
    uniform = torch.rand(num_draws, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tokens, _ = sample(probabilities.log().expand(num_draws, -1), params, uniform)
    return tokens


def chi_square(counts: Tensor, probabilities: Tensor) -> float:
    """Pearson's statistic; a count where the probability is zero is an error."""
    expected = probabilities.double() * counts.sum()
    assert (counts[expected == 0] == 0).all()
    kept = expected > 0
    return float(((counts[kept] - expected[kept]) ** 2 / expected[kept]).sum())


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_frequencies_follow_the_distribution_at_any_temperature(temperature: float) -> None:
    counts = draw(SamplingParams(max_tokens=1, temperature=temperature)).bincount(minlength=6)
    sharpened = PROBABILITIES ** (1 / temperature)
    assert chi_square(counts, sharpened / sharpened.sum()) < CHI_SQUARE_999[5]


def test_an_even_grid_of_numbers_gives_each_token_its_share_and_its_log_probability() -> None:
    grid = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    tokens, logprobs = sample(PROBABILITIES.log().expand(1000, -1), SamplingParams(max_tokens=1), grid)
    assert tokens.bincount(minlength=6).tolist() == pytest.approx([400, 50, 300, 0, 200, 50], abs=1)
    torch.testing.assert_close(logprobs, PROBABILITIES.log()[tokens])


def test_the_ends_of_the_unit_interval_stay_inside_the_support() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]]).expand(2, -1)
    ends = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    tokens, logprobs = sample(logits, SamplingParams(max_tokens=1), ends)
    assert tokens.tolist() == [1, 2]
    assert logprobs.tolist() == pytest.approx([-1.313262, -0.313262], abs=1e-5)


def test_a_sampler_draws_from_the_distribution_of_its_model(model: Transformer) -> None:
    with torch.no_grad():
        logits = model.logits(model(torch.tensor([PROMPTS[0]])).hidden_BTD[0, -1])
    probabilities = torch.softmax(logits / 0.8, -1)
    params = SamplingParams(max_tokens=1, temperature=0.8)
    generation = generate(model, params, prompts=PROMPTS[:1], num_generations=5000)
    counts = torch.tensor([ids[0] for ids in tokens_of(generation)]).bincount(minlength=40)
    assert chi_square(counts, probabilities) < CHI_SQUARE_999[39]


def test_the_second_token_follows_the_first_and_not_the_number_that_drew_it(model: Transformer) -> None:
    params = SamplingParams(max_tokens=2)
    generation = generate(model, params, prompts=PROMPTS[:1], num_generations=8000, stops=())
    pairs = tokens_of(generation)
    first = torch.tensor([pair[0] for pair in pairs]).bincount(minlength=40).argmax()
    seconds = torch.tensor([pair[1] for pair in pairs if pair[0] == first])
    with torch.no_grad():
        logits = model.logits(model(torch.tensor([[*PROMPTS[0], int(first)]])).hidden_BTD[0, -1])
    assert len(seconds) > 400
    assert chi_square(seconds.bincount(minlength=40), torch.softmax(logits, -1)) < CHI_SQUARE_999[39]


def test_temperature_zero_takes_the_most_likely_token_for_certain() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, -1.0, 1.9]])
    tokens, logprobs = sample(
        logits, SamplingParams(max_tokens=1, temperature=0.0), torch.tensor([0.99, 0.99])
    )
    assert tokens.tolist() == [1, 0]
    assert logprobs.tolist() == [0.0, 0.0]


SUPPORT = {
    "top_k 1": ({"top_k": 1}, {0: 1.0}),
    "top_k 3": ({"top_k": 3}, {0: 0.4, 2: 0.3, 4: 0.2}),
    "top_k beyond the vocabulary": ({"top_k": 99}, {0: 0.4, 1: 0.05, 2: 0.3, 4: 0.2, 5: 0.05}),
    "top_p 0": ({"top_p": 0.0}, {0: 1.0}),
    "top_p below the first": ({"top_p": 0.1}, {0: 1.0}),
    "top_p with the token that crosses it": ({"top_p": 0.5}, {0: 0.4, 2: 0.3}),
    "top_p of three": ({"top_p": 0.85}, {0: 0.4, 2: 0.3, 4: 0.2}),
    "both": ({"top_k": 3, "top_p": 0.6}, {0: 0.4, 2: 0.3}),
}


@pytest.mark.parametrize("case", SUPPORT.values(), ids=SUPPORT.keys())
def test_top_k_and_top_p_keep_the_likeliest_and_scale_them_up(
    case: tuple[dict[str, float], dict[int, float]],
) -> None:
    fields, kept = case
    params = SamplingParams(max_tokens=1, **fields)  # type: ignore[arg-type]
    expected = torch.tensor([kept.get(token, 0.0) for token in range(6)])
    expected /= expected.sum()
    counts = draw(params).bincount(minlength=6)
    assert (counts > 0).tolist() == (expected > 0).tolist()
    assert chi_square(counts, expected) < CHI_SQUARE_999[5]
    numbers = torch.linspace(0, 0.999, 50, dtype=torch.float64)
    tokens, logprobs = sample(PROBABILITIES.log().expand(50, -1), params, numbers)
    torch.testing.assert_close(logprobs.exp(), expected[tokens], atol=1e-5, rtol=1e-5)


def test_rows_are_restricted_each_by_itself() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]]).log()
    numbers = torch.tensor([0.01, 0.99])
    tokens, logprobs = sample(logits, SamplingParams(max_tokens=1, top_p=0.5), numbers)
    assert tokens.tolist() == [2, 0]
    assert logprobs.tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
