"""A back-test: capex of 2026 by company from what was public on one day, held against what came out later.

The figures and the rule lie in `data/invest/backtest_2026.toml`. A figure published after that day cannot be
read as an input: the file is refused. A range that was public already, or that a company never gave, tests
nothing and is said to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date as Date
from enum import StrEnum
from importlib import resources
from typing import Literal

import numpy as np
import numpy.typing as npt

from openbook.config import config, parse_toml
from openbook.economics.invest.correlation import RankCorrelation
from openbook.economics.invest.distributions import Distribution, Kind
from openbook.economics.invest.sampling import Plan, Sampler, columns_of
from openbook.economics.invest.statistics import Estimate, summarise
from openbook.economics.sourced import Mark, Sourced
from openbook.economics.sourced_file import Figure, Source, to_sourced
from openbook.errors import UserError

Floats = npt.NDArray[np.float64]

UNIT = "billion USD"
Z95 = 1.6448536269514722
"""Standard deviations below which 95 % of a normal distribution lie."""
BAND = ("q05", "q50", "q95")
TOTAL = "the four together"


class Verdict(StrEnum):
    """How a band of q05 to q95 fared against a later range."""

    HELD = "held"
    PARTLY = "held in part"
    MISSED = "missed"
    NO_TEST = "no test"


@config
class CompanyFigures:
    """One company in the file, in billions of dollars a calendar year."""

    basis: Literal["cash", "including principal of finance leases"]
    last_year: Figure
    year_before: Figure
    later_low: Figure
    later_high: Figure
    later_by: Literal["company", "analysts"]
    guidance_low: Figure | None = None
    guidance_high: Figure | None = None


@config
class BacktestFile:
    """The file: the day, the rule's correlation, sources, companies."""

    public_until: Date
    rank_correlation: float
    sources: dict[str, Source]
    companies: dict[str, CompanyFigures]


@dataclass(frozen=True, kw_only=True, slots=True)
class Company:
    """The input of one company, and what was said later."""

    name: str
    basis: str
    capex: Distribution
    later_low: Sourced
    later_high: Sourced
    later_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Backtest:
    """What was public until a day, as uncertain inputs, and later ranges to hold them against."""

    public_until: Date
    companies: tuple[Company, ...]
    correlations: tuple[RankCorrelation, ...]

    @property
    def inputs(self) -> Mapping[str, Distribution]:
        return {company.name: company.capex for company in self.companies}


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A band (q05, q50, q95) beside the later range, in billions of dollars.

    `share_below_low` and `share_below_high` are the shares of paths below the ends of the range.
    """

    name: str
    basis: str
    band: Mapping[str, Estimate]
    later_low: float
    later_high: float
    share_below_low: float
    share_below_high: float
    verdict: Verdict
    reason: str


def read_backtest(text: str | None = None, *, where: str = "backtest_2026.toml") -> Backtest:
    """The back-test that comes with the package, or that of a TOML text. Raises UserError."""
    if text is None:
        file = resources.files("openbook.economics") / "data" / "invest" / "backtest_2026.toml"
        text = file.read_text(encoding="utf-8")
    data = parse_toml(BacktestFile, text, where=where)
    companies = tuple(_company(name, one, data, where) for name, one in data.companies.items())
    names = list(data.companies)
    pairs = [(first, second) for place, first in enumerate(names) for second in names[place + 1 :]]
    return Backtest(
        public_until=data.public_until,
        companies=companies,
        correlations=tuple(
            RankCorrelation(first=first, second=second, rho=data.rank_correlation) for first, second in pairs
        ),
    )


def hold(backtest: Backtest, plan: Plan) -> tuple[Held, ...]:
    """Each company's band and that of their sum against what was said after the day."""
    sampler = Sampler(plan=plan, columns=columns_of(backtest.inputs))
    draws = sampler.draw(backtest.inputs, backtest.correlations)
    rows = [_held(company, draws[company.name], backtest, plan) for company in backtest.companies]
    low = sum(company.later_low.value for company in backtest.companies)
    high = sum(company.later_high.value for company in backtest.companies)
    total = sum(draws[company.name] for company in backtest.companies)
    assert isinstance(total, np.ndarray)
    return (*rows, _compared(TOTAL, "as the four above", total, (low, high), plan))


def conclusion(rows: tuple[Held, ...]) -> str:
    """Which bands held, in a sentence for each verdict."""
    said = []
    for verdict in Verdict:
        found = [f"{row.name} ({row.reason})" for row in rows if row.verdict is verdict]
        said.append(f"{verdict}: {', '.join(found) if found else 'none'}")
    return "; ".join(said) + ". Nothing but 2026 capex could be tested yet."


def _company(name: str, given: CompanyFigures, data: BacktestFile, where: str) -> Company:
    def read(figure: Figure, key: str) -> Sourced:
        return to_sourced(figure, data.sources, unit=UNIT, where=f"{where}: companies.{name}.{key}")

    last, before = read(given.last_year, "last_year"), read(given.year_before, "year_before")
    public = [last, before]
    if given.guidance_low is not None and given.guidance_high is not None:
        low, high = read(given.guidance_low, "guidance_low"), read(given.guidance_high, "guidance_high")
        public += [low, high]
        capex = _uniform(low, high)
    else:
        capex = _grown(last, before)
    for figure in public:
        if figure.date > data.public_until:
            raise UserError(
                f"{where}: companies.{name}: {figure} was not public on {data.public_until}",
                "a back-test may only use what was known by then",
            )
    return Company(
        name=name,
        basis=given.basis,
        capex=capex,
        later_low=read(given.later_low, "later_low"),
        later_high=read(given.later_high, "later_high"),
        later_by=given.later_by,
    )


def _uniform(low: Sourced, high: Sourced) -> Distribution:
    return Distribution(
        kind=Kind.UNIFORM,
        parameters={"low": low.value, "high": high.value},
        unit=UNIT,
        source=low.source,
        date=low.date,
        mark=low.mark,
        note="the company's own range for 2026",
    )


def _grown(last: Sourced, before: Sourced) -> Distribution:
    """Nine cases in ten between no growth and last year's: q05 = last year, q95 = last year x its growth."""
    growth = math.log(last.value / before.value)
    return Distribution(
        kind=Kind.LOGNORMAL,
        parameters={"median": last.value * math.exp(growth / 2), "log_sd": growth / 2 / Z95},
        unit=UNIT,
        source=last.source,
        date=last.date,
        mark=Mark.OURS,
        note=f"nine in ten between {last.value:g} again and growth of {math.expm1(growth):.0%} again",
    )


def _held(company: Company, capex: Floats, backtest: Backtest, plan: Plan) -> Held:
    later = (company.later_low.value, company.later_high.value)
    row = _compared(company.name, company.basis, capex, later, plan)
    if company.later_low.date <= backtest.public_until:
        return _untested(row, "its range was public already and is the input")
    if company.later_by != "company":
        return _untested(row, f"only {company.later_by} gave a figure, their basis unsaid; {row.reason}")
    return row


def _compared(name: str, basis: str, capex: Floats, later: tuple[float, float], plan: Plan) -> Held:
    band = summarise(capex, plan.num_scrambles, BAND).quantiles
    low, high = band["q05"].value, band["q95"].value
    if low <= later[0] and later[1] <= high:
        verdict = Verdict.HELD
    else:
        verdict = Verdict.MISSED if later[0] > high or later[1] < low else Verdict.PARTLY
    said = f"{later[0]:g}" if later[0] == later[1] else f"{later[0]:g} to {later[1]:g}"
    return Held(
        name=name,
        basis=basis,
        band=band,
        later_low=later[0],
        later_high=later[1],
        share_below_low=float((capex < later[0]).mean()),
        share_below_high=float((capex < later[1]).mean()),
        verdict=verdict,
        reason=f"{said} against {low:.0f} to {high:.0f}",
    )


def _untested(row: Held, reason: str) -> Held:
    return replace(row, verdict=Verdict.NO_TEST, reason=reason)
