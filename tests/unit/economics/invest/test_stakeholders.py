from __future__ import annotations

import math

import numpy as np
import pytest

from openbook.economics.invest.serving import ServingChoice
from openbook.economics.invest.stakeholders import (
    BuyerCase,
    StartupCase,
    break_even_minutes,
    buyer,
    elasticity_for,
    gain_for,
    implied_spend_ratio,
    own_server,
    pass_through_for,
    required_gross_profit,
    required_seats,
    startup,
    worker,
)
from openbook.errors import UserError


def test_the_505_billion_have_to_earn_so_much_a_year() -> None:
    wanted = {3: 203.1, 4: 159.3, 5: 133.2, 6: 116.0}
    for years, profit in wanted.items():
        assert required_gross_profit(505, 0.10, years) == pytest.approx(profit, abs=0.05)


def test_microsofts_half_year_takes_67_9_million_seats_more_than_the_payoff_has() -> None:
    seats = required_seats(capex=72.4, rate=0.10, life_years=6, gross_margin=0.68, usd_per_month=30)
    assert required_gross_profit(72.4, 0.10, 6) == pytest.approx(16.62, abs=5e-3)
    assert seats == pytest.approx(67.9, abs=0.05)
    assert seats > 50
    with pytest.raises(UserError):
        required_seats(capex=72.4, rate=0.10, life_years=6, gross_margin=0, usd_per_month=30)


def test_break_even_minutes() -> None:
    assert break_even_minutes(30, 60) == pytest.approx(30)
    assert break_even_minutes(30, 60, 0.5) == pytest.approx(60)
    with pytest.raises(UserError):
        break_even_minutes(30, 60, 0)


def test_a_buyer_who_knows_adopts_at_once_and_one_who_does_not_may_wait() -> None:
    sure = buyer(BuyerCase(), np.array([150.0]))
    unsure = buyer(BuyerCase(switching_usd_per_seat=900), np.array([0.0, 120.0]))
    assert sure.best == "adopt now" and sure.value_of_waiting < 0
    assert unsure.best == "wait" and unsure.value_of_waiting > 0
    assert unsure.probability_pays == 0.5


def test_adopting_now_is_worth_its_flows() -> None:
    case = BuyerCase(num_seats=1, adoption=1.0, num_years=2, rate=0.25, switching_usd_per_seat=100)
    gain = 12 * (45 - 30)  # 45 minutes at a dollar each
    assert buyer(case, np.array([45.0])).adopt_now == pytest.approx(-100 + gain + gain / 1.25)


def test_an_own_service_pays_from_a_size() -> None:
    minutes = np.array([90.0])
    small, large = (buyer(BuyerCase(num_seats=n), minutes) for n in (100, 100_000))
    assert small.build < small.adopt_now
    assert large.build > large.adopt_now


def test_an_own_server_follows_the_serving_model_and_may_never_pay() -> None:
    choice = ServingChoice()
    dear = own_server(choice, usd_per_device_hour=3.3, utilisation=0.5, api_usd_per_million=2.65)
    cheap = own_server(choice, usd_per_device_hour=3.3, utilisation=0.5, api_usd_per_million=0.01)
    assert dear.break_even_million_per_month is not None
    assert dear.break_even_million_per_month * 2.65 == pytest.approx(dear.usd_per_month)
    assert dear.break_even_million_per_month < dear.capacity_million_per_month
    assert cheap.break_even_million_per_month is None
    # a month's rent over its tokens is the unit cost of the serving model, but for the drive of the cache
    per_million = dear.usd_per_month / dear.capacity_million_per_month
    assert dear.usd_per_million == pytest.approx(per_million, rel=0.03)


def test_a_startups_runway_contribution_and_price_war() -> None:
    case = StartupCase()
    before, after = startup(case), startup(case, price_cut=0.5, token_price_cut=0.0)
    contribution = 20 - 3 * 2.65
    assert before.contribution_usd_per_user_month == pytest.approx(contribution)
    assert before.runway_months == pytest.approx(5e6 / (250_000 - 5_000 * contribution))
    assert before.payback_months == pytest.approx(60 / contribution)
    assert after.contribution_usd_per_user_month == pytest.approx(contribution - 10)
    assert after.runway_months is not None and before.runway_months is not None
    assert after.runway_months < before.runway_months
    lost = startup(case, price_cut=0.7)
    assert lost.payback_months is None and lost.break_even_users is None
    assert startup(StartupCase(num_users=50_000)).runway_months is None


def test_the_suppliers_day_can_be_had_from_gain_pass_through_and_elasticity() -> None:
    ratio = implied_spend_ratio(118.52 / 142.62 - 1)
    assert ratio == pytest.approx(0.8310, abs=5e-5)
    gain = gain_for(ratio, pass_through=0.8, elasticity=-1.1)
    assert gain is not None
    assert gain ** (1.1 * 0.8 - 1) == pytest.approx(ratio)
    assert pass_through_for(ratio, gain=gain, elasticity=-1.1) == pytest.approx(0.8)
    assert elasticity_for(ratio, gain=gain, pass_through=0.8) == pytest.approx(-1.1)
    assert gain_for(ratio, pass_through=1.0, elasticity=-1.1) is None  # spend would rise
    assert pass_through_for(ratio, gain=1.0, elasticity=-1.1) is None
    assert elasticity_for(0.01, gain=2.0, pass_through=1.0) is None
    with pytest.raises(UserError):
        implied_spend_ratio(-0.5, spend_share=0.4)


def test_the_workers_share_that_can_be_counted() -> None:
    answer = worker(seats_million=15, workers_million=450, usd_per_month=30, usd_per_hour=60)
    assert answer.seats_per_hundred_workers == pytest.approx(3.333, abs=5e-4)
    assert answer.minutes_per_month == pytest.approx(30)
    assert answer.share_of_working_time == pytest.approx(0.5 / 160)
    assert answer.full_time_workers == pytest.approx(15e6 * 0.5 / 160)
    assert math.isclose(answer.full_time_workers, 46_875)
