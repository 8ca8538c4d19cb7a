from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbook.errors import UserError
from openbook.ledger.metering import TokenPrices, TokenUsage, charge, check_charge
from openbook.runs.usage import Usage

R1 = TokenPrices(missed_usd=Decimal("0.55"), cached_usd=Decimal("0.14"), output_usd=Decimal("2.19"))
REQUEST = TokenUsage(prompt_tokens=2006, cached_tokens=1920, completion_tokens=300, reasoning_tokens=200)


def test_cached_tokens_are_inside_the_prompt_and_charged_once() -> None:
    found = charge(REQUEST, R1)
    assert found.nano_usd == 973_100
    assert (found.missed_usd, found.cached_usd, found.output_usd) == (
        Decimal("0.0000473"),
        Decimal("0.0002688"),
        Decimal("0.000657"),
    )


def test_reasoning_is_inside_the_completion_and_changes_no_charge() -> None:
    without = TokenUsage(prompt_tokens=2006, cached_tokens=1920, completion_tokens=300)
    assert charge(REQUEST, R1) == charge(without, R1)


@pytest.mark.parametrize(
    ("billed", "mistake"),
    [
        (973_100 + 1920 * 550, "cached tokens are charged as missed and again as cached"),
        (973_100 + 200 * 2190, "reasoning tokens are charged inside the completion and again beside it"),
        (973_100 + 1920 * 550 + 200 * 2190, "both charged twice"),
        (973_101, "the tokens do not come to that"),
    ],
)
def test_a_wrong_bill_is_refused_with_its_mistake(billed: int, mistake: str) -> None:
    with pytest.raises(UserError, match=mistake):
        check_charge(REQUEST, R1, billed)


def test_the_right_bill_passes() -> None:
    check_charge(REQUEST, R1, 973_100)


@pytest.mark.parametrize(
    "counts",
    [
        {"prompt_tokens": 86, "cached_tokens": 1920},
        {"prompt_tokens": 1, "completion_tokens": 100, "reasoning_tokens": 200},
        {"prompt_tokens": -1},
    ],
)
def test_counts_that_would_be_charged_twice_cannot_be_made(counts: dict[str, int]) -> None:
    with pytest.raises(UserError):
        TokenUsage(**counts)


@pytest.mark.parametrize("price", ["-0.1", "NaN", "Infinity"])
def test_a_price_is_a_number_that_is_not_negative(price: str) -> None:
    with pytest.raises(UserError, match="missed_usd"):
        TokenPrices(missed_usd=Decimal(price), cached_usd=Decimal(0), output_usd=Decimal(0))


def test_a_run_counts_computed_prompt_tokens_apart_from_cached_ones() -> None:
    usage = TokenUsage.of_run(
        Usage(prompt_tokens=86, cached_tokens=1920, completion_tokens=300, thinking_tokens=200)
    )
    assert usage == REQUEST


@given(
    cached=st.integers(0, 10**6),
    missed=st.integers(0, 10**6),
    output=st.integers(0, 10**6),
    millis=st.tuples(*[st.integers(0, 200_000)] * 3),
)
def test_the_charge_is_the_sum_of_its_meters(
    cached: int, missed: int, output: int, millis: tuple[int, int, int]
) -> None:
    prices = TokenPrices(
        **dict(
            zip(("missed_usd", "cached_usd", "output_usd"), (Decimal(m) / 1000 for m in millis), strict=True)
        )
    )
    usage = TokenUsage(prompt_tokens=cached + missed, cached_tokens=cached, completion_tokens=output)
    assert charge(usage, prices).nano_usd == missed * millis[0] + cached * millis[1] + output * millis[2]
