from __future__ import annotations

import pytest

from openbook.economics.serving.margin import Margin, after_price_cut
from openbook.errors import UserError

DAY = Margin(revenue_usd=562_100, cost_usd=87_072)


def test_both_margins_of_the_published_day() -> None:
    assert DAY.on_cost == pytest.approx(5.455, abs=1e-3)
    assert DAY.of_revenue == pytest.approx(0.845, abs=1e-3)
    assert DAY.break_even_utilisation() == pytest.approx(0.1549, abs=5e-5)
    assert DAY.break_even_utilisation(0.5) == pytest.approx(0.0775, abs=1e-4)


def test_a_price_cut_at_equal_unit_cost() -> None:
    half, four_fifths = after_price_cut(0.80, 0.5), after_price_cut(0.80, 0.8)
    assert half.margin_of_revenue == pytest.approx(0.60)
    assert half.margin_on_cost == pytest.approx(1.5)
    assert half.volume_for_revenue == 2
    assert half.volume_for_profit == pytest.approx(0.8 / 0.3)
    assert four_fifths.margin_of_revenue == pytest.approx(0.0, abs=1e-12)
    assert after_price_cut(0.80, 0.9).volume_for_profit is None
    assert after_price_cut(0.5, 1 - 0.0365).volume_for_revenue == pytest.approx(27.4, abs=0.01)


@pytest.mark.parametrize(("margin", "cut"), [(0.8, 1.0), (0.8, -0.1), (5.45, 0.5)])
def test_a_cut_of_everything_and_a_margin_on_cost_are_refused(margin: float, cut: float) -> None:
    with pytest.raises(UserError):
        after_price_cut(margin, cut)


def test_without_revenue_there_is_no_margin() -> None:
    with pytest.raises(UserError):
        Margin(revenue_usd=0, cost_usd=1)
    with pytest.raises(UserError):
        DAY.break_even_utilisation(0)
