"""Five people with five decisions: investor, enterprise buyer, startup, supplier, worker. No torch.

Each is a case with its own figures and an answer that follows from it; equations are those of fact sheet 8.4
to 8.6 unless a docstring says otherwise. None of the answers is a forecast: each says what would have to be
true, or what follows from what its owner believes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from openbook.economics.capital import capital_recovery_factor
from openbook.economics.invest.distributions import Floats
from openbook.economics.invest.serving import ServingChoice
from openbook.economics.serving.unit_cost import HOURS_PER_MONTH, UnitCost, unit_cost
from openbook.errors import UserError

MINUTES_PER_HOUR = 60
MONTHS = 12
WORKING_HOURS_PER_MONTH = 160
"""Of one full-time worker; ours."""


# Investor: what must be true for today's spending to earn its cost of capital.


def required_gross_profit(capex: float, rate: float, life_years: float) -> float:
    """What the capex has to earn each year of its life, before depreciation: capex x CRF."""
    return capex * capital_recovery_factor(rate, life_years)


def required_seats(
    *, capex: float, rate: float, life_years: float, gross_margin: float, usd_per_month: float
) -> float:
    """Million seats that earn `capex` (USD billion) back: capex x CRF / (12 x price x gross margin)."""
    if gross_margin <= 0 or usd_per_month <= 0:
        raise UserError(
            f"a margin of {gross_margin:g} and a price of {usd_per_month:g} earn nothing back",
            "both have to be above 0",
        )
    return required_gross_profit(capex, rate, life_years) * 1e3 / (MONTHS * usd_per_month * gross_margin)


# Enterprise buyer: adopt now, wait, or build on an open model.


def break_even_minutes(usd_per_month: float, usd_per_hour: float, adoption: float = 1.0) -> float:
    """Minutes a month that a user has to save for the seats to pay: 60 x price / (wage x adoption)."""
    if usd_per_hour <= 0 or not 0 < adoption <= 1:
        raise UserError(
            f"a loaded wage of {usd_per_hour:g} USD/h at an adoption of {adoption:g}",
            "the wage is above 0, the adoption above 0 and up to 1",
        )
    return MINUTES_PER_HOUR * usd_per_month / (usd_per_hour * adoption)


@dataclass(frozen=True, kw_only=True, slots=True)
class BuyerCase:
    """A firm that may buy seats. Money in USD; `price_change` is what a year of waiting does to the price.

    `build_usd_per_year` and `build_usd_per_seat_month` are staff and machines of an own service on an open
    model, whose users save `build_quality` times the minutes.
    """

    num_seats: float = 1000
    usd_per_month: float = 30.0
    usd_per_hour: float = 60.0
    adoption: float = 0.5
    switching_usd_per_seat: float = 200.0
    num_years: int = 5
    rate: float = 0.10
    price_change: float = -0.1
    build_usd_per_year: float = 500_000.0
    build_usd_per_seat_month: float = 2.0
    build_quality: float = 0.8

    def __post_init__(self) -> None:
        if self.num_years < 2:
            raise UserError(f"a horizon of {self.num_years} years", "give 2 or more: waiting takes one")
        break_even_minutes(self.usd_per_month, self.usd_per_hour, self.adoption)


@dataclass(frozen=True, kw_only=True, slots=True)
class BuyerAnswer:
    """Expected present values of each choice, and what waiting is worth over the best choice of today.

    `value_of_waiting` is negative where today's choice is better. `best` is the choice with most.
    """

    adopt_now: float
    wait: float
    build: float
    value_of_waiting: float
    break_even_minutes: float
    probability_pays: float
    best: str


def buyer(case: BuyerCase, minutes: Floats) -> BuyerAnswer:
    """`minutes`: what a user saves a month, one value a path: what the buyer believes and cannot know yet.

    Adopting shows it within a year, and whoever loses then stops. Waiting a year shows it as well, by others'
    experience: then only who gains adopts, at the later price, for one year less (a real option to wait, by
    plain expectation over paths). Flows fall at the start of each year.
    """
    years = np.arange(case.num_years)
    discount = (1 + case.rate) ** -years
    saved = case.num_seats * MONTHS * case.adoption * case.usd_per_hour / MINUTES_PER_HOUR * minutes
    seats = case.num_seats * MONTHS
    now = saved - seats * case.usd_per_month
    later = saved - seats * case.usd_per_month * (1 + case.price_change)
    own = case.build_quality * saved - seats * case.build_usd_per_seat_month - case.build_usd_per_year
    switching = case.num_seats * case.switching_usd_per_seat
    rest = float(discount[1:].sum())
    adopt = float(np.mean(-switching + now + np.maximum(now, 0) * rest))
    wait = float(np.mean(np.maximum(later * rest - switching * discount[1], 0)))
    build = float(np.mean(-switching + own + np.maximum(own, 0) * rest))
    choices = {"adopt now": adopt, "wait": wait, "build": build}
    return BuyerAnswer(
        adopt_now=adopt,
        wait=wait,
        build=build,
        value_of_waiting=wait - max(adopt, build, 0.0),
        break_even_minutes=break_even_minutes(case.usd_per_month, case.usd_per_hour, case.adoption),
        probability_pays=float(np.mean(now > 0)),
        best=max(choices, key=lambda name: choices[name]),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnServer:
    """An own server of the smallest units that serve the model, against an API at `api_usd_per_million`.

    `break_even_million_per_month` is the use at which both cost the same; None where even a server that is
    busy all the time is dearer.
    """

    num_devices: int
    usd_per_month: float
    usd_per_million: float
    capacity_million_per_month: float
    api_usd_per_million: float
    break_even_million_per_month: float | None


def own_server(
    choice: ServingChoice, *, usd_per_device_hour: float, utilisation: float, api_usd_per_million: float
) -> OwnServer:
    """Own server against API, both by `economics.serving`: break-even = USD a month / API price."""
    cost: UnitCost = unit_cost(choice.case(usd_per_device_hour=usd_per_device_hour, utilisation=utilisation))
    hours_per_million = choice.device_hours_per_million
    num_devices = cost.layout.prefill.num_devices + cost.layout.decode.num_devices
    usd_per_month = num_devices * usd_per_device_hour * HOURS_PER_MONTH
    capacity = num_devices * HOURS_PER_MONTH * utilisation / hours_per_million
    wanted = usd_per_month / api_usd_per_million if api_usd_per_million > 0 else math.inf
    return OwnServer(
        num_devices=num_devices,
        usd_per_month=usd_per_month,
        usd_per_million=cost.blended_usd,
        capacity_million_per_month=capacity,
        api_usd_per_million=api_usd_per_million,
        break_even_million_per_month=wanted if wanted <= capacity else None,
    )


# Startup: how long the money lasts, and what a price war does.


@dataclass(frozen=True, kw_only=True, slots=True)
class StartupCase:
    """A firm that sells on top of an API. Money in USD, per month where a name says so."""

    cash_usd: float = 5e6
    fixed_usd_per_month: float = 250_000.0
    num_users: float = 5_000
    usd_per_user_month: float = 20.0
    million_tokens_per_user_month: float = 3.0
    usd_per_million_tokens: float = 2.65
    acquisition_usd_per_user: float = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StartupAnswer:
    """`runway_months` is None where nothing is burnt; `payback_months` where a user brings nothing."""

    contribution_usd_per_user_month: float
    runway_months: float | None
    payback_months: float | None
    break_even_users: float | None


def startup(case: StartupCase, *, price_cut: float = 0.0, token_price_cut: float = 0.0) -> StartupAnswer:
    """Contribution = price - tokens x cost; runway = cash / net burn; payback = CAC / contribution.

    In a price war rivals force `price_cut` on its own price while `token_price_cut` makes its tokens cheaper.
    """
    for name, cut in (("price_cut", price_cut), ("token_price_cut", token_price_cut)):
        if not 0 <= cut <= 1:
            raise UserError(f"{name} {cut:g} is no share", "give one between 0 and 1")
    cost = case.million_tokens_per_user_month * case.usd_per_million_tokens * (1 - token_price_cut)
    contribution = case.usd_per_user_month * (1 - price_cut) - cost
    burn = case.fixed_usd_per_month - contribution * case.num_users
    earns = contribution > 0
    return StartupAnswer(
        contribution_usd_per_user_month=contribution,
        runway_months=case.cash_usd / burn if burn > 0 else None,
        payback_months=case.acquisition_usd_per_user / contribution if earns else None,
        break_even_users=case.fixed_usd_per_month / contribution if earns else None,
    )


# Supplier: what a day of -16.9 % says about expected spend on accelerators, and what would produce it.


def implied_spend_ratio(day_return: float, *, spend_share: float = 1.0, leverage: float = 1.0) -> float:
    """Expected spend after over before, if the day was about nothing else.

    Value falls by spend share x leverage x fall of spend: `spend_share` of the value rests on accelerators,
    and profit moves `leverage` times as much as sales. Ours; with both 1 spend falls as the share did.
    """
    ratio = 1 + day_return / (spend_share * leverage)
    if ratio <= 0:
        raise UserError(
            f"a day of {day_return:.1%} over a share of {spend_share:g} and a leverage of {leverage:g}",
            "that is more than all spend",
        )
    return ratio


def gain_for(spend_ratio: float, *, pass_through: float, elasticity: float) -> float | None:
    """The efficiency gain g with g^(|e| phi - 1) = ratio; None where spend would move the other way."""
    exponent = -elasticity * pass_through - 1
    if exponent == 0 or math.log(spend_ratio) / exponent < 0:
        return None
    return float(math.exp(math.log(spend_ratio) / exponent))


def pass_through_for(spend_ratio: float, *, gain: float, elasticity: float) -> float | None:
    """The phi with g^(|e| phi - 1) = ratio; None where none from 0 up does it."""
    if gain <= 1 or elasticity >= 0:
        return None
    found = (1 + math.log(spend_ratio) / math.log(gain)) / -elasticity
    return found if found >= 0 else None


def elasticity_for(spend_ratio: float, *, gain: float, pass_through: float) -> float | None:
    """The elasticity (negative) with g^(|e| phi - 1) = ratio; None where none of size 0 or more does it."""
    if gain <= 1 or pass_through <= 0:
        return None
    size = (1 + math.log(spend_ratio) / math.log(gain)) / pass_through
    return -size if size >= 0 else None


# Worker: the part of the articles that can be counted.


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerAnswer:
    """What seats have to save to pay for themselves, as time. It says nothing about who keeps that time."""

    seats_per_hundred_workers: float
    minutes_per_month: float
    share_of_working_time: float
    full_time_workers: float
    """As many as the minutes of all seats add up to."""


def worker(
    *, seats_million: float, workers_million: float, usd_per_month: float, usd_per_hour: float
) -> WorkerAnswer:
    """Seats a hundred workers have (A33, A34), and the hours that all seats have to save at break-even."""
    minutes = break_even_minutes(usd_per_month, usd_per_hour)
    share = minutes / MINUTES_PER_HOUR / WORKING_HOURS_PER_MONTH
    return WorkerAnswer(
        seats_per_hundred_workers=100 * seats_million / workers_million,
        minutes_per_month=minutes,
        share_of_working_time=share,
        full_time_workers=seats_million * 1e6 * share,
    )
