"""What a scenario says to those who decide: five people, each with a question, an answer and its figures.

decisions(scenario)     investor, buyer, startup, supplier, worker

The sums are those of `stakeholders`; here they get the scenario's prices, and beliefs that the scenario does
not hold (how many minutes a seat saves, how large a startup is) are marked as ours in `assumes`. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openbook.economics.invest import stakeholders, words
from openbook.economics.invest.distributions import Floats
from openbook.economics.invest.scenario import Scenario
from openbook.economics.invest.shock import jevons

LIVES_YEARS = (3, 4, 5, 6)
DAY_RETURN = -0.169
"""Of Nvidia on 27 January 2025 (fact sheet, B21)."""
SHOCK_GAIN, SHOCK_PASS_THROUGH, SHOCK_MARGIN = 100 / 6, 0.8, 0.5
"""The article's 100 over 6 (A41), the most a gain could be; pass-through and gross margin are ours."""
MINUTES_MEDIAN, MINUTES_LOG_SD = 60.0, 0.8
ELASTICITY = -1.1
"""Where a scenario sells no tokens and so holds none (7.4)."""
HALF_YEAR_CAPEX, HALF_YEAR_MARGIN, HALF_YEAR_LIFE = 72.4, 0.68, 6
"""Microsoft's, fact sheet 8.6."""
NUM_BELIEFS = 1024

Figures = Mapping[str, float | str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """`answer` in a sentence or two; `details` in one each; `assumes` names what is ours."""

    who: str
    question: str
    answer: str
    details: tuple[str, ...]
    assumes: str
    figures: Figures


def decisions(scenario: Scenario) -> tuple[Decision, ...]:
    """All five, at the medians of the scenario's inputs."""
    return (
        _investor(scenario),
        _buyer(scenario),
        _startup(scenario),
        _supplier(scenario),
        _worker(scenario),
    )


def median_of(scenario: Scenario, name: str, default: float) -> float:
    """The median of a market input; for one given by company, the mean of theirs."""
    if name in scenario.inputs:
        return scenario.inputs[name].median
    own = [
        scenario.inputs[f"{company.key}.{name}"].median
        for company in scenario.companies
        if f"{company.key}.{name}" in scenario.inputs
    ]
    return sum(own) / len(own) if own else default


def elasticity_of(scenario: Scenario) -> float:
    """That of the segments, each by its share of tokens."""
    if not scenario.segments:
        return ELASTICITY
    return sum(
        scenario.inputs[f"segment.{key}.share"].median * scenario.inputs[f"segment.{key}.elasticity"].median
        for key in scenario.segments
    )


def _investor(scenario: Scenario) -> Decision:
    rate = median_of(scenario, "discount_rate", 0.1)
    capex = sum(scenario.inputs[f"{one.key}.first_capex"].median for one in scenario.companies)
    needed = {life: stakeholders.required_gross_profit(capex, rate, life) for life in LIVES_YEARS}
    seats = stakeholders.required_seats(
        capex=HALF_YEAR_CAPEX,
        rate=rate,
        life_years=HALF_YEAR_LIFE,
        gross_margin=HALF_YEAR_MARGIN,
        usd_per_month=median_of(scenario, "seat_price", 30.0),
    )
    by_life = ", ".join(f"{words.billions(value)} if {life}" for life, value in needed.items())
    return Decision(
        who="Investor",
        question="What must today's spending earn?",
        answer=f"{words.billions(capex)} of capex in {scenario.first_year} has to earn "
        f"{words.billions(needed[5])} before depreciation in each of 5 years to return "
        f"{words.finer_percent(rate)}.",
        details=(
            f"By years of life: {by_life}.",
            f"Seats alone: the {words.billions(HALF_YEAR_CAPEX)} of Microsoft's half-year need {seats:.1f}M "
            f"seats for {HALF_YEAR_LIFE} years at {words.percent(HALF_YEAR_MARGIN)} gross margin; there are "
            "15M, and the article hopes for 50M.",
        ),
        assumes="",
        figures={
            **{f"gross_profit_usd_billion_a_year_over_{life}_years": one for life, one in needed.items()},
            "seats_million_for_72_4_usd_billion": seats,
        },
    )


def _buyer(scenario: Scenario) -> Decision:
    price = median_of(scenario, "seat_price", 30.0)
    case = stakeholders.BuyerCase(
        usd_per_month=price, price_change=median_of(scenario, "seat_price_change", -0.1)
    )
    found = stakeholders.buyer(case, beliefs())
    server = stakeholders.own_server(
        scenario.serving,
        usd_per_device_hour=median_of(scenario, "rent", 3.0),
        utilisation=median_of(scenario, "utilisation", 0.5),
        api_usd_per_million=median_of(scenario, "api_price", 2.65),
    )
    needed = server.break_even_million_per_month
    against = (
        f"pays from {needed:,.0f}M tokens a month"
        if needed is not None
        else "never pays: even busy at the assumed share it costs more"
    )
    waiting = f"is worth {_usd(found.value_of_waiting)} more than the best choice of today"
    if found.value_of_waiting <= 0:
        waiting = f"costs {_usd(-found.value_of_waiting)} against the best choice of today"
    return Decision(
        who="Enterprise buyer",
        question="Adopt now, wait, or build on an open model?",
        answer=f"A seat at ${price:g} pays from {found.break_even_minutes:.0f} minutes saved a month; of "
        f"the three choices {found.best!r} is worth most, and waiting a year {waiting}.",
        details=(
            f"For {case.num_seats:,.0f} seats over {case.num_years} years: adopt now "
            f"{_usd(found.adopt_now)}, wait {_usd(found.wait)}, build {_usd(found.build)}; seats pay in "
            f"{words.percent(found.probability_pays)} of cases.",
            f"An own server of {server.num_devices} devices {against}, at ${server.usd_per_million:.2f} "
            f"against ${server.api_usd_per_million:.2f} a million tokens.",
        ),
        assumes=f"minutes saved a month: median {MINUTES_MEDIAN:.0f}, log sd {MINUTES_LOG_SD}; "
        f"a loaded wage of ${case.usd_per_hour:g}, {words.percent(case.adoption)} of seats used, "
        f"switching ${case.switching_usd_per_seat:g} a seat",
        figures={
            "break_even_minutes_a_month": found.break_even_minutes,
            "adopt_now_usd": found.adopt_now,
            "wait_usd": found.wait,
            "build_usd": found.build,
            "value_of_waiting_usd": found.value_of_waiting,
            "best": found.best,
            "own_server_usd_per_million": server.usd_per_million,
            "own_server_break_even_million_a_month": needed,
        },
    )


def beliefs() -> Floats:
    """Minutes that a seat may save, evenly over the levels of a lognormal."""
    from scipy.special import ndtri

    levels = (np.arange(NUM_BELIEFS) + 0.5) / NUM_BELIEFS
    return np.asarray(MINUTES_MEDIAN * np.exp(MINUTES_LOG_SD * ndtri(levels)))


def _startup(scenario: Scenario) -> Decision:
    case = stakeholders.StartupCase(usd_per_million_tokens=median_of(scenario, "api_price", 2.65))
    usual = stakeholders.startup(case)
    war = stakeholders.startup(case, price_cut=0.5, token_price_cut=0.5)
    cheap = stakeholders.startup(case, price_cut=0.5, token_price_cut=0.963)
    return Decision(
        who="Startup",
        question="How long does the money last, and what does a price war do?",
        answer=f"A user brings ${usual.contribution_usd_per_user_month:.2f} a month and the money lasts "
        f"{_months(usual.runway_months)}; in a price war that halves both prices, "
        f"${war.contribution_usd_per_user_month:.2f} and {_months(war.runway_months)}.",
        details=(
            f"Winning a user is paid back after {_months(usual.payback_months)}, in the price war after "
            f"{_months(war.payback_months)}.",
            f"Should tokens fall by 96.3 %, as R1's did against o1's, while the own price halves: "
            f"${cheap.contribution_usd_per_user_month:.2f} a user and {_months(cheap.runway_months)}.",
        ),
        assumes=f"{case.num_users:,.0f} users at ${case.usd_per_user_month:g} and "
        f"{case.million_tokens_per_user_month:g}M tokens a month, ${case.cash_usd / 1e6:g}M in the bank, "
        f"${case.fixed_usd_per_month:,.0f} a month fixed",
        figures={
            "contribution_usd_a_user_month": usual.contribution_usd_per_user_month,
            "runway_months": usual.runway_months,
            "war_contribution_usd_a_user_month": war.contribution_usd_per_user_month,
            "war_runway_months": war.runway_months,
        },
    )


def _supplier(scenario: Scenario) -> Decision:
    ratio = stakeholders.implied_spend_ratio(DAY_RETURN)
    elasticity = elasticity_of(scenario)
    inelastic = stakeholders.gain_for(ratio, pass_through=1.0, elasticity=-0.8)
    partly = stakeholders.gain_for(ratio, pass_through=0.6, elasticity=elasticity)
    gain, passed = SHOCK_GAIN, SHOCK_PASS_THROUGH
    if median_of(scenario, "shock_gain", 1.0) > 1:  # the scenario's own shock, where it has one
        gain, passed = (median_of(scenario, name, 1.0) for name in ("shock_gain", "shock_pass_through"))
    after = jevons(gain=gain, pass_through=passed, elasticity=elasticity, gross_margin=SHOCK_MARGIN)
    return Decision(
        who="Supplier",
        question="What did a day of -16.9 % expect?",
        answer=f"If the day was about nothing else, {words.percent(1 - ratio)} less spent on accelerators: "
        f"an efficiency gain of {_gain(inelastic)} does it at an elasticity of -0.8 passed on in full, "
        f"{_gain(partly)} at this scenario's {elasticity:.2f} passed on to 60 %.",
        details=(
            f"Three thresholds, at a gain of {gain:.1f} times, a pass-through of {passed:.2f} and a gross "
            f"margin of {words.percent(SHOCK_MARGIN)}: spend rises if the elasticity is above "
            f"{_size(after.spend_threshold)} in size, compute above {_size(after.compute_threshold)}, gross "
            f"profit above {_size(after.gross_profit_threshold)}.",
            f"At {elasticity:.2f}: spend x{after.spend:.2f}, compute x{after.compute:.2f}, gross profit "
            f"x{after.gross_profit:.2f}.",
        ),
        assumes="the supplier's value moves as accelerator spend does; the gross margin, and unless the "
        "scenario has a shock its pass-through",
        figures={
            "spend_ratio": ratio,
            "gain_at_0_8_full_pass_through": inelastic,
            "gain_at_scenario_60_percent_pass_through": partly,
            "gain": gain,
            "pass_through": passed,
            "spend_threshold": after.spend_threshold,
            "compute_threshold": after.compute_threshold,
            "gross_profit_threshold": after.gross_profit_threshold,
            "spend_after": after.spend,
            "compute_after": after.compute,
            "gross_profit_after": after.gross_profit,
        },
    )


def _worker(scenario: Scenario) -> Decision:
    found = stakeholders.worker(
        seats_million=15.0,
        workers_million=450.0,
        usd_per_month=median_of(scenario, "seat_price", 30.0),
        usd_per_hour=60.0,
    )
    return Decision(
        who="Worker",
        question="What of this can be counted?",
        answer=f"{found.seats_per_hundred_workers:.1f} of 100 paid seats have AI; for them to pay, each has "
        f"to save {found.minutes_per_month:.0f} minutes a month, "
        f"{words.percent(found.share_of_working_time)} of working time, together as much as "
        f"{found.full_time_workers:,.0f} people work.",
        details=("Who keeps that time the articles do not say, and nothing here does.",),
        assumes="a loaded wage of $60 an hour, 160 hours a month",
        figures={
            "seats_per_hundred": found.seats_per_hundred_workers,
            "minutes_a_month": found.minutes_per_month,
            "full_time_workers": found.full_time_workers,
        },
    )


def _usd(value: float) -> str:
    """To the thousand: `-$1,234,000`."""
    sign = "-" if value < 0 else ""
    return f"{sign}${round(abs(value), -3):,.0f}"


def _months(value: float | None) -> str:
    return "for ever" if value is None else f"{value:.1f} months"


def _gain(value: float | None) -> str:
    return "none at all" if value is None else f"{value:.1f} times"


def _size(value: float | None) -> str:
    return "no size" if value is None else f"{value:.2f}"
