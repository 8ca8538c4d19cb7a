"""No element is ever further off than its format states, whatever the matrix holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st
from torch import Tensor

from openbook.quant.formats import E4M3_MAX, INT4_MAX, LARGEST, WeightFormat
from openbook.quant.weight import Fp8Weight, Int4Weight, Int8Weight, QuantizedWeight, quantize

calm = settings(max_examples=150)

SMALL = 60000.0
MAGNITUDES = tuple(
    float(np.float32(one)) for one in (1e-45, 1e-40, 1e-30, 6e-8, 1e-4, 1, SMALL, 1e30, 3.38e38)
)


@st.composite
def matrices(draw: st.DrawFn, largest: float) -> Tensor:
    """Elements of all sizes up to `largest` beside each other: zeros, denormal numbers, huge ones."""
    shape = (draw(st.integers(1, 4)), 32 * draw(st.integers(1, 2)))
    size = st.sampled_from([one for one in MAGNITUDES if one <= largest])
    if draw(st.booleans()):  # one size for all, where rounding is what matters
        bound = draw(size)
        element = st.floats(-bound, bound, width=32)
    else:
        element = size.flatmap(lambda bound: st.floats(-bound, bound, width=32))
    array = draw(np_st.arrays(np.float32, shape, elements=element, fill=st.just(0.0)))
    offset = np.float32(draw(st.sampled_from([0.0, 1.0, -1000.0])))
    return torch.from_numpy(array + offset if largest <= SMALL else array)


@pytest.mark.parametrize("stored", WeightFormat)
@calm
@given(data=st.data())
def test_the_error_is_within_the_stated_bound(stored: WeightFormat, data: st.DataObject) -> None:
    weight = data.draw(matrices(min(LARGEST[stored], 3.389e38)))
    made = quantize(weight, stored, name="x")
    back = made.dequantize()
    assert back.isfinite().all()
    assert ((back - weight).abs() <= made.error_bound(weight)).all()


@pytest.mark.parametrize("stored", WeightFormat)
@calm
@given(data=st.data())
def test_the_computed_bound_is_the_stated_one_but_for_rounding(
    stored: WeightFormat, data: st.DataObject
) -> None:
    weight = data.draw(matrices(SMALL)).double()
    made = quantize(weight.float(), stored, name="x")
    stated = _stated(weight, made)
    bound = made.error_bound(weight.float()).double()
    assert (bound >= stated).all()
    largest = weight.abs().max() + made.dequantize().double().abs().max()
    assert (bound <= stated * (1 + 2**-12) + largest * 2**-20 + 2**-133).all()


@calm
@given(weight=matrices(SMALL))
def test_a_group_of_int4_reaches_from_its_least_to_its_greatest(weight: Tensor) -> None:
    made = Int4Weight.quantize(weight)
    groups = weight.view(len(weight), -1, 32).double()
    assert (made.minimum.double() <= groups.amin(-1)).all()
    top = made.minimum.double() + INT4_MAX * made.scale.double()
    reach = groups.amax(-1) - made.minimum.double()
    assert (top >= groups.amax(-1) - reach * 2**-23).all()


@calm
@given(weight=matrices(SMALL), stored=st.sampled_from(list(WeightFormat)))
def test_quantising_what_was_quantised_moves_nothing_further_than_once_more(
    weight: Tensor, stored: WeightFormat
) -> None:
    made = quantize(weight, stored, name="x")
    again = quantize(made.dequantize(), stored, name="x")
    off = (again.dequantize() - made.dequantize()).abs()
    assert (off <= again.error_bound(made.dequantize())).all()
    if stored is WeightFormat.BF16:
        assert (off == 0).all()


def _stated(weight: Tensor, made: QuantizedWeight) -> Tensor:
    """ERROR_BOUNDS in numbers."""
    if isinstance(made, Int8Weight):
        return (made.scale.double() / 2)[:, None].expand_as(weight)
    if isinstance(made, Int4Weight):
        return (made.scale.double() / 2).repeat_interleave(32, -1)
    if isinstance(made, Fp8Weight):
        factors = made.scale_inv.double().repeat_interleave(128, 0).repeat_interleave(128, 1)
        factors = factors[: len(weight), : weight.shape[1]]
        assert (factors * E4M3_MAX >= weight.abs() * (1 - 2**-23)).all()
        return torch.maximum(weight.abs() / 16, factors / 1024)
    return weight.abs() / 256
