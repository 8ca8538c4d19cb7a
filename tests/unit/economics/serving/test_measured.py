from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbook.economics.serving.measured import Measurement, TokenTimes, Work, split_times
from openbook.economics.serving.price_list import PriceList
from openbook.errors import UserError
from openbook.runs.usage import Usage


def work(prompt: int, cached: int, completion: int, seconds: float) -> Work:
    return Work(
        prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion, device_seconds=seconds
    )


MIXES = [(1000, 0, 8), (20, 0, 500), (16, 984, 8)]


@given(
    prompt=st.floats(1e-6, 1e-2),
    cached=st.floats(1e-7, 1e-3),
    completion=st.floats(1e-6, 1e-2),
)
def test_times_that_made_the_works_are_found_again(prompt: float, cached: float, completion: float) -> None:
    works = [work(p, c, o, p * prompt + c * cached + o * completion) for p, c, o in MIXES]
    found = split_times(works)
    assert found.prompt_seconds == pytest.approx(prompt, rel=1e-3, abs=1e-9)
    assert found.completion_seconds == pytest.approx(completion, rel=1e-3, abs=1e-9)
    assert found.cached_seconds == pytest.approx(cached, rel=1e-2, abs=1e-7)
    assert found.unexplained < 1e-6


def test_no_kind_takes_less_than_no_time() -> None:
    works = [work(100, 0, 100, 1.0), work(200, 0, 100, 0.9), work(100, 0, 200, 2.0)]
    found = split_times(works)
    assert found.prompt_seconds == 0
    assert found.completion_seconds > 0
    assert found.cached_seconds is None
    assert found.unexplained > 0.01


@pytest.mark.parametrize(
    ("works", "message"),
    [
        ([], "0 pieces of work"),
        ([work(100, 0, 10, 1.0)], "1 pieces of work cannot tell 2 kinds"),
        ([work(100, 0, 10, 1.0), work(200, 0, 20, 2.0), work(50, 0, 5, 0.5)], "nearly the same mix"),
    ],
)
def test_one_mix_cannot_tell_kinds_apart(works: list[Work], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_times(works)


def measurement(cached: float | None = 1e-5) -> Measurement:
    times = TokenTimes(
        prompt_seconds=1e-4,
        cached_seconds=cached,
        completion_seconds=1e-3,
        unexplained=0.0,
        num_works=3,
        device_seconds=1.0,
    )
    return Measurement(
        model="nano",
        device="cpu",
        day=date(2026, 11, 24),
        times=times,
        usd_per_device_hour=Decimal("0.01"),
        price_source="the price plan",
        how="three workloads",
    )


def test_a_measurement_is_a_price_list_entry_at_cost_or_with_a_markup() -> None:
    offer = measurement().offer()
    # 1e-4 s x 1e6 x 0.01 USD / 3600 s
    assert (offer.input_missed, offer.input_cached, offer.output) == (
        Decimal("0.000278"),
        Decimal("0.000028"),
        Decimal("0.002778"),
    )
    assert PriceList(offers=(offer,)).offer("openbook", "nano", datetime(2026, 11, 25, tzinfo=UTC)) == offer
    assert measurement().offer(1.0).output == Decimal("0.005556")
    assert measurement(cached=None).offer().input_cached == offer.input_missed
    with pytest.raises(UserError):
        measurement().offer(-2)


def test_work_that_had_to_be_done_again_counts_as_prompt() -> None:
    usage = Usage(prompt_tokens=10, recomputed_tokens=5, completion_tokens=3, device_microseconds=2_000_000)
    assert Work.of(usage) == work(15, 0, 3, 2.0)
