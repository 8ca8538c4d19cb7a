"""All paths of a scenario, a few thousand at a time, reduced to what an answer needs. No torch.

walk(scenario, sampler)     Walk: net present values by path, bands over the years, rates of return

Paths are walked scramble by scramble, so memory grows with what is kept (a few numbers a path) and not with
what is computed. Equal plans and columns give equal results, whatever the size of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from openbook.economics.invest import finance
from openbook.economics.invest.correlation import RankCorrelation
from openbook.economics.invest.distributions import Floats
from openbook.economics.invest.model import Outcome, simulate
from openbook.economics.invest.sampling import Sampler, over_scrambles
from openbook.economics.invest.scenario import Scenario
from openbook.economics.invest.statistics import QUANTILES, Estimate, fan

CHUNK_PATHS = 4096
"""Paths simulated at once: the arrays of a year then stay in the cache."""

SERIES: Mapping[str, str] = {
    "capex": "USD billion",
    "revenue": "USD billion",
    "depreciation": "USD billion",
    "operating_income": "USD billion",
    "free_cash_flow": "USD billion",
    "value_so_far": "USD billion",
    "write_down": "USD billion",
    "gross_margin": "share",
    "busy_share": "share",
    "demand_over_capacity": "ratio",
}
"""What is banded over the years, summed over companies, and its unit. `value_so_far` is the discounted cash
flow up to a year, what was there at the start taken off, nothing for what is left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Walk:
    """What is kept of every path, money in USD billion; `of_paths` are [path].

    Bands are {quantile: [year]}, means over scrambles of each scramble's quantile.
    """

    scenario: Scenario
    npv: Floats  # [company, path]
    of_paths: Mapping[str, Floats]
    bands: Mapping[str, Mapping[str, Floats]]
    company_bands: Mapping[str, Mapping[str, Floats]]
    """Free cash flow of each company."""

    @property
    def total_npv(self) -> Floats:
        return np.asarray(self.npv.sum(axis=0))


def correlations_of(scenario: Scenario) -> tuple[RankCorrelation, ...]:
    """Those between inputs that are uncertain: an input held at a value has no rank."""
    uncertain = set(scenario.uncertain)
    return tuple(tie for tie in scenario.correlations if {tie.first, tie.second} <= uncertain)


def total_npv(scenario: Scenario, draws: Mapping[str, Floats]) -> Floats:
    """The companies' NPV together on each path of `draws`, USD billion."""
    return np.concatenate([outcome.npv.sum(axis=0) for outcome, _ in chunks(scenario, draws)])


def chunks(scenario: Scenario, draws: Mapping[str, Floats]) -> Iterator[tuple[Outcome, Floats]]:
    """Outcomes of `CHUNK_PATHS` paths each, in order, with the cost of capital, [company or 1, path or 1]."""
    num_paths = max((len(draw) for draw in draws.values()), default=1)
    # constants are left to the scenario, which holds one number of each; one of them says how many paths
    names = scenario.uncertain or tuple(draws)[:1]
    for start in range(0, num_paths, CHUNK_PATHS):
        part = {name: draws[name][start : start + CHUNK_PATHS] for name in names}
        yield simulate(scenario, part), scenario.panel(part)["discount_rate"]


def walk(scenario: Scenario, sampler: Sampler) -> Walk:
    """Every path of the sampler's plan. Raises UserError for correlations that cannot be."""
    ties = correlations_of(scenario)
    found = over_scrambles(
        lambda scramble: _walked(scenario, sampler.draw(scenario.inputs, ties, scramble)),
        sampler.plan.num_scrambles,
    )
    kept, bands = [one for _, one, _ in found], [one for _, _, one in found]
    mean = {
        name: {q: np.mean([one[name][q] for one in bands], axis=0) for q in QUANTILES} for name in bands[0]
    }
    return Walk(
        scenario=scenario,
        npv=_joined([one for one, _, _ in found]),
        of_paths={name: _joined([one[name] for one in kept]) for name in kept[0]},
        bands={name: mean[name] for name in SERIES},
        company_bands={company.key: mean[company.key] for company in scenario.companies},
    )


def _walked(
    scenario: Scenario, draws: Mapping[str, Floats]
) -> tuple[Floats, dict[str, Floats], dict[str, dict[str, Floats]]]:
    """Of one scramble: NPV by company, numbers of each path, bands."""
    parts = [_reduced(outcome, rate) for outcome, rate in chunks(scenario, draws)]
    kept = {name: _joined([one[name] for _, one, _, _ in parts]) for name in parts[0][1]}
    series = {name: _joined([one[name] for _, _, one, _ in parts]) for name in SERIES}
    flows = _joined([one for _, _, _, one in parts])
    of_companies = {company.key: flows[place] for place, company in enumerate(scenario.companies)}
    bands = {name: fan(values) for name, values in {**series, **of_companies}.items()}
    return _joined([one for one, _, _, _ in parts]), kept, bands


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate(parts, axis=-1)


Reduced = tuple[Floats, dict[str, Floats], dict[str, Floats], Floats]


def _reduced(outcome: Outcome, rate: Floats) -> Reduced:
    """NPV by company, numbers of each path, totals by year, free cash flow by company and year."""
    series = _series(outcome, rate)
    flows = outcome.flows.sum(axis=0).T  # [path, year]
    capital = np.broadcast_to(rate.mean(axis=0), flows.shape[:1])
    of_paths = {
        "irr": finance.irr_paths(flows),
        "mirr": finance.mirr(flows, capital, capital),
        "payback": finance.payback(flows),
        "discounted_payback": finance.payback(flows / (1 + capital[:, None]) ** np.arange(flows.shape[1])),
        "written_down": series["write_down"].sum(axis=0),
        "break_even_utilisation": _weighted(outcome.break_even_utilisation, outcome.pv_contribution),
        "required_price_ratio": 1
        - outcome.npv.sum(axis=0) / _nan_if_zero(outcome.pv_net_revenue.sum(axis=0)),
        "unit_cost": outcome.unit_cost.mean(axis=0),
    }
    return outcome.npv, of_paths, series, outcome.free_cash_flow


def _series(outcome: Outcome, rate: Floats) -> dict[str, Floats]:
    """Totals over companies, [year, path]."""
    revenue, flow = outcome.revenue.sum(axis=0), outcome.free_cash_flow
    gross = outcome.gross_profit.sum(axis=0)
    growth = (1 + rate[:, None, :]) ** np.arange(flow.shape[1])[None, :, None]
    opening = np.broadcast_to(outcome.fleet.opening_book, outcome.npv.shape).sum(axis=0)
    power = np.stack([np.broadcast_to(one, outcome.npv.shape) for one in outcome.fleet.gigawatts])
    busy = np.stack([np.broadcast_to(one, outcome.npv.shape) for one in outcome.sales.busy])
    capacity = outcome.capacity_hours.sum(axis=0)
    return {
        "capex": outcome.capex.sum(axis=0),
        "revenue": revenue,
        "depreciation": outcome.depreciation.sum(axis=0),
        "operating_income": outcome.operating_income.sum(axis=0),
        "free_cash_flow": flow.sum(axis=0),
        "value_so_far": np.cumsum((flow / growth).sum(axis=0), axis=0) - opening,
        "write_down": outcome.write_down.sum(axis=0),
        "gross_margin": gross / _nan_if_zero(revenue),
        "busy_share": (power * busy).sum(axis=1) / _nan_if_zero(power.sum(axis=1)),
        "demand_over_capacity": outcome.demand_hours.sum(axis=0) / _nan_if_zero(capacity),
    }


def _weighted(values: Floats, weights: Floats) -> Floats:
    """The mean over companies, NaN where one is."""
    weights = np.broadcast_to(weights, values.shape)
    return np.asarray((values * weights).sum(axis=0) / _nan_if_zero(weights.sum(axis=0)))


def _nan_if_zero(values: Floats) -> Floats:
    return np.where(values > 0, values, np.nan)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """A number that not every path has: the share that has it, and quantiles of theirs ({} for none)."""

    share: Estimate
    quantiles: Mapping[str, float]


def reached(values: Floats, num_scrambles: int) -> Reached:
    """Of values that are NaN where there is none."""
    exists = ~np.isnan(values)
    shares = exists.reshape(num_scrambles, -1).mean(axis=1)
    error = float(shares.std(ddof=1)) / num_scrambles**0.5
    found = values[exists]
    return Reached(
        share=Estimate(value=float(shares.mean()), standard_error=error),
        quantiles={name: float(one) for name, one in fan(found).items()} if found.size else {},
    )
