"""One token a row: the native way against the reference, at the same uniform numbers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from openbook.kernels.native import Native

Draw = Callable[..., Tensor]

SIZES = (1, 7, 16, 255, 256, 257, 1000)
"""Vocabularies around the pieces of 256 that are summed at once."""


def sampled(
    native: Native, logits: Tensor, temperature: float, uniform: Tensor, *, num_threads: int = 1
) -> tuple[Tensor, Tensor]:
    num_rows, size = logits.shape
    temperatures = torch.full((num_rows,), temperature)
    tokens = torch.full((num_rows,), -7, dtype=torch.int32)
    logprobs = torch.full((num_rows,), torch.nan)
    assert uniform.dtype == torch.float64 and logits.is_contiguous()
    native.library.openbook_sample(
        *(ctypes.c_void_p(logits.data_ptr()), ctypes.c_int64(size), ctypes.c_int64(num_rows)),
        *(ctypes.c_void_p(one.data_ptr()) for one in (temperatures, uniform, tokens, logprobs)),
        ctypes.c_int64(num_threads),
    )
    return tokens.long(), logprobs


def uniforms(num_rows: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).random(num_rows))


@pytest.mark.parametrize("temperature", [1.0, 0.3, 2.5])
@pytest.mark.parametrize("size", SIZES)
def test_the_token_is_where_the_cumulated_distribution_passes_the_uniform_number(
    size: int, temperature: float, native: Native, draw: Draw
) -> None:
    logits, uniform = 3 * draw(300, size), uniforms(300)
    tokens, logprobs = sampled(native, logits, temperature, uniform, num_threads=2)
    expected = torch.log_softmax(logits.double() / temperature, -1)
    cumulative = expected.exp().cumsum(-1)
    rows = torch.arange(300)
    slack = 1e-5
    assert (cumulative[rows, tokens] > uniform - slack).all()
    before = torch.where(tokens > 0, cumulative[rows, (tokens - 1).clamp_min(0)], 0.0)
    assert (before < uniform + slack).all()
    torch.testing.assert_close(logprobs.double(), expected[rows, tokens], atol=3e-6, rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_at_temperature_zero_the_first_of_the_likeliest_is_certain(
    size: int, native: Native, draw: Draw
) -> None:
    logits = draw(40, size).round()
    tokens, logprobs = sampled(native, logits, 0.0, uniforms(40))
    assert tokens.tolist() == logits.argmax(-1).tolist()
    assert (logprobs == 0).all()


def test_a_row_has_the_same_bits_whatever_stands_beside_it(native: Native, draw: Draw) -> None:
    logits, uniform = draw(20, 500), uniforms(20)
    together = sampled(native, logits, 0.9, uniform, num_threads=3)
    for row in range(20):
        alone = sampled(native, logits[row : row + 1].clone(), 0.9, uniform[row : row + 1])
        assert alone[0][0] == together[0][row] and alone[1][0] == together[1][row]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [0, 8, 256, 299])
def test_a_row_that_holds_no_numbers_gives_no_token_and_the_others_go_on(
    bad: float, place: int, native: Native, draw: Draw
) -> None:
    logits = draw(3, 300)
    logits[1, place] = bad
    for temperature in (0.0, 1.0):
        tokens, logprobs = sampled(native, logits, temperature, uniforms(3))
        assert tokens[1] == -1 and logprobs.isfinite().all()
        assert (tokens[[0, 2]] >= 0).all()


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("size", SIZES)
def test_the_ends_of_the_unit_interval_meet_tokens_that_are_possible(
    size: int, uniform: float, native: Native, draw: Draw
) -> None:
    logits = draw(50, size)
    logits[:, : size // 3] -= 1e4
    logits[:, -(size // 3) or size :] -= 1e4
    tokens, logprobs = sampled(native, logits, 1.0, torch.full((50,), uniform, dtype=torch.float64))
    assert (logprobs > -50).all()
    assert (logits[torch.arange(50), tokens] > -1e3).all()


@pytest.mark.parametrize("temperature", [1e-4, 1e-30, 1e-38, 1e-45])
def test_a_temperature_near_zero_is_nearly_greedy(temperature: float, native: Native, draw: Draw) -> None:
    logits = draw(30, 300) * 10
    tokens, logprobs = sampled(native, logits, temperature, uniforms(30))
    assert tokens.tolist() == logits.argmax(-1).tolist()
    torch.testing.assert_close(logprobs, torch.zeros(30), atol=1e-6, rtol=0)


def test_large_logits_overflow_nothing(native: Native) -> None:
    logits = torch.tensor([[3e38, 2.9e38, -3e38] + [0.0] * 20])
    tokens, logprobs = sampled(native, logits, 1.0, uniforms(1))
    assert tokens.tolist() == [0] and logprobs.tolist() == [0.0]
