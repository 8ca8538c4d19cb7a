from __future__ import annotations

import pytest

from openbook.economics.capital import OwnedDevice, capital_recovery_factor, levelised, rent_or_buy_hours
from openbook.errors import UserError

H800 = {"capex_usd": 24_902.34, "rate": 0.10, "years": 5}


@pytest.mark.parametrize(
    ("rate", "years", "factor"), [(0.10, 5, 0.26380), (0.10, 6, 0.22961), (0.08, 6, 0.21632), (0.0, 4, 0.25)]
)
def test_capital_recovery_factor(rate: float, years: float, factor: float) -> None:
    assert capital_recovery_factor(rate, years) == pytest.approx(factor, abs=5e-6)


def test_the_capital_part_of_an_owned_h800() -> None:
    cost = levelised(OwnedDevice(**H800))
    assert cost.capital_usd_per_year == pytest.approx(6569.17, abs=0.01)
    assert cost.usd_per_hour == pytest.approx(0.7499, abs=5e-5)
    assert levelised(OwnedDevice(**H800, utilisation=0.7)).usd_per_hour == pytest.approx(1.0713, abs=5e-5)


def test_energy_salvage_and_running_cost_are_added_and_taken_off() -> None:
    energy = levelised(OwnedDevice(**H800, all_in_kilowatts=1.73, usd_per_kilowatt_hour=0.0826))
    assert energy.energy_usd_per_hour == pytest.approx(0.1429, abs=5e-5)
    whole = levelised(OwnedDevice(**H800, salvage_usd=24_902.34, opex_usd_per_year=876.0))
    assert whole.capital_usd_per_year == pytest.approx(2490.234)  # sold at its price: interest alone
    assert whole.opex_usd_per_hour == pytest.approx(0.1)


def test_without_interest_salvage_is_spread_evenly() -> None:
    cost = levelised(OwnedDevice(capex_usd=1000, rate=0.0, years=4, salvage_usd=200))
    assert cost.capital_usd_per_year == pytest.approx(200)


def test_hours_after_which_buying_is_cheaper() -> None:
    assert rent_or_buy_hours(24_902, 2.0) == 12_451
    assert rent_or_buy_hours(24_902, 2.0, 1.0) == 24_902
    with pytest.raises(UserError, match="never pays back"):
        rent_or_buy_hours(24_902, 2.0, 2.0)


@pytest.mark.parametrize(
    "change",
    [{"utilisation": 0.0}, {"utilisation": 1.1}, {"capex_usd": -1.0}, {"power_usage_effectiveness": 0.5}],
)
def test_what_cannot_be_owned_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(UserError):
        OwnedDevice(**{**H800, **change})
    with pytest.raises(UserError):
        capital_recovery_factor(0.1, 0)
