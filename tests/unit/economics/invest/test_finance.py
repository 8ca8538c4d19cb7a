from __future__ import annotations

import warnings

import numpy as np
import numpy_financial
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbook.economics.capital import capital_recovery_factor
from openbook.economics.invest.finance import (
    declining_balance,
    discounted_payback,
    irr_paths,
    irr_roots,
    mirr,
    npv,
    num_sign_changes,
    payback,
    straight_line,
    write_down,
)
from openbook.errors import UserError

ONE_ROOT = [-250_000, 100_000, 150_000, 200_000, 250_000, 300_000]
MONEY = st.floats(min_value=1, max_value=1000)
RATES = st.floats(min_value=-0.5, max_value=2)


@pytest.mark.parametrize(
    ("flows", "roots"),
    [
        (ONE_ROOT, (0.567230,)),
        ([-100, 230, -132], (0.10, 0.20)),
        ([-50, -100, 600, 300, -100], (-0.7689, 1.8544)),
        ([-100, 5, 5, 5, -20], ()),
        ([-100, 220, -121], (0.10,)),  # touches zero without crossing it
        ([100, 20], ()),
        ([0, 0, 0], ()),
        ([0, -100, 0, 121], (0.10,)),
    ],
)
def test_all_rates_of_return_are_found(flows: list[float], roots: tuple[float, ...]) -> None:
    assert irr_roots(flows) == pytest.approx(roots, abs=5e-5)


def test_many_rates_of_return_are_all_found_and_ordered() -> None:
    rates = (-0.5, 0.0, 0.05, 0.1, 0.4, 3.0)
    flows = np.poly([1 + rate for rate in rates])  # as a polynomial in 1 + r its zeros are these
    assert irr_roots(flows) == pytest.approx(rates, rel=1e-9, abs=1e-9)


def test_a_long_series_has_its_rate() -> None:
    flows = [-1.0] + [capital_recovery_factor(0.004, 480)] * 480
    assert irr_roots(flows) == pytest.approx((0.004,), rel=1e-9)


def test_cash_flows_must_be_numbers() -> None:
    with pytest.raises(UserError, match="NaN or infinite"):
        irr_roots([-1, float("nan")])


@given(spent=MONEY, earned=st.lists(MONEY, min_size=1, max_size=8))
def test_where_it_is_unique_it_is_that_of_numpy_financial(spent: float, earned: list[float]) -> None:
    flows = [-spent, *earned]
    (rate,) = irr_roots(flows)
    assert npv(rate, flows) == pytest.approx(0, abs=1e-9 * (spent + sum(earned)))
    assert irr_paths(np.array([flows])) == pytest.approx([rate], rel=1e-9, abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = numpy_financial.irr(flows)
    assert np.isnan(theirs) or theirs == pytest.approx(rate, rel=1e-6, abs=1e-8)


@given(st.lists(st.integers(min_value=-1000, max_value=1000), min_size=2, max_size=8))
def test_every_rate_found_is_one_and_there_are_no_more_than_sign_changes(flows: list[int]) -> None:
    roots = irr_roots(flows)
    num_changes = int(num_sign_changes(flows))
    assert num_changes % 2 <= len(roots) <= num_changes  # by Descartes' rule
    for rate in roots:
        terms = np.array(flows) * np.exp(-np.log1p(rate) * np.arange(len(flows)))
        assert abs(terms.sum()) <= 1e-9 * np.abs(terms).sum()


def test_paths_without_a_single_change_of_sign_have_no_rate_of_their_own() -> None:
    flows = np.array([[-100, 230, -132], [-100, 60, 60], [100, 1, 1], [100, -60, -60]], dtype=float)
    assert irr_paths(flows) == pytest.approx([np.nan, 0.130662, np.nan, 0.130662], abs=1e-6, nan_ok=True)
    assert num_sign_changes(flows).tolist() == [2, 1, 0, 1]


@given(flows=st.lists(MONEY, min_size=1, max_size=12), rate=RATES)
def test_present_value_is_that_of_numpy_financial(flows: list[float], rate: float) -> None:
    assert npv(rate, flows) == pytest.approx(numpy_financial.npv(rate, flows), rel=1e-9)


def test_each_path_may_have_its_own_rate() -> None:
    flows = np.array([[-100, 110], [-100, 110]], dtype=float)
    assert npv(np.array([0.1, 0.0]), flows) == pytest.approx([0, 10], abs=1e-12)
    with pytest.raises(UserError, match="-100 %"):
        npv(-1.0, flows)


@given(st.lists(MONEY, min_size=1, max_size=8), MONEY, RATES, RATES)
def test_modified_rate_is_that_of_numpy_financial(
    earned: list[float], spent: float, finance: float, reinvest: float
) -> None:
    flows = [-spent, *earned]
    assert mirr(flows, finance, reinvest) == pytest.approx(
        numpy_financial.mirr(flows, finance, reinvest), rel=1e-9, abs=1e-9
    )


def test_modified_rate_needs_both_signs() -> None:
    flows = np.array([[-100, -1], [100, 1], [-100, 121]], dtype=float)
    assert mirr(flows, 0.1, 0.1) == pytest.approx([np.nan, np.nan, 0.21], nan_ok=True)


def test_payback_is_interpolated_and_may_not_exist() -> None:
    flows = np.array(
        [[-100, 40, 40, 40], [-100, 10, 10, 10], [5, -1, 0, 0], [-100, 0, 100, -50]], dtype=float
    )
    assert payback(flows) == pytest.approx([2.5, np.nan, 0.0, 2.0], nan_ok=True)


def test_discounted_payback_is_later() -> None:
    flows = [-100.0, 60.0, 60.0]
    assert payback(flows) == pytest.approx(1 + 40 / 60)
    assert discounted_payback(0.10, flows) == pytest.approx(1 + (100 - 60 / 1.1) / (60 / 1.21))
    assert np.isnan(discounted_payback(0.20, flows))


@pytest.mark.parametrize(
    ("years", "gross_profit", "depreciation"),
    [(3, 203.1, 168.3), (4, 159.3, 126.3), (5, 133.2, 101.0), (6, 116.0, 84.2)],
)
def test_505_billion_over_its_life(years: int, gross_profit: float, depreciation: float) -> None:
    assert 505 * capital_recovery_factor(0.10, years) == pytest.approx(gross_profit, abs=0.05)
    parts = straight_line(505.0, years, 8)
    assert parts[:years] == pytest.approx([depreciation] * years, abs=0.05)
    assert parts[years:] == pytest.approx(0)


def test_a_life_may_end_within_a_year_and_leaves_the_salvage() -> None:
    parts = straight_line(np.array([110.0, 220.0]), 5.5, 8, salvage=np.array([0.0, 110.0]))
    assert parts.sum(axis=-1) == pytest.approx([110, 110])
    assert parts[0] == pytest.approx([20, 20, 20, 20, 20, 10, 0, 0])
    with pytest.raises(UserError, match="useful life"):
        straight_line(1.0, 0, 3)


def test_declining_balance_stops_at_the_salvage() -> None:
    parts = declining_balance(100.0, 0.276, 3)
    assert parts == pytest.approx([27.6, 19.9824, 14.46725760])
    assert declining_balance(100.0, 0.5, 4, salvage=20.0) == pytest.approx([50, 25, 5, 0])
    with pytest.raises(UserError, match="rate of decline"):
        declining_balance(100.0, 1.5, 3)


def test_a_write_down_is_what_exceeds_the_higher_of_use_and_sale() -> None:
    carrying, use = np.array([100.0, 100.0, 100.0]), np.array([120.0, 60.0, 60.0])
    assert write_down(carrying, use, np.array([0.0, 70.0, 0.0])) == pytest.approx([0, 30, 40])
