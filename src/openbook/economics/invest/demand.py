"""What customers would buy: seats, tokens, advertising, contracted machines. No torch.

Revenue is in USD billion a year, work in million device-hours. Prices follow competition, one cut and a
rival's efficiency, and never fall below what an hour of an own machine costs in cash, selling included (B41).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openbook.economics.invest.distributions import Floats
from openbook.economics.invest.scenario import Panel
from openbook.economics.invest.shock import in_force

MONTHS = 12
PRODUCTS = ("seats", "ads", "api", "cloud")

Series = tuple[Floats, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """By product and year: revenue and device-hours, as they would be were machines plenty."""

    revenue: Mapping[str, Series]
    hours: Mapping[str, Series]
    seats: Series
    """Paid seats, millions."""
    api_price: Series
    """USD per million tokens."""


def seat_revenue(seats_million: Floats, usd_per_month: Floats, discount: Floats) -> Floats:
    """seats x price x 12 x (1 - discount), in USD billion a year (fact sheet 8.6)."""
    return seats_million * usd_per_month * (MONTHS / 1000) * (1 - discount)


def logistic(ceiling: Floats, now: Floats, growth: Floats) -> Floats:
    """The S-curve that is at `now` when growth = exp(k t) is 1: ceiling x / (1 + x), x = odds now x growth.

    A ceiling at or below `now` leaves adoption at the ceiling: what is above it is given up at once.
    """
    odds = now / np.maximum(ceiling - now, 1e-12) * growth
    return ceiling * odds / (1 + odds)


def backlog_share(first_year: Floats, year: int) -> Floats:
    """Of the backlog, what is recognised in `year`: s (1 - t/n) with n = 2/s - 1, which adds up to 1.

    At s = 25 % it ends after 7 years with a mean life of 2.5 years, both as reported (A42). For an n that is
    no whole number the straight line is cut at 0 and what it adds up to is divided out.
    """
    num_years = 2 / first_year - 1
    whole = np.floor(num_years)
    total = (whole + 1) * (1 - whole / 2 / num_years)
    return np.maximum(1 - year / num_years, 0.0) / total


def project_demand(panel: Panel, hours_per_million: Series, cash_per_hour: Series) -> Demand:
    """Demand of all products and years at their prices. `cash_per_hour` (USD) sets the floor of prices."""
    kept = 1 - np.minimum(panel["sales_cost_share"], 0.99)
    floors = tuple(hours * cash / kept for hours, cash in zip(hours_per_million, cash_per_hour, strict=True))
    seats, seat_money, seat_hours = _seats(panel, hours_per_million, floors)
    api_price, api_money, api_hours = _api(panel, hours_per_million, floors)
    ad_money, ad_hours = _ads(panel, hours_per_million)
    cloud_money, cloud_hours = _cloud(panel)
    exponent = panel["cost_exponent"]
    return Demand(
        revenue={"seats": seat_money, "ads": ad_money, "api": api_money, "cloud": cloud_money},
        hours={
            "seats": _with_exponent(seat_hours, exponent),
            "ads": _with_exponent(ad_hours, exponent),
            "api": _with_exponent(api_hours, exponent),
            "cloud": cloud_hours,  # an hour of a rented machine is an hour
        },
        seats=seats,
        api_price=api_price,
    )


def _with_exponent(hours: Series, exponent: Floats) -> Series:
    """H (H / H of the first year)^(k - 1): cost that grows faster than usage (A40)."""
    if np.all(exponent == 1):
        return hours
    first = np.where(hours[0] > 0, hours[0], 1.0)
    return tuple(year * (year / first) ** (exponent - 1) for year in hours)


def _none(panel: Panel) -> Series:
    return (np.zeros((1, 1)),) * panel.scenario.num_years


def _seats(panel: Panel, hours_per_million: Series, floors: Series) -> tuple[Series, Series, Series]:
    """Seats = addressable x S-curve; price = list (1 - discount)(1 + change)^t, at least their cash cost."""
    addressable = panel["seats_addressable"]
    if not np.any(addressable):
        return _none(panel), _none(panel), _none(panel)
    now = panel["seats_now"] / np.where(addressable > 0, addressable, 1.0)
    ceiling, growth = panel["adoption_ceiling"], np.exp(panel["adoption_speed"])
    tokens, change = panel["seat_tokens"], 1 + panel["seat_price_change"]
    price = panel["seat_price"] * (1 - panel["seat_discount"])
    grown = np.ones((1, 1))
    counts, money, work = [], [], []
    for hours, floor in zip(hours_per_million, floors, strict=True):
        count = addressable * logistic(ceiling, now, grown)
        counts.append(count)
        money.append(seat_revenue(count, np.maximum(price, tokens * floor), np.zeros((1, 1))))
        work.append(count * MONTHS * tokens * hours)
        grown, price = grown * growth, price * change
    return tuple(counts), tuple(money), tuple(work)


def _api(panel: Panel, hours_per_million: Series, floors: Series) -> tuple[Series, Series, Series]:
    """Q = Q0 G_t sum_k share_k (P/P0)^e_k; P = max(floor, P0 (1 + change)^t (1 - cut) g^-phi) (8.6)."""
    spend = panel["api_spend"]
    first = panel["api_price"]
    if not np.any(spend):
        return (first,) * panel.scenario.num_years, _none(panel), _none(panel)
    segments = [(panel.segment(k, "share"), panel.segment(k, "elasticity")) for k in panel.scenario.segments]
    millions = spend * 1e3 / first  # of a million tokens, a year
    change, gain = np.log1p(panel["api_price_change"]), np.log(panel["shock_gain"])
    cut = np.log1p(-panel["price_cut"])
    growth, fade = panel["api_growth"], panel["api_growth_fade"]
    prices, money, work = [], [], []
    grown = np.ones((1, 1))
    for year, (hours, floor) in enumerate(zip(hours_per_million, floors, strict=True)):
        rival = in_force(panel["shock_year"], panel.scenario.first_year + year)
        own = in_force(panel["price_cut_year"], panel.scenario.first_year + year)
        path = np.exp(year * change + own * cut - rival * panel["shock_pass_through"] * gain)
        price = np.maximum(first * path, floor)
        fallen = np.log(price / first)
        response = sum(share * np.exp(elasticity * fallen) for share, elasticity in segments)
        volume = millions * grown * response
        prices.append(price)
        money.append(volume * price / 1e3)
        work.append(volume * hours)
        grown, growth = grown * (1 + growth), growth * fade
    return tuple(prices), tuple(money), tuple(work)


def _ads(panel: Panel, hours_per_million: Series) -> tuple[Series, Series]:
    """Uplift revenue = ad revenue (1 + growth)^t x uplift x (1 - exp(-speed (t + 1))) (A39: 5 % at most)."""
    base = panel["ad_revenue"]
    if not np.any(base):
        return _none(panel), _none(panel)
    growth, missing = 1 + panel["ad_growth"], np.exp(-panel["ad_speed"])
    tokens, lifted = panel["ad_tokens"], base * panel["ad_uplift"]
    money, work = [], []
    away = missing
    for hours in hours_per_million:
        earned = lifted * (1 - away)
        money.append(earned)
        work.append(earned * 1e3 * tokens * hours)
        lifted, away = lifted * growth, away * missing
    return tuple(money), tuple(work)


def _cloud(panel: Panel) -> tuple[Series, Series]:
    """Backlog as it falls due, renewals, and the default of one customer (8.6).

    Recognised = B [share_t + renewal (share_0 - share_t)] for each of two parts, the largest customer's and
    the others' AI part; after a default the first is worth 1 - LGD of that. Contracts are served at the first
    year's rent, renewals at the rent of their year.
    """
    backlog = panel["backlog"]
    if not np.any(backlog):
        return _none(panel), _none(panel)
    customer = backlog * panel["backlog_customer_share"]
    others = (backlog - customer) * panel["backlog_ai_share"]
    defaults = panel["default_draw"] < panel["default_probability"]
    loss = np.where(defaults, panel["loss_given_default"], 0.0)
    rent, change = panel["rent"], 1 + panel["rent_change"]
    first, renewal = panel["backlog_first_year"], panel["backlog_renewal"]
    start = backlog_share(first, 0)
    money, work = [], []
    for year in range(panel.scenario.num_years):
        gone = in_force(panel["default_year"], panel.scenario.first_year + year)
        alive = customer * (1 - gone * loss) + others
        due = backlog_share(first, year)
        contracted, renewed = alive * due, alive * renewal * (start - due)
        money.append(contracted + renewed)
        work.append((contracted + renewed / change**year) / rent * 1e3)
    return tuple(money), tuple(work)
