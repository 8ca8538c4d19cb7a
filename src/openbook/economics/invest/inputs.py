"""What the model takes in: every input by name, its unit, its bounds and its meaning. No torch.

A scenario gives each as a constant or a distribution. A market input holds for all companies unless a
company gives its own; a company input is given by company. Inputs of a product that a company does not
have are left out and count as their default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from openbook.economics.invest.distributions import Distribution, Kind
from openbook.errors import UserError


class Scope(StrEnum):
    """Who gives an input."""

    MARKET = "market"
    COMPANY = "company"
    SEGMENT = "segment"


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """One input: `low` and `high` are the bounds that every draw has to keep, `default` None is required."""

    name: str
    unit: str
    meaning: str
    scope: Scope = Scope.MARKET
    low: float = 0.0
    high: float = math.inf
    default: float | None = None

    def check(self, given: Distribution, *, where: str) -> None:
        """UserError for another unit, or for values out of bounds."""
        if given.unit != self.unit:
            raise UserError(f"{where}: unit {given.unit!r} where {self.unit!r} is needed", self.meaning)
        lowest, highest = support(given)
        if lowest < self.low or highest > self.high:
            bad = lowest if lowest < self.low else highest
            raise UserError(
                f"{where}: {bad:g} {self.unit} is out of bounds",
                f"it lies between {self.low:g} and {self.high:g}: {self.meaning}",
            )


def support(given: Distribution) -> tuple[float, float]:
    """The least and the greatest value that can be drawn; an endless tail counts to one in a billion."""
    match given.kind:
        case Kind.CONSTANT:
            return given.median, given.median
        case Kind.UNIFORM | Kind.TRIANGULAR | Kind.BETA:
            low, high = given.parameters.get("low", 0.0), given.parameters.get("high", 1.0)
            assert not isinstance(low, tuple) and not isinstance(high, tuple)
            return low, high
        case Kind.DISCRETE:
            values = given.parameters["values"]
            assert isinstance(values, tuple)
            return values[0], values[-1]
        case Kind.NORMAL | Kind.LOGNORMAL:
            return given.quantile(1e-9), given.quantile(1 - 1e-9)


_SHARE = "share"
_YEARLY = "share/year"
_MONEY = "USD billion"

_FINANCE = (
    InputSpec(name="discount_rate", unit=_YEARLY, high=1, meaning="cost of capital after tax"),
    InputSpec(
        name="tax_rate", unit=_SHARE, high=0.9, meaning="tax on profit; a loss saves as much elsewhere"
    ),
    InputSpec(name="lease_rate", unit=_YEARLY, high=1, meaning="interest on finance leases"),
    InputSpec(name="residual_share", unit=_SHARE, high=1, meaning="what used machines fetch over book value"),
)
_FLEET = (
    InputSpec(name="ai_share", unit=_SHARE, high=1, meaning="of the capex, what goes into AI"),
    InputSpec(
        name="capex_growth", unit=_YEARLY, low=-0.99, high=5, meaning="of capex in each later spending year"
    ),
    InputSpec(
        name="maintenance_share",
        unit=_SHARE,
        high=3,
        meaning="capex after the spending years over depreciation of machines in the year before",
    ),
    InputSpec(
        name="usd_billion_per_gigawatt", unit="USD billion/GW", low=1, meaning="data center, all of it"
    ),
    InputSpec(name="device_kilowatts", unit="kW", low=0.01, meaning="a device with its share of the server"),
    InputSpec(name="pue", unit="ratio", low=1, high=5, meaning="power of the facility over the machines'"),
    InputSpec(name="usd_per_kwh", unit="USD/kWh", meaning="electricity"),
    InputSpec(
        name="hardware_gain", unit=_YEARLY, low=-0.5, high=5, meaning="more work for a dollar of machines"
    ),
    InputSpec(
        name="software_gain", unit=_YEARLY, low=-0.5, high=5, meaning="more tokens from an hour of a machine"
    ),
    InputSpec(name="delay_years", unit="years", high=9, meaning="from spending to service: power, delivery"),
    InputSpec(
        name="short_lived_share", unit=_SHARE, low=0.01, high=1, meaning="machines' share of the capex"
    ),
    InputSpec(name="economic_life", unit="years", low=0.5, high=50, meaning="how long machines earn"),
    InputSpec(
        name="book_life", unit="years", low=0.5, high=50, meaning="over which machines are written off"
    ),
    InputSpec(name="building_life", unit="years", low=1, high=100, meaning="over which all else is"),
    InputSpec(
        name="utilisation",
        unit=_SHARE,
        low=0.001,
        high=1,
        meaning="most that machines are busy, night and all",
    ),
    InputSpec(
        name="training_share", unit=_SHARE, high=0.99, meaning="busy hours that train and earn nothing"
    ),
    InputSpec(
        name="opex_share", unit=_YEARLY, high=1, meaning="running cost but energy, of the cost of what runs"
    ),
    InputSpec(
        name="sales_cost_share", unit=_SHARE, high=1, meaning="cost of selling and support, of revenue"
    ),
    InputSpec(
        name="cost_exponent",
        unit="ratio",
        low=1,
        high=2,
        meaning="1: machine hours grow as usage; above: faster",
    ),
    InputSpec(
        name="model_scale", unit="ratio", low=0.001, meaning="work of a sold token over the serving model's"
    ),
)
_DEMAND = (
    InputSpec(name="api_price", unit="USD/M tokens", low=1e-6, meaning="blended, in the first year"),
    InputSpec(name="api_price_change", unit=_YEARLY, low=-0.99, high=1, meaning="by competition"),
    InputSpec(name="price_cut", unit=_SHARE, high=0.999, meaning="one cut of the token price"),
    InputSpec(name="price_cut_year", unit="year", low=1900, high=2200, meaning="when it comes, e.g. 2027.5"),
    InputSpec(name="api_growth", unit=_YEARLY, low=-0.9, high=20, meaning="of tokens at an unchanged price"),
    InputSpec(
        name="api_growth_fade", unit="ratio", high=1, meaning="growth of a year over the year before's"
    ),
    InputSpec(name="seat_price", unit="USD/seat-month", meaning="list price"),
    InputSpec(name="seat_discount", unit=_SHARE, high=1, meaning="off the list price"),
    InputSpec(name="seat_price_change", unit=_YEARLY, low=-0.99, high=1, meaning="by competition"),
    InputSpec(
        name="adoption_ceiling", unit=_SHARE, low=1e-6, high=1, meaning="of addressable seats, at last"
    ),
    InputSpec(name="adoption_speed", unit="1/year", low=-5, high=10, meaning="k of the S-curve"),
    InputSpec(name="seat_tokens", unit="M tokens/seat-month", meaning="what a seat uses"),
    InputSpec(name="ad_growth", unit=_YEARLY, low=-0.9, high=2, meaning="of ad revenue without any uplift"),
    InputSpec(name="ad_uplift", unit=_SHARE, high=2, meaning="of ad revenue by AI, at last"),
    InputSpec(name="ad_speed", unit="1/year", high=10, meaning="how fast the uplift is reached"),
    InputSpec(name="ad_tokens", unit="M tokens/USD", meaning="work for a dollar of uplift, in tokens"),
    InputSpec(name="rent", unit="USD/device-hour", low=0.01, meaning="what cloud customers pay, first year"),
    InputSpec(name="rent_change", unit=_YEARLY, low=-0.9, high=1, meaning="of the rent of the same machine"),
    InputSpec(
        name="backlog_first_year", unit=_SHARE, low=0.05, high=1, meaning="of the backlog, due in a year"
    ),
    InputSpec(
        name="backlog_renewal", unit="ratio", high=5, meaning="of revenue that runs out, what is signed anew"
    ),
    InputSpec(name="default_probability", unit=_SHARE, high=1, meaning="of the largest customer"),
    InputSpec(name="default_draw", unit=_SHARE, high=1, meaning="uniform; below the probability it defaults"),
    InputSpec(name="default_year", unit="year", low=1900, high=2200, meaning="when, if it does"),
    InputSpec(name="loss_given_default", unit=_SHARE, high=1, meaning="of its part; 1 less the recovery"),
)
_SHOCK = (
    InputSpec(
        name="shock_year", unit="year", low=1900, high=2200, meaning="of a rival's efficiency, 2027.07"
    ),
    InputSpec(name="shock_gain", unit="ratio", low=1, meaning="g: tokens from an hour, after over before"),
    InputSpec(name="shock_pass_through", unit="ratio", high=2, meaning="phi: price falls to g^-phi"),
)
_COMPANY = tuple(
    InputSpec(name=name, unit=unit, meaning=meaning, scope=Scope.COMPANY, high=high, default=default)
    for name, unit, high, default, meaning in (
        ("opening_capex", _MONEY, math.inf, 0.0, "capex of the year before the first"),
        ("first_capex", _MONEY, math.inf, None, "capex of the first year, on the company's basis"),
        ("lease_share", _SHARE, 1.0, 0.0, "of that capex, finance leases"),
        ("seats_addressable", "M seats", math.inf, 0.0, "seats that could buy"),
        ("seats_now", "M seats", math.inf, 0.0, "paid seats at the start"),
        ("api_spend", _MONEY, math.inf, 0.0, "sales of tokens in the first year, at its price"),
        ("ad_revenue", _MONEY, math.inf, 0.0, "ad revenue of the first year, without uplift"),
        ("backlog", _MONEY, math.inf, 0.0, "contracted revenue not yet recognised"),
        ("backlog_customer_share", _SHARE, 1.0, 0.0, "of the backlog, the largest customer's"),
        ("backlog_ai_share", _SHARE, 1.0, 0.0, "of the other customers' backlog, what is for AI"),
    )
)
_SEGMENT = (
    InputSpec(name="share", unit=_SHARE, scope=Scope.SEGMENT, high=1, meaning="of tokens at the first price"),
    InputSpec(
        name="elasticity", unit="ratio", scope=Scope.SEGMENT, low=-10, high=0, meaning="dlnQ/dlnP, negative"
    ),
)

MARKET_INPUTS: Mapping[str, InputSpec] = {one.name: one for one in _FINANCE + _FLEET + _DEMAND + _SHOCK}
COMPANY_INPUTS: Mapping[str, InputSpec] = {one.name: one for one in _COMPANY}
SEGMENT_INPUTS: Mapping[str, InputSpec] = {one.name: one for one in _SEGMENT}


def spec_of(name: str) -> InputSpec:
    """The spec of an input by its full name: `rent`, `meta.first_capex`, `segment.enterprise.elasticity`."""
    last = name.rpartition(".")[2]
    for table in (MARKET_INPUTS, COMPANY_INPUTS, SEGMENT_INPUTS):
        if last in table:
            return table[last]
    raise KeyError(name)
