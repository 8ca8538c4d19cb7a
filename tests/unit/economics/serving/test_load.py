from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbook.economics.serving.load import DAY_6_PEAK_OVER_MEAN, FLAT, Load, swinging
from openbook.errors import UserError


def test_a_fleet_that_is_held_is_busy_for_mean_over_peak() -> None:
    load = swinging(DAY_6_PEAK_OVER_MEAN.value)
    assert load.peak_over_mean == pytest.approx(1.226, abs=1e-3)
    assert load.utilisation() == pytest.approx(226.75 / 278)
    assert FLAT.utilisation() == pytest.approx(1.0)


def test_a_fleet_that_is_given_back_at_night_idles_only_for_its_headroom() -> None:
    load = swinging(1.5)
    assert load.utilisation(smallest_share=0.0) == pytest.approx(1.0)
    assert load.utilisation(smallest_share=0.0, headroom=1.25) == pytest.approx(0.8)


@given(peak=st.floats(1, 2), smallest=st.floats(0, 1), headroom=st.floats(1, 3))
def test_holding_more_never_raises_the_utilisation(peak: float, smallest: float, headroom: float) -> None:
    load = swinging(peak)
    found = load.utilisation(smallest_share=smallest, headroom=headroom)
    assert 0 < found <= 1 + 1e-9
    assert load.utilisation(headroom=headroom) <= found + 1e-9


@pytest.mark.parametrize("shares", [(1.0,), (0.5,) * 24, (-0.5, 1.5, *[0.0] * 22)])
def test_shares_are_24_and_add_up_to_one(shares: tuple[float, ...]) -> None:
    with pytest.raises(UserError):
        Load(hourly_shares=shares)
    with pytest.raises(UserError):
        swinging(2.5)
