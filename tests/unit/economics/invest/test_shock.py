from __future__ import annotations

import numpy as np
import pytest

from openbook.economics.invest.shock import in_force, jevons, spend_ratio, volume_for_revenue
from openbook.errors import UserError

AFTER_96 = {0.8: 0.516, 1.0: 1.000, 1.1: 1.392, 1.2: 1.939, 1.5: 5.234}
AFTER_90 = {0.8: 0.631, 1.0: 1.000, 1.1: 1.259, 1.2: 1.585, 1.5: 3.162}


def test_the_elasticity_table() -> None:
    for price, table in ((0.0365, AFTER_96), (0.1, AFTER_90)):
        for size, ratio in table.items():
            assert spend_ratio(price, -size) == pytest.approx(ratio, abs=2e-3)
    assert volume_for_revenue(0.0365) == pytest.approx(27.4, abs=0.05)
    assert volume_for_revenue(0.1) == pytest.approx(10)


def test_compute_rises_only_if_elasticity_times_pass_through_exceeds_one() -> None:
    for size, phi in ((1.1, 1.0), (1.1, 0.8), (1.25, 0.8), (0.8, 1.0)):
        found = jevons(gain=5, pass_through=phi, elasticity=-size, gross_margin=0.6)
        assert found.compute == pytest.approx(5 ** (size * phi - 1))


def test_each_threshold_is_where_its_ratio_is_one() -> None:
    case = {"gain": 5.0, "pass_through": 0.7, "gross_margin": 0.6}
    found = jevons(elasticity=-1.1, **case)
    assert found.spend_threshold == 1
    assert found.compute_threshold == pytest.approx(1 / 0.7)
    assert found.gross_profit_threshold is not None
    for name in ("spend", "compute", "gross_profit"):
        at = jevons(elasticity=-getattr(found, f"{name}_threshold"), **case)
        assert getattr(at, name) == pytest.approx(1.0)
    assert len({found.spend_threshold, found.compute_threshold, found.gross_profit_threshold}) == 3


def test_with_all_of_the_gain_passed_on_the_thresholds_meet() -> None:
    found = jevons(gain=16.7, pass_through=1.0, elasticity=-0.9, gross_margin=0.5)
    assert found.gross_profit_threshold == pytest.approx(1.0)
    assert found.compute_threshold == 1.0
    assert found.spend < 1 and found.gross_profit == pytest.approx(found.spend)


def test_a_price_below_cost_has_no_threshold_of_profit() -> None:
    found = jevons(gain=2, pass_through=2.0, elasticity=-1.1, gross_margin=0.2)
    assert found.gross_profit < 0 and found.gross_profit_threshold is None
    with pytest.raises(UserError):
        jevons(gain=0.5, pass_through=1, elasticity=-1, gross_margin=0.5)


def test_an_event_in_the_middle_of_a_year_holds_for_half_of_it() -> None:
    date = np.array([2027.5])
    assert [float(in_force(date, year)[0]) for year in (2026, 2027, 2028)] == [0, 0.5, 1]
