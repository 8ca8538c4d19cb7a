"""Money, time, bytes and counts: exact sums, readable texts."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbook.units import show_bytes, show_count, show_seconds, show_usd, to_nano_usd, to_usd


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_nano_dollars_survive_the_way_through_dollars(nano_usd: int) -> None:
    assert to_nano_usd(to_usd(nano_usd)) == nano_usd


def test_dollars_round_half_to_even_at_the_ninth_digit() -> None:
    assert to_nano_usd(Decimal("0.0000000005")) == 0
    assert to_nano_usd(Decimal("0.0000000015")) == 2
    assert to_nano_usd(Decimal("2.19")) == 2_190_000_000


def test_a_tenth_of_a_dollar_ten_times_is_a_dollar() -> None:
    assert sum([to_nano_usd(Decimal("0.1"))] * 10) == to_nano_usd(Decimal(1))


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        ("0", "$0.0000"),
        ("1234.5", "$1,234.50"),
        ("0.55", "$0.5500"),
        ("0.000047", "$0.000047"),
        ("0.0123", "$0.0123"),
        ("5576000", "$5,576,000.00"),
    ],
)
def test_money_shows_as_many_decimals_as_it_needs(usd: str, text: str) -> None:
    assert show_usd(to_nano_usd(Decimal(usd))) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.42 s"),
        (12.2, "12 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_time_shows_in_the_unit_people_would_use(seconds: float, text: str) -> None:
    assert show_seconds(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 B"), (512, "512 B"), (1_500_000, "1.5 MB"), (5e15, "5000.0 TB")]
)
def test_bytes_show_in_decimal_units(num_bytes: float, text: str) -> None:
    assert show_bytes(num_bytes) == text


@pytest.mark.parametrize(
    ("count", "text"), [(950, "950"), (12_300, "12.3K"), (671e9, "671.0B"), (14.8e12, "14.8T")]
)
def test_counts_show_short(count: float, text: str) -> None:
    assert show_count(count) == text
