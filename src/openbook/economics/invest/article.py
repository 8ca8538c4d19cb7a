"""The articles' arithmetic, done again: what they print beside what follows from their own figures. No torch.

Figures lie in `data/invest/figures.toml` under the ids of the fact sheet (A: "The $505 Billion Question", B:
"DeepSeek R1"). A check says what was printed, in the articles' words as far as a number goes, and recomputes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from openbook.economics.invest.demand import seat_revenue

HOURS_PER_DAY, HOURS_PER_YEAR, DEVICES_PER_SERVER = 24, 8760, 8
Figures = Mapping[str, float | list[float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A statement: its id, what it says, how it was printed, and what the figures give, in `unit`."""

    id: str
    what: str
    printed: str
    recomputed: float
    unit: str


@cache
def figures() -> Figures:
    """The articles' figures by name, each name beginning with its id."""
    text = resources.files("openbook.economics").joinpath("data/invest/figures.toml").read_text("utf-8")
    return tomllib.loads(text)


class _Sheet:
    """Figures as numbers or as lists."""

    def __call__(self, name: str) -> float:
        value = figures()[name]
        assert not isinstance(value, list)
        return float(value)

    def pair(self, name: str) -> tuple[float, float]:
        first, second = self.many(name)
        return first, second

    def many(self, name: str) -> list[float]:
        value = figures()[name]
        assert isinstance(value, list)
        return value


def _over(pair: tuple[float, float]) -> float:
    return pair[0] / pair[1] - 1


def _seats_usd_billion(million: float, usd_per_month: float) -> float:
    revenue = seat_revenue(np.array(million), np.array(usd_per_month), np.array(0.0))
    return float(revenue)


def _left_of_505(f: _Sheet) -> float:
    return f("A05_capex_2026") - f.pair("A03_meta_2026")[1]


def _half_year(f: _Sheet) -> float:
    return f("A16_capex_q1") + f("A18_capex_q2")


def _uplift(f: _Sheet) -> float:
    return f("A39_uplift") * f("A26_meta_year")


def _usd_per_device(f: _Sheet) -> float:
    return f("B33_purchase") / (f("B32_servers") * DEVICES_PER_SERVER)


_SHARE, _MONEY, _RATIO = "share", "USD billion", "ratio"
_CHECKS: tuple[tuple[str, str, str, str, Callable[[_Sheet], float]], ...] = (
    (
        "A07",
        "growth of capex, 2026 over 2025",
        "nearly 40 %",
        _SHARE,
        lambda f: f("A05_capex_2026") / f("A06_capex_2025") - 1,
    ),
    ("A07", "increase of capex", "", _MONEY, lambda f: f("A05_capex_2026") - f("A06_capex_2025")),
    (
        "A10",
        "Microsoft's earnings a share over expected",
        "4.14 v 3.97",
        _SHARE,
        lambda f: _over(f.pair("A10_eps")),
    ),
    (
        "A11",
        "Microsoft's revenue over expected",
        "81.27 v 80.27",
        _SHARE,
        lambda f: _over(f.pair("A11_revenue")),
    ),
    (
        "A12",
        "Microsoft's net income over the year before",
        "38.46 v 24.11",
        _SHARE,
        lambda f: _over(f.pair("A12_net_income")),
    ),
    (
        "A12",
        "shares that adjusted income over adjusted earnings a share gives",
        "",
        "billion",
        lambda f: (f.pair("A12_net_income")[0] - f("A12_openai_gain")) / f.pair("A10_eps")[0],
    ),
    ("A19", "Microsoft's capex of the half-year", "72.4", _MONEY, _half_year),
    (
        "A19",
        "part of it that is finance leases",
        "",
        _SHARE,
        lambda f: 1 - f("A19_cash_capex_h1") / _half_year(f),
    ),
    (
        "A25",
        "Meta's capex, top of 2026 over 2025",
        "nearly double",
        _RATIO,
        lambda f: f.pair("A03_meta_2026")[1] / f("A24_meta_2025"),
    ),
    (
        "A25",
        "Meta's capex, low end of 2026 over 2025",
        "",
        _RATIO,
        lambda f: f.pair("A03_meta_2026")[0] / f("A24_meta_2025"),
    ),
    (
        "A26",
        "Meta's revenue over expected",
        "59.89 v 58.41",
        _SHARE,
        lambda f: _over(f.pair("A26_meta_revenue")),
    ),
    (
        "A26",
        "Meta's earnings a share over expected",
        "8.88 v 8.19",
        _SHARE,
        lambda f: _over(f.pair("A26_meta_eps")),
    ),
    (
        "A34",
        "seats of those who could buy",
        "15 of 450 million",
        _SHARE,
        lambda f: f("A33_seats") / f("A34_addressable"),
    ),
    (
        "A36",
        "Copilot revenue a month",
        "450 million",
        "USD million",
        lambda f: f("A33_seats") * f("A35_price"),
    ),
    (
        "A37",
        "Copilot revenue a year",
        "5.4 billion",
        _MONEY,
        lambda f: _seats_usd_billion(f("A33_seats"), f("A35_price")),
    ),
    (
        "A37",
        "that over the half-year's capex",
        "",
        _SHARE,
        lambda f: _seats_usd_billion(f("A33_seats"), f("A35_price")) / _half_year(f),
    ),
    (
        "A37",
        "that over a year's capex",
        "",
        _SHARE,
        lambda f: _seats_usd_billion(f("A33_seats"), f("A35_price")) / (2 * _half_year(f)),
    ),
    (
        "A37",
        "revenue if every seat paid",
        "",
        _MONEY,
        lambda f: _seats_usd_billion(f("A34_addressable"), f("A35_price")),
    ),
    ("A39", "what 5 % more is worth to Meta a year", "", _MONEY, _uplift),
    (
        "A39",
        "years in which that pays back its capex",
        "",
        "years",
        lambda f: f.pair("A03_meta_2026")[1] / _uplift(f),
    ),
    (
        "A39",
        "the same on the last quarter's revenue",
        "",
        "years",
        lambda f: f.pair("A03_meta_2026")[1] / (f("A39_uplift") * 4 * f.pair("A26_meta_revenue")[0]),
    ),
    (
        "A41",
        "cost of training, frontier over DeepSeek",
        "100 v 6",
        _RATIO,
        lambda f: 1 + _over(f.pair("A41_training")),
    ),
    ("A42", "backlog due within a year", "", _MONEY, lambda f: f("A42_first_year") * f("A42_backlog")),
    ("A43", "backlog of one customer", "45 %", _MONEY, lambda f: f("A43_share") * f("A42_backlog")),
    ("A43", "backlog of all others", "", _MONEY, lambda f: (1 - f("A43_share")) * f("A42_backlog")),
    (
        "A48",
        "Copilot revenue a year at the payoff's seats",
        "",
        _MONEY,
        lambda f: _seats_usd_billion(f("A48_seats"), f("A35_price")),
    ),
    (
        "A48",
        "those seats of those who could buy",
        "",
        _SHARE,
        lambda f: f("A48_seats") / f("A34_addressable"),
    ),
    ("A48", "those seats over today's", "", _RATIO, lambda f: f("A48_seats") / f("A33_seats")),
    ("B02", "cost of the runs of V3 and R1", "6 million", "USD million", lambda f: sum(f.many("B02_runs"))),
    (
        "B06",
        "value that Nvidia lost",
        "589 billion",
        _MONEY,
        lambda f: f.pair("B06_drop_and_shares")[0] * f.pair("B06_drop_and_shares")[1],
    ),
    (
        "B05",
        "value that 18 % would have been",
        "18 %",
        _MONEY,
        lambda f: 0.18 * f.pair("B21_nvidia")[0] * f.pair("B06_drop_and_shares")[1],
    ),
    (
        "B09",
        "parameters active for a token",
        "37 of 671 billion",
        _SHARE,
        lambda f: f.pair("B09_parameters")[1] / f.pair("B09_parameters")[0],
    ),
    (
        "B12",
        "days of pre-training",
        "about two months",
        "days",
        lambda f: f("B12_hours") / f("B11_devices") / HOURS_PER_DAY,
    ),
    (
        "B14",
        "rent of the whole run, from the printed hours",
        "5.58 million",
        "USD million",
        lambda f: f("B13_hours_printed") * f("B14_usd_per_hour"),
    ),
    (
        "B14",
        "rent of the whole run, exact",
        "5.58 million",
        "USD million",
        lambda f: f("B14_hours_exact") * f("B14_usd_per_hour"),
    ),
    ("B21", "Nvidia's day", "-16.9 %", _SHARE, lambda f: 1 / (1 + _over(f.pair("B21_nvidia"))) - 1),
    (
        "B27",
        "price of input, R1 below o1",
        "96 %",
        _SHARE,
        lambda f: 1 - f.pair("B25_r1")[0] / f.pair("B26_o1")[0],
    ),
    (
        "B27",
        "price of output, R1 below o1",
        "96 %",
        _SHARE,
        lambda f: 1 - f.pair("B25_r1")[1] / f.pair("B26_o1")[1],
    ),
    (
        "B32",
        "devices of the cluster",
        "256 servers",
        "devices",
        lambda f: f("B32_servers") * DEVICES_PER_SERVER,
    ),
    ("B33", "price of a server", "51 million", "USD", lambda f: f("B33_purchase") / f("B32_servers")),
    ("B33", "price of a device", "", "USD", _usd_per_device),
    ("B33", "hours of rent that pay for it", "", "h", lambda f: _usd_per_device(f) / f("B14_usd_per_hour")),
    (
        "B33",
        "years of that at full use",
        "",
        "years",
        lambda f: _usd_per_device(f) / f("B14_usd_per_hour") / HOURS_PER_YEAR,
    ),
    (
        "B36",
        "Nvidia's recovery from the low",
        "140",
        _SHARE,
        lambda f: f("B36_recovered") / f.pair("B21_nvidia")[1] - 1,
    ),
    (
        "B36",
        "of the fall, regained",
        "",
        _SHARE,
        lambda f: (
            (f("B36_recovered") - f.pair("B21_nvidia")[1])
            / (f.pair("B21_nvidia")[0] - f.pair("B21_nvidia")[1])
        ),
    ),
    ("B36", "still missing", "", _SHARE, lambda f: f("B36_recovered") / f.pair("B21_nvidia")[0] - 1),
    ("3.1", "capex of 2025 as reported", "366", _MONEY, lambda f: sum(f.many("capex_2025"))),
    ("3.1", "later guidance, low end", "505", _MONEY, lambda f: sum(f.many("guidance_low"))),
    ("3.1", "later guidance, high end", "505", _MONEY, lambda f: sum(f.many("guidance_high"))),
    ("3.1", "what 505 leaves three companies beside Meta", "", _MONEY, _left_of_505),
    ("3.1", "what it leaves Amazon and Alphabet", "", _MONEY, lambda f: _left_of_505(f) - 2 * _half_year(f)),
    ("3.1", "what those two then guided, low end", "", _MONEY, lambda f: sum(f.many("guidance_low")[:2])),
    ("3.1", "what those two then guided, high end", "", _MONEY, lambda f: sum(f.many("guidance_high")[:2])),
)


def checks() -> tuple[Check, ...]:
    """Every statement of the articles that is arithmetic, recomputed."""
    sheet = _Sheet()
    return tuple(
        Check(id=id, what=what, printed=printed, recomputed=formula(sheet), unit=unit)
        for id, what, printed, unit, formula in _CHECKS
    )
