from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbook.errors import UserError
from openbook.ledger.depreciation import (
    Hardware,
    Method,
    depreciation_nano_usd,
    months,
    refuse_wrong_hardware,
    value_nano_usd,
)

SERVER = Hardware(
    name="server",
    device="cpu",
    count=1,
    price_usd=Decimal(40_000),
    salvage_usd=Decimal(0),
    bought_on=date(2026, 1, 1),
    life_days=3 * 365,
    method=Method.STRAIGHT_LINE,
    source="invoice 7",
)
DOLLAR = 10**9


@pytest.mark.parametrize(("years", "expected"), [(3, 13_333), (6, 6_667)])
def test_straight_line_gives_the_figures_of_the_fact_sheet(years: int, expected: int) -> None:
    server = replace(SERVER, life_days=years * 365)
    assert round(depreciation_nano_usd(server, date(2026, 1, 1), date(2027, 1, 1)) / DOLLAR) == expected


def test_the_servers_of_v3_at_full_use_cost_1_59_million_over_the_hours_of_the_run() -> None:
    """2.788M hours of 2,048 devices at 24,902 dollars over five years: facts 7.3 says 0.569 an hour."""
    fleet = replace(SERVER, count=2048, price_usd=Decimal("24902.34375"), life_days=5 * 365)
    assert fleet.cost_nano_usd == 51_000_000 * DOLLAR
    a_day = depreciation_nano_usd(fleet, date(2026, 3, 1), date(2026, 3, 2))
    an_hour = a_day / DOLLAR / 2048 / 24
    assert an_hour == pytest.approx(0.569, abs=0.001)
    assert an_hour * 2_788_000 == pytest.approx(1.59e6, rel=0.005)


def test_declining_balance_takes_the_same_share_each_year_and_ends_at_the_salvage() -> None:
    """Epoch's 27.6 % a year: facts 7.2."""
    four = replace(
        SERVER,
        method=Method.DECLINING,
        life_days=4 * 365,
        salvage_usd=Decimal(40_000) * Decimal("0.724") ** 4,
    )
    values = [value_nano_usd(four, four.bought_on + timedelta(days=365 * year)) for year in range(5)]
    assert [round(after / before, 6) for before, after in pairwise(values)] == [0.724] * 4
    assert values[-1] == round(40_000 * 0.724**4 * DOLLAR)


@given(
    method=st.sampled_from(Method),
    price=st.decimals(min_value=1, max_value=50_000, places=2),
    share=st.integers(min_value=1, max_value=100),
    life_days=st.integers(min_value=1, max_value=4000),
    count=st.integers(min_value=1, max_value=3000),
    cuts=st.lists(st.integers(min_value=-10, max_value=4010), max_size=8),
)
def test_however_the_life_is_cut_it_adds_up_to_price_less_salvage(
    method: Method, price: Decimal, share: int, life_days: int, count: int, cuts: list[int]
) -> None:
    hardware = replace(
        SERVER,
        method=method,
        price_usd=price,
        salvage_usd=(price * share / 100).quantize(Decimal("1e-9")),
        life_days=life_days,
        count=count,
    )
    refuse_wrong_hardware(hardware)
    days = sorted({-10, *cuts, 4010})
    parts = [
        depreciation_nano_usd(
            hardware, hardware.bought_on + timedelta(days=a), hardware.bought_on + timedelta(days=b)
        )
        for a, b in pairwise(days)
    ]
    assert all(part >= 0 for part in parts)
    assert sum(parts) == int((hardware.price_usd - hardware.salvage_usd) * DOLLAR) * count


def test_owned_hours_end_with_the_life() -> None:
    two = replace(SERVER, count=2)
    assert two.owned_seconds(date(2026, 1, 1), date(2026, 1, 2)) == 2 * 86_400
    assert two.owned_seconds(date(2025, 12, 1), date(2026, 1, 2)) == 2 * 86_400
    assert two.owned_seconds(two.end, date(2040, 1, 1)) == 0


def test_a_period_is_cut_at_the_first_of_each_month() -> None:
    assert list(months(date(2026, 11, 29), date(2027, 1, 2))) == [
        (date(2026, 11, 29), date(2026, 12, 1)),
        (date(2026, 12, 1), date(2027, 1, 1)),
        (date(2027, 1, 1), date(2027, 1, 2)),
    ]
    assert list(months(date(2026, 1, 1), date(2026, 1, 1))) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"price_usd": Decimal(-1)}, "has a price of -1"),
        ({"price_usd": Decimal("NaN")}, "has a price of NaN"),
        ({"salvage_usd": Decimal(50_000)}, "worth more at the end"),
        ({"life_days": 0}, "a life of 0 days"),
        ({"count": 0}, "is 0 devices"),
        ({"source": ""}, "the source of its price"),
        ({"method": Method.DECLINING}, "never reaches"),
    ],
)
def test_hardware_that_cannot_be_depreciated_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        refuse_wrong_hardware(replace(SERVER, **change))  # type: ignore[arg-type]
