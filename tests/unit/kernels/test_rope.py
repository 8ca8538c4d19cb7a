from __future__ import annotations

import math

import pytest
import torch

from openbook.kernels.rope import (
    YarnScaling,
    inverse_frequencies,
    rotate_adjacent,
    rotate_halves,
    rotation_table,
    yarn_inverse_frequencies,
    yarn_mscale,
)

V3 = YarnScaling(factor=40, original_max_position_embeddings=4096, beta_fast=32, beta_slow=1)


@pytest.mark.parametrize(
    ("pair", "expected"),
    [(9, 0.0749894), (11, 0.0390069), (16, 0.0055), (20, 7.90569e-4), (23, 3.33380e-5), (31, 3.33380e-6)],
)
def test_yarn_gives_the_frequencies_of_v3(pair: int, expected: float) -> None:
    assert yarn_inverse_frequencies(64, 10000.0, V3)[pair].item() == pytest.approx(expected, rel=1e-5)


def test_yarn_keeps_fast_pairs_and_divides_slow_ones_by_the_factor() -> None:
    plain, stretched = inverse_frequencies(64, 10000.0), yarn_inverse_frequencies(64, 10000.0, V3)
    assert torch.equal(stretched[:11], plain[:11])
    torch.testing.assert_close(stretched[23:], plain[23:] / 40)


def test_yarn_temperature_of_v3_makes_its_softmax_scale() -> None:
    assert 192**-0.5 * yarn_mscale(40, 1.0) ** 2 == pytest.approx(0.135234, rel=1e-5)
    assert yarn_mscale(1.0, 1.0) == 1.0


def test_adjacent_rotation_turns_pair_by_pair() -> None:
    turned = rotate_adjacent(
        torch.tensor([1.0, 0.0, 0.0, 2.0]), torch.polar(torch.ones(2), torch.tensor([0.5, 1.0]))
    )
    expected = [math.cos(0.5), math.sin(0.5), -2 * math.sin(1.0), 2 * math.cos(1.0)]
    torch.testing.assert_close(turned, torch.tensor(expected))


def test_halves_rotation_is_the_adjacent_one_on_reordered_dimensions() -> None:
    table = rotation_table(inverse_frequencies(8, 10000.0), 5)
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    reordered = x.view(5, 2, 4).transpose(1, 2).reshape(5, 8)
    turned = rotate_adjacent(reordered, table).view(5, 4, 2).transpose(1, 2).reshape(5, 8)
    torch.testing.assert_close(rotate_halves(x, table), turned)


def test_scores_depend_on_distance_alone() -> None:
    table = rotation_table(inverse_frequencies(16, 10000.0), 100)
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(16, generator=generator), torch.randn(16, generator=generator)
    near = rotate_adjacent(q, table[7]) @ rotate_adjacent(k, table[3])
    far = rotate_adjacent(q, table[97]) @ rotate_adjacent(k, table[93])
    torch.testing.assert_close(near, far, atol=1e-5, rtol=0)


def test_passed_pairs_leave_their_dimensions_alone() -> None:
    frequencies = inverse_frequencies(4, 10000.0)
    whole, tail = rotation_table(frequencies, 9, passed_pairs=3), rotation_table(frequencies, 9)
    x = torch.randn(9, 10, generator=torch.Generator().manual_seed(2))
    turned = rotate_adjacent(x, whole)
    assert torch.equal(turned[:, :6], x[:, :6])
    torch.testing.assert_close(turned[:, 6:], rotate_adjacent(x[:, 6:], tail))


def test_low_precision_input_is_turned_in_fp32_and_keeps_its_dtype() -> None:
    table = rotation_table(inverse_frequencies(8, 10000.0), 3000)[2999]
    x = torch.randn(8, generator=torch.Generator().manual_seed(3)).bfloat16()
    for rotate in (rotate_adjacent, rotate_halves):
        assert torch.equal(rotate(x, table), rotate(x.float(), table).bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_of_turning_is_turning_back(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 5, 3, 8, generator=generator, dtype=dtype, requires_grad=True)
    weights = torch.randn(2, 5, 3, 8, generator=generator, dtype=dtype)
    rotation = rotation_table(inverse_frequencies(8, 10_000.0), 5, scale=1.3)[:, None]
    (rotate_halves(x, rotation) * weights).sum().backward()  # type: ignore[no-untyped-call]
    first, second = x.detach().chunk(2, dim=-1)
    pairs = torch.complex(first.double(), second.double()).requires_grad_()
    turned = pairs * rotation
    both = torch.cat((turned.real, turned.imag), dim=-1)
    (both * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and pairs.grad is not None
    expected = torch.cat((pairs.grad.real, pairs.grad.imag), dim=-1).to(dtype)
    torch.testing.assert_close(x.grad, expected, atol=1e-6, rtol=1e-5)
