"""Invariants of the investment model over random draws."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openbook.economics.invest.assumptions import NAMES, load_scenario
from openbook.economics.invest.model import Outcome, simulate
from openbook.economics.invest.sampling import Plan, Sampler, columns_of
from openbook.economics.invest.scenario import Scenario

NUM_PATHS = 64


@cache
def scenario(name: str) -> Scenario:
    return load_scenario(name)


def draw(chosen: Scenario, seed: int) -> dict[str, np.ndarray]:
    """Plain independent draws: any path is allowed, whatever its probability."""
    generator = np.random.default_rng(seed)
    levels = {name: generator.uniform(1e-6, 1 - 1e-6, NUM_PATHS) for name in chosen.inputs}
    return {name: np.array(given.ppf(levels[name])) for name, given in chosen.inputs.items()}


def run(name: str, seed: int, **changes: float) -> Outcome:
    """`changes` multiply an input on every path, a company's own as well."""
    chosen = scenario(name)
    draws = draw(chosen, seed)
    for key in draws:
        draws[key] = draws[key] * changes.get(key.rpartition(".")[2], 1.0)
    return simulate(chosen, draws)


any_case = given(name=st.sampled_from(NAMES), seed=st.integers(0, 2**32 - 1))
few = settings(max_examples=25, deadline=None)


@few
@any_case
def test_capacity_is_never_exceeded(name: str, seed: int) -> None:
    outcome = run(name, seed)
    slack = 1e-9 * (1 + outcome.capacity_hours)
    assert np.all(outcome.served_hours <= outcome.capacity_hours + slack)
    assert np.all(outcome.served_hours <= outcome.demand_hours + slack)
    for product, shares in outcome.fill.items():
        assert all(np.all((share >= 0) & (share <= 1)) for share in shares), product
    busy = np.array([np.broadcast_to(year, (4, NUM_PATHS)) for year in outcome.sales.busy])
    assert np.all((busy >= 0) & (busy <= 1))


@few
@any_case
def test_cash_flows_reconcile_to_the_statements(name: str, seed: int) -> None:
    """Net income + depreciation + write-down - cash capex - lease repayments = free cash flow."""
    outcome = run(name, seed)
    accounts = outcome.accounts
    for year in range(scenario(name).num_years):
        rebuilt = (
            accounts.net_income[year]
            + accounts.depreciation[year]
            + accounts.write_down[year]
            - accounts.cash_capex[year]
            - accounts.lease_repayment[year]
        )
        assert np.allclose(rebuilt, accounts.free_cash_flow[year], atol=1e-9)
    opening = outcome.fleet.opening_book
    spent = outcome.capex.sum(axis=1)
    off = outcome.depreciation.sum(axis=1) + outcome.write_down.sum(axis=1)
    assert np.allclose(opening + spent - off, accounts.book[-1], atol=1e-8)
    selling = outcome.revenue * draw(scenario(name), seed)["sales_cost_share"]
    assert np.allclose(outcome.gross_profit - selling - outcome.write_down, outcome.operating_income)
    parts = sum(outcome.product_revenue(product) for product in outcome.fill)
    assert np.allclose(parts, outcome.revenue)


@few
@given(
    name=st.sampled_from(NAMES),
    seed=st.integers(0, 2**32 - 1),
    cost=st.sampled_from(["usd_per_kwh", "opex_share", "sales_cost_share", "lease_rate"]),
    factor=st.floats(1.0, 3.0),
)
def test_more_cost_never_raises_npv(name: str, seed: int, cost: str, factor: float) -> None:
    before, after = run(name, seed), run(name, seed, **{cost: factor})
    assert np.all(after.npv <= before.npv + 1e-9 * (1 + np.abs(before.npv)))


@few
@any_case
def test_a_dearer_data_center_never_raises_npv(name: str, seed: int) -> None:
    """Where prices lie above what an hour costs, for a floor would rise with the cost and revenue with it.

    Without training, whose power would be saved with the machines.
    """
    held = {"training_share": 0.0, "api_price_change": 0.0, "shock_pass_through": 0.0}
    before = run(name, seed, **held)
    after = run(name, seed, **held, usd_billion_per_gigawatt=1.5)
    assert np.all(after.npv <= before.npv + 1e-9 * (1 + np.abs(before.npv)))


@few
@any_case
def test_carrying_value_is_never_negative_and_write_downs_only_lower_it(name: str, seed: int) -> None:
    outcome = run(name, seed)
    for book, scheduled in zip(outcome.accounts.book, outcome.fleet.book, strict=True):
        assert np.all(book >= -1e-9)
        assert np.all(book <= scheduled + 1e-9)
    assert np.all(outcome.write_down >= 0)


@few
@given(seed=st.integers(0, 2**32 - 1))
def test_write_downs_move_profit_and_never_cash(seed: int) -> None:
    more, less = run("bubble", seed, residual_share=0), run("bubble", seed)
    assert np.all(more.write_down.sum(axis=1) >= less.write_down.sum(axis=1) - 1e-9)
    assert np.any(more.write_down > less.write_down + 1e-6)
    assert np.allclose(more.free_cash_flow, less.free_cash_flow, atol=1e-9)


@pytest.mark.parametrize("other", ["payoff", "bubble"])
def test_common_random_numbers_pair_exactly(other: str) -> None:
    first, second = scenario("article"), scenario(other)
    sampler = Sampler(plan=Plan(num_paths=16 * 16), columns=columns_of(first.inputs, second.inputs))
    one, two = (sampler.draw(each.inputs) for each in (first, second))
    same = [name for name in first.uncertain if first.inputs[name] == second.inputs.get(name)]
    assert len(same) > 20
    assert all(np.array_equal(one[name], two[name]) for name in same)
    # the same scenario under another decision differs only by the decision
    held = first.with_value("utilisation", 0.5)
    three = sampler.draw(held.inputs)
    assert all(np.array_equal(one[name], three[name]) for name in held.uncertain)
    differs = simulate(held, three).npv - simulate(first, one).npv
    again = simulate(held, {**one, "utilisation": np.array([0.5])}).npv - simulate(first, one).npv
    assert np.array_equal(differs, again)


@few
@any_case
def test_a_path_does_not_depend_on_the_paths_beside_it(name: str, seed: int) -> None:
    chosen = scenario(name)
    draws = draw(chosen, seed)
    whole = simulate(chosen, draws).npv
    part = simulate(chosen, {key: value[:7] for key, value in draws.items()}).npv
    assert np.allclose(whole[:, :7], part, rtol=1e-12)
