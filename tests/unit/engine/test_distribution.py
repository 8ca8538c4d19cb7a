"""From logits to the distribution that is sampled from: restrictions, penalties, inversion."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from openbook.engine.distribution import (
    NO_TOKEN,
    penalized,
    restricted,
    sample,
    shaped_logprobs,
    top_logprobs,
)
from openbook.engine.types import SamplingParams

PROBABILITIES = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15])


def params(**fields: Any) -> SamplingParams:
    return SamplingParams(max_tokens=1, **fields)


def kept(**fields: Any) -> list[int]:
    """Which tokens remain possible."""
    return restricted(PROBABILITIES.log(), params(**fields)).isfinite().nonzero()[:, 0].tolist()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"top_k": 2}, [1, 3]),
        ({"top_k": 99}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.3}, [1]),
        ({"top_p": 0.69}, [1, 3]),
        ({"top_p": 0.71}, [1, 3, 4]),
        ({"top_p": 1e-9}, [1]),
        ({"min_p": 0.3}, [1, 3, 4]),
        ({"min_p": 1.0}, [1]),
        ({"top_k": 3, "top_p": 0.8}, [1, 3]),  # the nucleus is that of the three: 0.4 + 0.3 of 0.85
        ({"top_k": 4, "min_p": 0.2}, [1, 2, 3, 4]),
    ],
)
def test_restrictions_keep_the_likeliest(fields: dict[str, float], expected: list[int]) -> None:
    assert kept(**fields) == expected


def test_tokens_as_likely_as_the_last_of_the_top_k_are_kept_with_it() -> None:
    logits = torch.tensor([1.0, 2.0, 1.0, 0.0])
    assert restricted(logits, params(top_k=2)).isfinite().tolist() == [True, True, True, False]


def test_what_is_kept_shares_the_mass() -> None:
    shaped = shaped_logprobs(PROBABILITIES.log(), params(top_k=2)).exp()
    torch.testing.assert_close(shaped, torch.tensor([0.0, 4 / 7, 0.0, 3 / 7, 0.0]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_comes_before_the_nucleus(temperature: float) -> None:
    shaped = shaped_logprobs(PROBABILITIES.log(), params(temperature=temperature, top_p=0.6)).exp()
    powers = PROBABILITIES ** (1 / temperature)
    order = powers.argsort(descending=True)
    mass = powers[order] / powers.sum()
    nucleus = order[: int((mass.cumsum(0) < 0.6).sum()) + 1]
    expected = torch.zeros(5)
    expected[nucleus] = powers[nucleus] / powers[nucleus].sum()
    torch.testing.assert_close(shaped, expected)


@pytest.mark.parametrize("temperature", [1e-5, 1e-20, 1e-45])
def test_a_temperature_near_zero_is_nearly_greedy(temperature: float) -> None:
    shaped = shaped_logprobs(PROBABILITIES.log(), params(temperature=temperature)).exp()
    torch.testing.assert_close(shaped, torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]))


def test_greedy_is_certain_of_the_first_of_the_likeliest() -> None:
    shaped = shaped_logprobs(torch.tensor([1.0, 3.0, 3.0]), params(temperature=0.0))
    assert shaped.tolist() == [-torch.inf, 0.0, -torch.inf]


def test_repeating_costs_what_was_said_anywhere() -> None:
    logits = torch.tensor([2.0, -2.0, 4.0, -4.0, 1.0])
    found = penalized(logits, params(repetition_penalty=2.0), [0, 1], [3, 3])
    assert found.tolist() == [1.0, -4.0, 4.0, -8.0, 1.0]
    assert logits.tolist() == [2.0, -2.0, 4.0, -4.0, 1.0], "the model's own logits stay"


def test_presence_and_frequency_cost_what_the_completion_said() -> None:
    logits, said = torch.zeros(4), [1, 2, 2, 2]
    assert penalized(logits, params(presence_penalty=0.5), [0], said).tolist() == [0, -0.5, -0.5, 0]
    assert penalized(logits, params(frequency_penalty=0.5), [0], said).tolist() == [0, -0.5, -1.5, 0]
    both = params(presence_penalty=-1.0, frequency_penalty=0.25)
    assert penalized(logits, both, [0], said).tolist() == [0, 0.75, 0.25, 0]
    assert penalized(logits, both, [0], []).tolist() == [0] * 4


def test_top_logprobs_name_the_likeliest_that_are_possible() -> None:
    logprobs = shaped_logprobs(PROBABILITIES.log(), params())
    pairs = top_logprobs(logprobs, 2)
    assert [token for token, _ in pairs] == [1, 3]
    assert [value for _, value in pairs] == pytest.approx(PROBABILITIES[[1, 3]].log().tolist(), abs=1e-6)
    assert len(top_logprobs(logprobs, 99)) == 5
    assert len(top_logprobs(shaped_logprobs(PROBABILITIES.log(), params(top_k=1)), 3)) == 1


@pytest.mark.parametrize(
    ("uniform", "token"),
    [(0.0, 0), (0.049, 0), (0.051, 1), (0.449, 1), (0.551, 3), (0.86, 4), (1 - 2**-53, 4)],
)
def test_sampling_inverts_the_distribution(uniform: float, token: int) -> None:
    logprobs = PROBABILITIES.log()[None]
    tokens, values = sample(logprobs, torch.tensor([uniform], dtype=torch.float64))
    assert tokens.tolist() == [token]
    assert values[0] == logprobs[0, token]


def test_a_token_that_is_impossible_is_never_sampled() -> None:
    logprobs = torch.tensor([[-torch.inf, 0.0, -torch.inf]]).expand(3, 3)
    tokens, values = sample(logprobs, torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64))
    assert tokens.tolist() == [1, 1, 1] and (values == 0).all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.0},
        {},
        {"top_k": 2},
        {"top_p": 0.5},
        {"min_p": 0.1},
        {"top_k": 2, "top_p": 0.9, "min_p": 0.01},
    ],
)
def test_logits_that_are_no_numbers_give_no_token(bad: float, fields: dict[str, float]) -> None:
    logits = torch.tensor([0.0, bad, 1.0])
    shaped = shaped_logprobs(logits, params(**fields))
    tokens, _ = sample(shaped[None], torch.tensor([0.3], dtype=torch.float64))
    assert tokens.tolist() == [NO_TOKEN]


def test_a_row_without_numbers_leaves_the_others_alone() -> None:
    rows = torch.stack([PROBABILITIES.log(), torch.full((5,), torch.nan), PROBABILITIES.log()])
    tokens, _ = sample(rows, torch.tensor([0.5, 0.5, 0.2], dtype=torch.float64))
    assert tokens.tolist() == [2, NO_TOKEN, 1]
