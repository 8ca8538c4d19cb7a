"""How figures and inputs are said in plain words, the same in a terminal and on a page. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from openbook.economics.invest.inputs import spec_of
from openbook.economics.invest.scenario import Scenario
from openbook.economics.invest.statistics import Estimate, Summary

NONE = "none"
SPAN = "nine in ten"
"""What a sentence calls the paths between q05 and q95."""


def billions(value: float) -> str:
    """`$505B`, `-$1.2T`, `$4.5B`, `$450M`; `none` for what does not exist."""
    if not math.isfinite(value):
        return NONE
    sign, size = "-" if value < 0 else "", abs(value)
    for factor, unit in ((1e-3, "T"), (1.0, "B"), (1e3, "M")):
        shown = size * factor
        if shown >= 0.9995 or unit == "M":
            digits = 0 if shown >= 99.5 or shown == 0 else 1 if unit == "B" or shown >= 9.95 else 2
            return f"{sign}${shown:,.{digits}f}{unit}"
    raise AssertionError("unreachable")


def percent(share: float) -> str:
    """`63 %`, `0.4 %`, `99.6 %`; `none` for what does not exist."""
    if not math.isfinite(share):
        return NONE
    value = 100 * share
    near_an_end = 0.05 <= abs(value) < 1 or 99 < abs(value) <= 99.95
    value += 0.0 if abs(value) >= 0.05 else -value  # no minus before nothing
    return f"{value:.1f} %" if near_an_end else f"{value:.0f} %"


def finer_percent(share: float) -> str:
    """`10.2 %`: for rates, where a tenth of a point counts."""
    return f"{100 * share:.3g} %" if math.isfinite(share) else NONE


def times(ratio: float) -> str:
    return f"{ratio:.2f} times" if math.isfinite(ratio) else NONE


def years(value: float) -> str:
    return f"{value:.1f} years" if math.isfinite(value) else NONE


def with_error(one: Estimate, *, share: bool = False) -> str:
    """`-$12B +- $0.4B` or `63 % +- 0.3`: a figure and its Monte Carlo standard error."""
    if not math.isfinite(one.value):
        return NONE
    if share:
        return f"{percent(one.value)} +- {100 * one.standard_error:.1f}"
    return f"{billions(one.value)} +- {billions(one.standard_error).lstrip('-')}"


def span(summary: Summary) -> str:
    """`-$300B to $120B`: from q05 to q95."""
    return f"{billions(summary.quantiles['q05'].value)} to {billions(summary.quantiles['q95'].value)}"


def input_title(scenario: Scenario, name: str) -> str:
    """`capex of the first year, Meta` for `meta.first_capex`; `price elasticity, developers`."""
    owner, _, last = name.rpartition(".")
    titles: Mapping[str, str] = {company.key: company.title for company in scenario.companies}
    owner = owner.removeprefix("segment.")
    title = TITLES[last]
    return f"{title}, {titles.get(owner, owner.replace('_', ' '))}" if owner else title


def input_value(name: str, value: float) -> str:
    """A value of an input in its unit: `45 %`, `$0.40/M tokens`, `5 years`, `1.1`."""
    unit = spec_of(name).unit
    if unit in ("share", "share/year"):
        return finer_percent(value) + (" a year" if unit == "share/year" else "")
    if unit == "USD billion":
        return billions(value)
    if unit == "year":
        return f"{value:.1f}"
    if unit == "ratio":
        return f"{value:.3g}"
    if unit.startswith("USD billion/"):
        return f"${value:.3g}B/{unit.partition('/')[2]}"
    if unit.startswith("USD/"):
        return f"${value:.3g}/{unit.partition('/')[2]}"
    return f"{value:.3g} {unit}"


TITLES: Mapping[str, str] = {
    "discount_rate": "cost of capital",
    "tax_rate": "tax rate",
    "lease_rate": "interest on leases",
    "residual_share": "resale over book value",
    "ai_share": "AI's part of capex",
    "capex_growth": "growth of capex",
    "maintenance_share": "upkeep after the spending years",
    "usd_billion_per_gigawatt": "cost of a gigawatt",
    "device_kilowatts": "power of a device",
    "pue": "power usage effectiveness",
    "usd_per_kwh": "electricity",
    "hardware_gain": "gain of new machines",
    "software_gain": "gain by software",
    "delay_years": "delay of power and delivery",
    "short_lived_share": "machines' part of capex",
    "economic_life": "years that machines earn",
    "book_life": "book life of machines",
    "building_life": "book life of buildings",
    "utilisation": "busy share at most",
    "training_share": "training's part of busy hours",
    "opex_share": "running cost",
    "sales_cost_share": "cost of selling",
    "cost_exponent": "hours over usage, exponent",
    "model_scale": "size of the sold models",
    "api_price": "price of tokens",
    "api_price_change": "change of the token price",
    "price_cut": "price cut",
    "price_cut_year": "when prices are cut",
    "api_growth": "growth of tokens",
    "api_growth_fade": "how long tokens' growth lasts",
    "seat_price": "price of a seat",
    "seat_discount": "discount on seats",
    "seat_price_change": "change of the seat price",
    "adoption_ceiling": "seats adopted in the end",
    "adoption_speed": "speed of adoption",
    "seat_tokens": "tokens of a seat",
    "ad_growth": "growth of advertising",
    "ad_uplift": "uplift of advertising by AI",
    "ad_speed": "speed of that uplift",
    "ad_tokens": "tokens for a dollar of uplift",
    "rent": "rent of a machine",
    "rent_change": "change of rents",
    "backlog_first_year": "backlog due in a year",
    "backlog_renewal": "contracts signed anew",
    "default_probability": "default of the largest customer",
    "default_draw": "whether it defaults",
    "default_year": "when it defaults",
    "loss_given_default": "loss if it defaults",
    "shock_year": "when a rival's efficiency comes",
    "shock_gain": "gain of a rival's efficiency",
    "shock_pass_through": "what prices make of that gain",
    "opening_capex": "capex of the year before",
    "first_capex": "capex of the first year",
    "lease_share": "leases' part of capex",
    "seats_addressable": "seats that could buy",
    "seats_now": "seats today",
    "api_spend": "sales of tokens today",
    "ad_revenue": "advertising today",
    "backlog": "backlog",
    "backlog_customer_share": "largest customer's part of it",
    "backlog_ai_share": "AI's part of the others' backlog",
    "share": "share of tokens",
    "elasticity": "price elasticity",
}
"""What each input is called in a table or chart; its meaning in full stands in `inputs`."""
