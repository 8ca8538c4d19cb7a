"""A figure says who said it and when, and knows when it has grown old."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from openbook.economics.sourced import MAX_AGE_DAYS, Mark, Sourced

SAID = date(2025, 3, 4)
PRICE = Sourced(value=2.0, unit="USD/h", source="somebody", date=SAID, mark=Mark.SECOND_HAND)


@pytest.mark.parametrize(
    ("days", "limit", "stale"),
    [
        (0, MAX_AGE_DAYS, False),
        (MAX_AGE_DAYS, MAX_AGE_DAYS, False),
        (MAX_AGE_DAYS + 1, MAX_AGE_DAYS, True),
        (10, 9, True),
        (-5, 0, False),
    ],
)
def test_a_figure_is_stale_once_it_is_older_than_the_limit(days: int, limit: int, stale: bool) -> None:
    assert PRICE.is_stale(SAID + timedelta(days=days), max_age_days=limit) is stale


def test_a_figure_prints_with_its_unit_source_date_and_mark() -> None:
    assert str(PRICE) == "2 USD/h (somebody, 2025-03-04, second-hand)"
