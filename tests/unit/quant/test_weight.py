"""Matrices in fewer bits: what is exact, what is refused, and what a kernel finds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from openbook.errors import UserError
from openbook.quant.formats import WeightFormat, find_format, format_of, matrix_bytes
from openbook.quant.weight import (
    CLASSES,
    Fp8Weight,
    Int4Weight,
    Int8Weight,
    QuantizedWeight,
    quantize,
    stack,
)

FORMATS = list(WeightFormat)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("stored", FORMATS)
@pytest.mark.parametrize("shape", [(5, 64), (130, 160), (1, 32)], ids=str)
def test_parts_have_the_types_shapes_and_bytes_that_are_stated(
    stored: WeightFormat, shape: tuple[int, int]
) -> None:
    made = quantize(draw(*shape), stored, name="x")
    layout = CLASSES[stored].layout(*shape)
    assert {name: (part.dtype, tuple(part.shape)) for name, part in made.parts().items()} == layout
    assert all(part.is_contiguous() for part in made.parts().values())
    assert made.shape == shape and made.format == stored
    assert made.num_bytes == matrix_bytes(stored, *shape)


def test_int8_has_one_scale_an_output_and_reaches_its_ends() -> None:
    weight = torch.tensor([[-127.0, 0.4, 127.0], [0.5, -0.25, 0.0]])
    made = quantize(weight, WeightFormat.INT8, name="x")
    assert isinstance(made, Int8Weight)
    assert made.codes.tolist() == [[-127, 0, 127], [127, -64, 0]]
    assert made.scale.tolist() == pytest.approx([1.0, 0.5 / 127])


def test_int4_puts_the_even_input_into_the_low_half() -> None:
    codes = torch.arange(64).reshape(2, 32) % 16
    scale, minimum = torch.tensor([[0.5], [2.0]]).half(), torch.tensor([[-1.0], [3.0]]).half()
    made = QuantizedWeight.from_affine_groups(codes, scale, minimum)
    assert made.packed[0, :2].tolist() == [0x10, 0x32]
    assert torch.equal(made.unpacked(), codes.to(torch.uint8))
    assert torch.equal(made.dequantize(), codes * scale.float() + minimum.float())


def test_affine_groups_are_exact_and_can_be_quantised_again() -> None:
    """A Q4_1 tensor that was read as floats finds its grid again where each group touches both ends."""
    codes = torch.randint(0, 16, (7, 96), generator=torch.Generator().manual_seed(1))
    codes[:, 0::32], codes[:, 1::32] = 0, 15
    scale, minimum = draw(7, 3).abs().half(), draw(7, 3, seed=2).half()
    first = QuantizedWeight.from_affine_groups(codes, scale, minimum)
    exact = codes.double() * scale.double().repeat_interleave(32, 1)
    exact += minimum.double().repeat_interleave(32, 1)
    assert torch.equal(first.dequantize().double(), exact.float().double())
    again = quantize(first.dequantize(), WeightFormat.INT4, name="x")
    assert isinstance(again, Int4Weight)
    assert torch.equal(again.minimum, minimum)
    assert (again.dequantize() - first.dequantize()).abs().max() <= scale.float().max() * 2**-9


def test_affine_groups_are_refused_where_fp16_would_change_them() -> None:
    codes, half = torch.zeros(1, 32), torch.ones(1, 1)
    made = QuantizedWeight.from_affine_groups(codes, half, half * -8)
    assert made.scale.dtype == made.minimum.dtype == torch.float16
    for bad in (1 + 2**-20, 1e6, math.nan):
        with pytest.raises(AssertionError):
            QuantizedWeight.from_affine_groups(codes, half * bad, half)


def test_fp8_has_one_factor_a_block_and_partial_blocks_count_only_what_is_there() -> None:
    weight = draw(130, 200)
    weight[128:, 128:] = 896.0
    made = quantize(weight, WeightFormat.FP8, name="x")
    assert isinstance(made, Fp8Weight)
    assert made.scale_inv.shape == (2, 2)
    assert made.scale_inv[1, 1] == 2.0 and made.codes[128:, 128:].float().unique().tolist() == [448.0]
    assert made.scale_inv[0, 0] == weight[:128, :128].abs().max() / 448
    by_hand = made.codes[129, 199].float() * made.scale_inv[1, 1]
    assert made.dequantize()[129, 199] == by_hand == 896.0


@pytest.mark.parametrize("stored", FORMATS)
def test_a_stack_is_each_of_its_matrices(stored: WeightFormat) -> None:
    weights = draw(3, 40, 64)
    whole = quantize(weights, stored, name="x")
    alone = [quantize(weight, stored, name="x") for weight in weights]
    put_together = stack(alone)
    for name, part in whole.parts().items():
        assert part.is_contiguous()
        assert torch.equal(part.view(torch.uint8), put_together.parts()[name].view(torch.uint8)), name
    taken_out = whole.map(lambda part: part[1])
    assert torch.equal(taken_out.dequantize(), alone[1].dequantize())


@pytest.mark.parametrize("stored", FORMATS)
def test_rows_are_looked_up_in_any_shape(stored: WeightFormat) -> None:
    made = quantize(draw(200, 160), stored, name="x")
    indices = torch.tensor([[3, 199, 3], [0, 128, 127]])
    assert torch.equal(made.dequantize_rows(indices), made.dequantize()[indices])
    assert made.dequantize_rows(indices, torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("stored", FORMATS)
def test_zeros_stay_zeros(stored: WeightFormat) -> None:
    made = quantize(torch.zeros(4, 64), stored, name="x")
    assert (made.dequantize() == 0).all()


@pytest.mark.parametrize("stored", FORMATS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused_with_the_name_of_its_tensor(stored: WeightFormat, bad: float) -> None:
    weight = draw(4, 64)
    weight[2, 17] = bad
    with pytest.raises(UserError, match=r"tensor lm_head\.weight holds NaN or infinity"):
        quantize(weight, stored, name="lm_head.weight")


def test_what_is_too_large_for_the_format_is_refused_with_the_name_of_its_tensor() -> None:
    weight = torch.full((1, 32), 7e4)
    with pytest.raises(UserError, match=r"tensor x reaches 7e\+04, and int4 takes 65504 at most"):
        quantize(weight, WeightFormat.INT4, name="x")
    assert quantize(weight, WeightFormat.INT8, name="x").dequantize()[0, 0] == pytest.approx(7e4)


def test_an_unknown_format_names_the_nearest() -> None:
    assert find_format("int8") is WeightFormat.INT8
    with pytest.raises(UserError, match=r"^unknown weight format 'int9'; did you mean 'int8'"):
        find_format("int9")
    with pytest.raises(UserError, match=r"^a/config\.json: unknown .*known: bf16, fp8, int4, int8"):
        find_format("q", where="a/config.json")


def test_matrices_that_do_not_fit_a_format_are_stored_in_bf16() -> None:
    assert format_of(WeightFormat.INT4, "model.layers.0.mlp.up_proj.weight", 64) is WeightFormat.INT4
    assert format_of(WeightFormat.INT4, "model.layers.0.mlp.up_proj.weight", 48) is WeightFormat.BF16
    assert format_of(WeightFormat.INT8, "lm_head.weight", 48) is WeightFormat.INT8
    assert format_of(WeightFormat.FP8, "lm_head.weight", 64) is WeightFormat.BF16
    assert format_of(WeightFormat.FP8, "mtp.0.eh_proj.weight", 64) is WeightFormat.BF16
    assert format_of(WeightFormat.FP8, "mtp.0.mlp.experts.up_proj", 64) is WeightFormat.FP8
