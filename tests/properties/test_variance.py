"""The parts of a difference add up to it, exactly, whatever happened."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from openbook.economics.local.variance import Outcome, total_variance, variance_of

MICROSECONDS = st.integers(min_value=0, max_value=10**15)
PRICES = st.decimals(min_value=0, max_value=1000, places=6)
OUTCOMES = st.builds(
    Outcome,
    forecast_microseconds=MICROSECONDS,
    remodelled_microseconds=MICROSECONDS,
    kept_microseconds=MICROSECONDS,
    lost_microseconds=MICROSECONDS,
    forecast_usd_per_hour=PRICES,
    actual_usd_per_hour=PRICES,
)


@given(st.lists(OUTCOMES, max_size=5))
def test_parts_add_up_to_the_difference(outcomes: list[Outcome]) -> None:
    total = total_variance(variance_of(one) for one in outcomes)
    assert sum(total.parts().values()) == total.difference
    assert total.actual_usd - total.difference == total.forecast_usd


@given(OUTCOMES)
def test_each_part_is_zero_where_its_cause_is_absent(outcome: Outcome) -> None:
    found = variance_of(outcome)
    assert bool(found.price) <= (outcome.forecast_usd_per_hour != outcome.actual_usd_per_hour)
    assert bool(found.tokens) <= (outcome.remodelled_microseconds != outcome.forecast_microseconds)
    assert bool(found.efficiency) <= (outcome.kept_microseconds != outcome.remodelled_microseconds)
    assert bool(found.lost_time) <= bool(outcome.lost_microseconds)


def test_an_example_by_hand() -> None:
    """An hour forecast at $2; two at $3, half an hour of them lost; the tokens explain a quarter."""
    hour = 3_600_000_000
    found = variance_of(
        Outcome(
            forecast_microseconds=hour,
            remodelled_microseconds=hour * 5 // 4,
            kept_microseconds=hour * 3 // 2,
            lost_microseconds=hour // 2,
            forecast_usd_per_hour=Decimal(2),
            actual_usd_per_hour=Decimal(3),
        )
    )
    assert {name: float(value) for name, value in found.parts().items()} == {
        "price": 2.0,
        "tokens": 0.5,
        "efficiency": 0.5,
        "lost time": 1.0,
    }
    assert float(found.difference) == 4.0
