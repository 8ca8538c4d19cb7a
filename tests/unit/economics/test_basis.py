from __future__ import annotations

import pytest

from openbook.economics.basis import Basis, Quantity
from openbook.errors import UserError

NET_INCOME = Quantity(value=38.46, unit="B USD", basis=Basis.GAAP, name="net income")
EPS = Quantity(value=4.14, unit="USD a share", basis=Basis.NON_GAAP, name="earnings")
WITH_LEASES = Quantity(value=72.4, unit="B USD", basis=Basis.LEASE_CAPEX)
CASH = Quantity(value=49.3, unit="B USD", basis=Basis.CASH_CAPEX)
BF16 = Quantity(value=0.3906, unit="1", basis=Basis.BF16_PEAK, name="MFU")
FP8 = Quantity(value=0.1947, unit="1", basis=Basis.FP8_PEAK, name="MFU")


def test_a_gaap_profit_is_not_divided_by_adjusted_earnings_a_share() -> None:
    with pytest.raises(UserError, match=r"net income 38.46 B USD \(GAAP\).*leave out what GAAP counts"):
        NET_INCOME / EPS


def test_on_one_basis_the_shares_come_out() -> None:
    adjusted = Quantity(value=38.46 - 7.6, unit="B USD", basis=Basis.NON_GAAP)
    shares = adjusted / EPS
    assert shares.value == pytest.approx(7.454, abs=1e-3)
    assert shares.basis is Basis.PLAIN


def test_cash_capex_is_not_taken_from_capex_with_leases() -> None:
    with pytest.raises(UserError, match="finance leases"):
        WITH_LEASES - CASH
    with pytest.raises(UserError, match="finance leases"):
        _ = CASH < WITH_LEASES


def test_a_utilisation_of_the_bf16_peak_is_not_compared_with_one_of_the_fp8_peak() -> None:
    with pytest.raises(UserError, match="twice the BF16 peak"):
        BF16 / FP8
    with pytest.raises(UserError, match="twice the BF16 peak"):
        _ = BF16 <= FP8


def test_what_has_one_basis_adds_up_and_keeps_it() -> None:
    first = Quantity(value=34.9, unit="B USD", basis=Basis.LEASE_CAPEX)
    second = Quantity(value=37.5, unit="B USD", basis=Basis.LEASE_CAPEX)
    total = first + second
    assert total.value == pytest.approx(72.4)
    assert total.basis is Basis.LEASE_CAPEX
    assert first < second
    assert (total * 2).value == pytest.approx(144.8)


def test_units_have_to_match_in_a_sum_and_plain_numbers_divide_anything() -> None:
    hours = Quantity(value=2.0, unit="h", basis=Basis.PLAIN)
    with pytest.raises(UserError):
        CASH + hours
    assert (CASH / hours).basis is Basis.CASH_CAPEX
    with pytest.raises(UserError, match="zero"):
        CASH / Quantity(value=0.0, unit="h", basis=Basis.PLAIN)


def test_equal_bases_with_other_units_do_not_add() -> None:
    with pytest.raises(UserError, match="units differ"):
        CASH + Quantity(value=1.0, unit="M USD", basis=Basis.CASH_CAPEX)
