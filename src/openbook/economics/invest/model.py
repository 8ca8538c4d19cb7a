"""The investment model: a scenario and draws in, statements and values by company, year and path. No torch.

    outcome = simulate(scenario, draws)         draws: for each uncertain input an array of paths
    outcome.npv                                 [company, path], USD billion

docs/concepts/investment-model.md explains the equations in plain words. Each is documented where it stands:
capacity.py, demand.py, serving.py, shock.py, accounts.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openbook.economics.invest.accounts import Accounts, Sales, keep_accounts
from openbook.economics.invest.capacity import TINY, Fleet, build_fleet, usd_per_device
from openbook.economics.invest.demand import PRODUCTS, Demand, Series, project_demand
from openbook.economics.invest.distributions import Floats
from openbook.economics.invest.scenario import Panel, Scenario
from openbook.economics.invest.serving import cash_usd_per_hour, levelised_usd_per_hour
from openbook.economics.invest.shock import in_force


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a scenario. Companies and years are in the scenario's order; money is in USD billion.

    Properties of years are [company, year, path], others [company, path]; each is put together when asked
    for, so that a run over millions of paths holds in memory only what it reduces.
    """

    scenario: Scenario
    num_paths: int
    fleet: Fleet
    demand: Demand
    sales: Sales
    accounts: Accounts
    fill: Mapping[str, Series]
    """By product, the share of each year's demand that was served."""
    npv: Floats
    """-opening book value + sum FCF_t / (1 + r)^t + terminal / (1 + r)^years, t = 0 first."""
    terminal: Floats
    pv_contribution: Floats
    """Present value of what grows with sales, after tax."""
    pv_net_revenue: Floats
    """Present value of revenue less cost of selling, after tax: what a change of all prices changes."""
    unit_cost: Floats
    """First year, all of it, USD per million tokens: capital, running cost and energy at the utilisation."""

    @property
    def revenue(self) -> Floats:
        return self._years(self.sales.revenue)

    @property
    def capex(self) -> Floats:
        """Into AI, on each company's basis."""
        return self._years(self.fleet.capex)

    @property
    def depreciation(self) -> Floats:
        return self._years(self.accounts.depreciation)

    @property
    def write_down(self) -> Floats:
        return self._years(self.accounts.write_down)

    @property
    def gross_profit(self) -> Floats:
        return self._years(self.accounts.gross_profit)

    @property
    def operating_income(self) -> Floats:
        return self._years(self.accounts.operating_income)

    @property
    def net_income(self) -> Floats:
        return self._years(self.accounts.net_income)

    @property
    def free_cash_flow(self) -> Floats:
        return self._years(self.accounts.free_cash_flow)

    @property
    def capacity_hours(self) -> Floats:
        """For sale, in million device-hours."""
        return self._years(self.fleet.hours)

    @property
    def demand_hours(self) -> Floats:
        return sum((self._years(hours) for hours in self.demand.hours.values()), start=np.zeros(()))

    @property
    def served_hours(self) -> Floats:
        """Device-hours that brought revenue, millions."""
        return self._years(self.sales.served)

    @property
    def gross_margin(self) -> Floats:
        """NaN in a year without revenue."""
        revenue = self.revenue
        return np.where(revenue > 0, self.gross_profit / np.where(revenue > 0, revenue, 1.0), np.nan)

    @property
    def operating_margin(self) -> Floats:
        """NaN in a year without revenue."""
        revenue = self.revenue
        return np.where(revenue > 0, self.operating_income / np.where(revenue > 0, revenue, 1.0), np.nan)

    @property
    def flows(self) -> Floats:
        """[company, year + 1, path]: what NPV and rates of return are of, opening and terminal value in."""
        flows = self._years((*self.accounts.free_cash_flow, self.terminal))
        flows[:, 0] -= self.fleet.opening_book
        return flows

    @property
    def required_revenue_ratio(self) -> Floats:
        """By what all prices would have to be multiplied, at unchanged volumes, for an NPV of 0."""
        return 1 - self.npv / np.where(self.pv_net_revenue > 0, self.pv_net_revenue, np.nan)

    @property
    def break_even_utilisation(self) -> Floats:
        """u* = mean busy share x (1 - NPV / PV of contribution), the linear model of 8.4.

        Above 1 no utilisation is enough; NaN where sales bring nothing or nothing is ever in service.
        """
        power = sum(self.fleet.gigawatts)
        mean = sum(
            p * busy for p, busy in zip(self.fleet.gigawatts, self.sales.busy, strict=True)
        ) / np.where(power > 0, power, np.nan)
        return mean * (1 - self.npv / np.where(self.pv_contribution > 0, self.pv_contribution, np.nan))

    def product_revenue(self, product: str) -> Floats:
        """Captured revenue of `seats`, `api`, `ads` or `cloud`."""
        pairs = zip(self.demand.revenue[product], self.fill[product], strict=True)
        return self._years(tuple(money * fill for money, fill in pairs))

    def _years(self, series: Series) -> Floats:
        out = np.empty((len(self.scenario.companies), len(series), self.num_paths))
        for year, values in enumerate(series):
            out[:, year] = values
        return out


def simulate(scenario: Scenario, draws: Mapping[str, Floats]) -> Outcome:
    """The outcome on every path of `draws`; of constants no draws are needed.

    Best fed some thousands of paths at a time: the arrays of a year then stay in the cache.
    """
    panel = scenario.panel(draws)
    fleet = build_fleet(panel)
    work, cash_per_hour = hours_per_million(panel), cash_by_year(panel, fleet)
    demand = project_demand(panel, work, cash_per_hour)
    fill, sales = sell(panel, fleet, demand)
    accounts = keep_accounts(panel, fleet, sales)
    shape = (len(scenario.companies), panel.num_paths)
    values = _values(panel, fleet, sales, accounts)
    capital = levelised_usd_per_hour(
        usd_per_device=usd_per_device(panel),
        rate=panel["discount_rate"],
        life=panel["economic_life"],
        utilisation=panel["utilisation"],
    )
    return Outcome(
        scenario=scenario,
        num_paths=panel.num_paths,
        fleet=fleet,
        demand=demand,
        sales=sales,
        accounts=accounts,
        fill=fill,
        unit_cost=np.broadcast_to(work[0] * (capital + cash_per_hour[0]), shape),
        **{name: np.broadcast_to(value, shape) for name, value in values.items()},
    )


def hours_per_million(panel: Panel) -> Series:
    """Device-hours for a million tokens by year: H0 x scale / ((1 + software gain)^t g^share-in-force)."""
    scenario = panel.scenario
    hours = panel["model_scale"] * scenario.serving.device_hours_per_million
    gain, log_gain = 1 + panel["software_gain"], np.log(panel["shock_gain"])
    found = []
    for year in scenario.years:
        found.append(hours * np.exp(-in_force(panel["shock_year"], year) * log_gain))
        hours = hours / gain
    return tuple(found)


def cash_by_year(panel: Panel, fleet: Fleet) -> Series:
    """Cash cost of a busy hour, USD, of the fleet as it stands each year: newer machines do more for a kW.

    0 in a year in which none is in service, and nothing is sold.
    """
    usd_per_kilowatt = panel["usd_billion_per_gigawatt"] * 1e3
    running, utilisation = panel["opex_share"], panel["utilisation"]
    usd_per_kwh = panel["usd_per_kwh"]
    found = []
    for power, devices in zip(fleet.gigawatts, fleet.devices, strict=True):
        kilowatts = power / (devices + TINY)
        found.append(
            cash_usd_per_hour(
                usd_per_device=usd_per_kilowatt * kilowatts,
                opex_share=running,
                utilisation=utilisation,
                kilowatts=kilowatts,
                usd_per_kwh=usd_per_kwh,
            )
        )
    return tuple(found)


def sell(panel: Panel, fleet: Fleet, demand: Demand) -> tuple[Mapping[str, Series], Sales]:
    """Captured revenue is the lesser of demand and capacity.

    Where machines are short a company's own products get them first (A15: with all new devices in the cloud
    it would have grown faster), then, of contracts and tokens by the piece, whichever pays more for an hour.
    busy = utilisation x (training + (1 - training) x hours served / capacity).
    """
    utilisation, training = panel["utilisation"], panel["training_share"]
    fill: dict[str, list[Floats]] = {product: [] for product in PRODUCTS}
    revenue, served, busy = [], [], []
    for year, capacity in enumerate(fleet.hours):
        given, left = _share_out(demand, year, capacity)
        money = np.zeros((1, 1))
        for product, hours in given.items():
            share = hours / (demand.hours[product][year] + TINY)
            money = money + share * demand.revenue[product][year]
            fill[product].append(share)
        sold = capacity - left
        revenue.append(money)
        served.append(sold)
        used = sold / (capacity + TINY)
        busy.append(utilisation * (training + (1 - training) * used))
    shares = {product: tuple(years) for product, years in fill.items()}
    return shares, Sales(revenue=tuple(revenue), served=tuple(served), busy=tuple(busy))


def _share_out(demand: Demand, year: int, left: Floats) -> tuple[Mapping[str, Floats], Floats]:
    """Hours that each product gets of `left`, and what then is left."""
    given = {}
    for product in ("seats", "ads"):
        given[product] = np.minimum(demand.hours[product][year] + TINY, left)
        left = left - given[product]
    tokens, contracts = demand.hours["api"][year] + TINY, demand.hours["cloud"][year] + TINY
    pays_more = demand.revenue["api"][year] * contracts >= demand.revenue["cloud"][year] * tokens
    given["api"] = np.minimum(tokens, np.where(pays_more, left, left - np.minimum(contracts, left)))
    left = left - given["api"]
    given["cloud"] = np.minimum(contracts, left)
    return given, left - given["cloud"]


def _values(panel: Panel, fleet: Fleet, sales: Sales, accounts: Accounts) -> dict[str, Floats]:
    """Present values. Terminal value: what is left fetches `residual_share` of book, the loss saves tax, and
    leases are paid off."""
    tax, residual = panel["tax_rate"], panel["residual_share"]
    discount = 1 / (1 + panel["discount_rate"])
    left = fleet.book[-1]
    terminal = left * (residual + tax * (1 - residual)) - accounts.lease_balance
    kept = (1 - tax) * (1 - panel["sales_cost_share"])
    npv, contribution, net = terminal, np.zeros((1, 1)), np.zeros((1, 1))
    for year in range(panel.scenario.num_years - 1, -1, -1):  # Horner: no powers
        npv = npv * discount + accounts.free_cash_flow[year]
        contribution = accounts.contribution[year] + discount * contribution
        net = sales.revenue[year] + discount * net
    return {
        "npv": npv - fleet.opening_book,
        "terminal": terminal,
        "pv_contribution": contribution,
        "pv_net_revenue": kept * net,
    }
