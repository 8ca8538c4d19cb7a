"""Figures in words: short, in one unit, and nothing that does not exist passed off as a number."""

from __future__ import annotations

import math

import pytest

from openbook.economics.invest import words
from openbook.economics.invest.inputs import COMPANY_INPUTS, MARKET_INPUTS, SEGMENT_INPUTS
from openbook.economics.invest.statistics import Estimate


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (505, "$505B"),
        (0, "$0M"),
        (5.4, "$5.4B"),
        (0.45, "$450M"),
        (-1234, "-$1.23T"),
        (999.9, "$1.00T"),
        (99.6, "$100B"),
        (12.34, "$12.3B"),
        (-0.0004, "-$0.40M"),
        (math.nan, "none"),
    ],
)
def test_money_is_short(value: float, shown: str) -> None:
    assert words.billions(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.633, "63 %"),
        (0.004, "0.4 %"),
        (0.996, "99.6 %"),
        (-0.0001, "0 %"),
        (0, "0 %"),
        (1, "100 %"),
        (math.nan, "none"),
    ],
)
def test_shares_near_an_end_keep_a_digit(value: float, shown: str) -> None:
    assert words.percent(value) == shown


def test_a_figure_carries_its_error() -> None:
    assert words.with_error(Estimate(value=-12.3, standard_error=0.4)) == "-$12.3B +- $400M"
    assert words.with_error(Estimate(value=0.63, standard_error=0.003), share=True) == "63 % +- 0.3"
    assert words.with_error(Estimate(value=math.nan, standard_error=math.nan)) == "none"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("utilisation", 0.45, "45 %"),
        ("discount_rate", 0.1025, "10.2 % a year"),
        ("api_price", 0.4, "$0.4/M tokens"),
        ("meta.first_capex", 135, "$135B"),
        ("economic_life", 5, "5 years"),
        ("segment.x.elasticity", -1.1, "-1.1"),
        ("usd_billion_per_gigawatt", 35, "$35B/GW"),
        ("price_cut_year", 2027.5, "2027.5"),
    ],
)
def test_inputs_are_said_in_their_unit(name: str, value: float, shown: str) -> None:
    assert words.input_value(name, value) == shown


def test_every_input_has_a_title_of_its_own() -> None:
    names = [*MARKET_INPUTS, *COMPANY_INPUTS, *SEGMENT_INPUTS]
    assert set(words.TITLES) == set(names)
    assert len(set(words.TITLES.values())) == len(names)
