from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from openbook.economics.capital import OwnedDevice, levelised
from openbook.economics.invest.assumptions import load_scenario
from openbook.economics.invest.capacity import in_service, usd_per_device
from openbook.economics.invest.demand import backlog_share, logistic, seat_revenue
from openbook.economics.invest.finance import npv
from openbook.economics.invest.model import Outcome, simulate
from openbook.economics.invest.scenario import Scenario
from openbook.economics.invest.serving import ServingChoice, cash_usd_per_hour, levelised_usd_per_hour
from openbook.errors import UserError


@pytest.fixture(scope="module")
def article() -> Scenario:
    return load_scenario("article")


def run(scenario: Scenario, **values: float) -> Outcome:
    """One path at the medians, with some inputs held."""
    for name, value in values.items():
        scenario = scenario.with_value(name, value)
    return simulate(scenario, scenario.medians())


def own(scenario: Scenario, key: str, **values: float) -> Scenario:
    for name, value in values.items():
        scenario = scenario.with_value(f"{key}.{name}", value)
    return scenario


def one(value: float) -> np.ndarray:
    return np.array([[value]])


def test_copilot_revenue() -> None:
    assert seat_revenue(one(15), one(30), one(0)) == pytest.approx(5.4)
    assert seat_revenue(one(15), one(30), one(0.5)) == pytest.approx(2.7)


def test_the_models_first_year_of_seats_is_the_articles(article: Scenario) -> None:
    outcome = run(article, seat_discount=0)
    assert outcome.product_revenue("seats")[0, 0, 0] == pytest.approx(5.4)
    assert outcome.demand.seats[0][0, 0] == pytest.approx(15)


def test_505_straight_line() -> None:
    wanted = {6: 84.2, 5: 101.0, 4: 126.3, 3: 168.3}
    for years, charge in wanted.items():
        shares = in_service(one(0), one(years), 10)
        charges = [505 * float(share[0, 0]) / years for share in shares]
        assert charges[0] == pytest.approx(charge, abs=0.05)
        assert sum(charges) == pytest.approx(505)


def test_service_starts_after_the_delay_and_ends_with_the_life() -> None:
    shares = [float(share[0, 0]) for share in in_service(one(0.25), one(2.5), 5)]
    assert shares == pytest.approx([0.75, 1, 0.75, 0, 0])


def test_an_s_curve_starts_at_today_and_ends_at_its_ceiling() -> None:
    assert logistic(one(0.4), one(1 / 30), one(1)) == pytest.approx(1 / 30)
    assert logistic(one(0.4), one(1 / 30), one(1e12)) == pytest.approx(0.4)
    assert logistic(one(0.02), one(1 / 30), one(1)) == pytest.approx(0.02)


def test_a_quarter_of_the_backlog_falls_due_in_a_year_and_its_mean_life_is_two_and_a_half() -> None:
    shares = np.array([float(backlog_share(one(0.25), year)[0, 0]) for year in range(12)])
    assert shares[0] == pytest.approx(0.25)
    assert 625 * shares[0] == pytest.approx(156.25)
    assert shares.sum() == pytest.approx(1)
    assert (shares * (np.arange(12) + 0.5)).sum() == pytest.approx(2.5)
    for first in (0.1, 0.23, 0.4, 0.9, 1.0):
        total = sum(float(backlog_share(one(first), year)[0, 0]) for year in range(40))
        assert total == pytest.approx(1)


def test_a_default_costs_its_probability_times_the_loss_of_the_customers_part(article: Scenario) -> None:
    scenario = own(article, "microsoft", backlog_ai_share=1)
    scenario = scenario.with_value("backlog_renewal", 0).with_value("default_year", 2026)
    scenario = scenario.with_value("default_probability", 0.2).with_value("loss_given_default", 0.6)
    draws = {**scenario.medians(), "default_draw": (np.arange(1000) + 0.5) / 1000}
    revenue = np.mean(sum(year[0] for year in simulate(scenario, draws).demand.revenue["cloud"]))
    assert revenue == pytest.approx(343.75 + 281.25 * (1 - 0.2 * 0.6))


def test_hours_are_levelised_as_a_single_device_is() -> None:
    device = OwnedDevice(capex_usd=24_902.34, rate=0.10, years=5, utilisation=0.7)
    capital = levelised_usd_per_hour(
        usd_per_device=one(24_902.34), rate=one(0.10), life=one(5), utilisation=one(0.7)
    )
    cash = cash_usd_per_hour(
        usd_per_device=one(0),
        opex_share=one(0),
        utilisation=one(1),
        kilowatts=one(1.73),
        usd_per_kwh=one(0.0826),
    )
    assert capital == pytest.approx(levelised(device).capital_usd_per_hour)
    assert capital == pytest.approx(1.0713, abs=5e-5)
    assert cash == pytest.approx(0.1429, abs=5e-5)
    assert levelised_usd_per_hour(
        usd_per_device=one(8760), rate=one(0), life=one(2), utilisation=one(1)
    ) == pytest.approx(0.5)


def test_a_gigawatt_buys_its_devices(article: Scenario) -> None:
    held = article.with_value("usd_billion_per_gigawatt", 35)
    assert usd_per_device(held.panel(held.medians())) == pytest.approx(35e9 / (1e6 / (2.1 * 1.1)))


def test_npv_is_that_of_the_flows(article: Scenario) -> None:
    outcome = run(article, discount_rate=0.1)
    assert outcome.flows.shape == (4, 11, 1)
    assert npv(0.1, np.moveaxis(outcome.flows, 1, 2)) == pytest.approx(outcome.npv)


def test_prices_multiplied_by_the_required_ratio_bring_an_npv_of_zero(article: Scenario) -> None:
    """Of advertising that takes no machines, the uplift is a price."""
    before = run(article, ad_uplift=0.1, ad_tokens=0)
    ratio = float(before.required_revenue_ratio[1, 0])
    after = run(article, ad_uplift=0.1 * ratio, ad_tokens=0)
    assert before.npv[1, 0] < 0
    assert after.npv[1, 0] == pytest.approx(0, abs=1e-6)


def test_a_faster_device_raises_npv(article: Scenario) -> None:
    base = run(article).npv
    slower = simulate(replace(article, serving=ServingChoice(accelerator="h100")), article.medians()).npv
    assert (
        ServingChoice(accelerator="h100").device_hours_per_million > ServingChoice().device_hours_per_million
    )
    assert slower[0] < base[0] and slower[2] < base[2]


def test_an_architecture_from_a_file_moves_npv(article: Scenario, tmp_path: Path) -> None:
    config = json.loads(
        resources.files("openbook.economics").joinpath("data/deepseek_v3.json").read_text("utf-8")
    )
    config["num_experts_per_tok"] = 32
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    heavier = ServingChoice(model=str(path))
    assert heavier.device_hours_per_million > ServingChoice().device_hours_per_million
    assert simulate(replace(article, serving=heavier), article.medians()).npv[0] < run(article).npv[0]
    with pytest.raises(UserError, match=r"serving\.model"):
        ServingChoice(model="no-such-model").device_hours_per_million  # noqa: B018


def test_utilisation_moves_npv_where_machines_are_short_and_costs_count(article: Scenario) -> None:
    low, high = run(article, utilisation=0.4), run(article, utilisation=0.8)
    assert np.all(low.npv[[0, 2]] < high.npv[[0, 2]])
    assert np.all(low.unit_cost > high.unit_cost)
    assert np.any(np.isclose(low.served_hours, low.capacity_hours))


def test_more_demand_than_machines_leaves_money_on_the_table(article: Scenario) -> None:
    outcome = run(article, utilisation=0.3)
    wanted = sum(year[0, 0] for years in outcome.demand.revenue.values() for year in years)
    assert outcome.revenue[0].sum() < wanted
    assert np.all(outcome.served_hours <= outcome.capacity_hours * (1 + 1e-12))


def test_a_shock_cuts_prices_and_hours_from_its_date(article: Scenario) -> None:
    before = run(article)
    after = run(article, shock_gain=10, shock_pass_through=0.5, shock_year=2028)
    for year, share in ((0, 0.0), (1, 0.0), (2, 1.0), (9, 1.0)):
        price = after.demand.api_price[year][0, 0] / before.demand.api_price[year][0, 0]
        assert price == pytest.approx(10 ** (-0.5 * share))
    hours = after.demand.hours["seats"][5][0, 0] / before.demand.hours["seats"][5][0, 0]
    assert hours == pytest.approx(0.1)
    assert np.array_equal(after.demand.hours["cloud"][5], before.demand.hours["cloud"][5])


def test_prices_do_not_fall_below_what_an_hour_costs_in_cash(article: Scenario) -> None:
    outcome = run(article, api_price_change=-0.99)
    price = outcome.demand.api_price[9][0, 0]
    assert price > 2.65 * 0.01**9 * 1e6
    dearer = run(article, api_price_change=-0.99, usd_per_kwh=0.5)
    assert dearer.demand.api_price[9][0, 0] > price


def test_superlinear_cost_takes_more_hours_as_usage_grows(article: Scenario) -> None:
    linear, above = run(article), run(article, cost_exponent=1.2)
    assert above.demand.hours["seats"][0][0, 0] == pytest.approx(linear.demand.hours["seats"][0][0, 0])
    (first, later), (_, dearer) = (
        [outcome.demand.hours["seats"][year][0, 0] for year in (0, 5)] for outcome in (linear, above)
    )
    assert dearer / first == pytest.approx((later / first) ** 1.2)


def test_the_endings_are_in_order_of_value_on_the_median_path() -> None:
    payoff, slowdown, bubble = (
        run(load_scenario(name)).npv.sum() for name in ("payoff", "slowdown", "bubble")
    )
    assert payoff > slowdown > bubble


def test_the_bubble_writes_down_billions_and_capex_that_earns_writes_down_nothing() -> None:
    assert run(load_scenario("bubble")).write_down.sum() > 10
    rich = run(load_scenario("payoff"), ad_uplift=1.0, rent=20.0, utilisation=0.9)
    assert rich.write_down.sum() == pytest.approx(0, abs=1e-9)


def test_an_unknown_input_and_a_value_out_of_bounds_are_refused(article: Scenario) -> None:
    with pytest.raises(UserError, match="unknown input"):
        article.with_value("rnet", 3)
    with pytest.raises(UserError, match="out of bounds"):
        article.with_value("utilisation", 1.2)
    with pytest.raises(AssertionError, match="no draws"):
        simulate(article, {})
