"""From what was sold and what stands there to profit, free cash flow and write-downs. No torch.

Conventions, all in USD billion a year:
- gross profit = revenue - energy - running cost - depreciation; operating income = that - cost of selling -
  write-down; net income = operating income - interest on leases - tax.
- Tax follows the schedule of depreciation and not write-downs, which no tax office grants before the sale; a
  loss saves tax elsewhere in the company. Working capital is left out.
- Free cash flow = net income + depreciation + write-down - cash capex - lease repayments. Finance leases are
  capex that is paid for over LEASE_YEARS, so only the cash part is taken off in its year (fact sheet 3).
- A write-down brings the book value down to what can be recovered; depreciation afterwards is the schedule's
  times the share of the book value that is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openbook.economics.invest.capacity import TINY, Fleet
from openbook.economics.invest.demand import Series
from openbook.economics.invest.distributions import Floats
from openbook.economics.invest.scenario import Panel

LEASE_YEARS = 5
"""A finance lease is repaid in equal parts from the year after; ours, about the life of what is leased."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sales:
    """What a year's demand and capacity made of each other: money in USD billion, hours in millions."""

    revenue: Series
    served: Series
    busy: Series
    """Busy share of the paid hours, training included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accounts:
    """One entry a year, [company or 1, path]."""

    operating_cash: Series
    """Revenue - energy - running cost - cost of selling: before depreciation, interest and tax."""
    gross_profit: Series
    operating_income: Series
    depreciation: Series
    write_down: Series
    book: Series
    """Carrying value at the end of the year."""
    net_income: Series
    cash_capex: Series
    lease_repayment: Series
    lease_balance: Floats
    """Owed at the end of the last year."""
    free_cash_flow: Series
    contribution: Series
    """After tax, what grows with sales: (1 - tax)(revenue - energy - cost of selling)."""


def keep_accounts(panel: Panel, fleet: Fleet, sales: Sales) -> Accounts:
    """Statements of every year."""
    revenue, tax = sales.revenue, panel["tax_rate"]
    usd_per_kwh, selling = panel["usd_per_kwh"], panel["sales_cost_share"]
    running = panel["opex_share"] * panel["usd_billion_per_gigawatt"]
    contribution, cash, gross_cash = [], [], []
    for earned, power, busy in zip(revenue, fleet.gigawatts, sales.busy, strict=True):
        # a gigawatt-year is 8.76 TWh, and a TWh at a dollar the kWh is a billion dollars
        energy = power * busy * (8.76 * usd_per_kwh)
        sold = earned * selling
        before_running = earned - energy
        gross_cash.append(before_running - running * power)
        cash.append(gross_cash[-1] - sold)
        contribution.append((1 - tax) * (before_running - sold))
    depreciation, write_down, book = _write_off(panel, fleet, tuple(cash))
    lease = panel["lease_share"]
    repaid, interest, balance = _leases(fleet.capex, lease, panel["lease_rate"])
    income, operating, flows = [], [], []
    for year, earned in enumerate(cash):
        before = earned - interest[year]
        operating.append(earned - depreciation[year] - write_down[year])
        income.append(
            before - depreciation[year] - write_down[year] - tax * (before - fleet.depreciation[year])
        )
        spent = fleet.capex[year] * (1 - lease) + repaid[year]
        flows.append(income[-1] + depreciation[year] + write_down[year] - spent)
    return Accounts(
        operating_cash=tuple(cash),
        gross_profit=tuple(made - off for made, off in zip(gross_cash, depreciation, strict=True)),
        operating_income=tuple(operating),
        depreciation=depreciation,
        write_down=write_down,
        book=book,
        net_income=tuple(income),
        cash_capex=tuple(capex * (1 - lease) for capex in fleet.capex),
        lease_repayment=repaid,
        lease_balance=balance,
        free_cash_flow=tuple(flows),
        contribution=tuple(contribution),
    )


def _leases(capex: Series, share: Floats, rate: Floats) -> tuple[Series, Series, Floats]:
    """Repayment and interest of each year, and what is owed at the end. Interest: on the opening balance."""
    zero = np.zeros((1, 1))
    if not np.any(share):
        return (zero,) * len(capex), (zero,) * len(capex), zero
    taken = [spent * share for spent in capex]
    repaid, interest = [], []
    balance = zero
    for year, new in enumerate(taken):
        due = sum(taken[max(year - LEASE_YEARS, 0) : year], start=zero) / LEASE_YEARS
        interest.append(balance * rate)
        repaid.append(due)
        balance = balance + new - due
    return tuple(repaid), tuple(interest), balance


def _write_off(panel: Panel, fleet: Fleet, cash: Series) -> tuple[Series, Series, Series]:
    """Depreciation, write-down and carrying value of each year.

    carrying = opening + capex - depreciation; write-down = max(0, carrying - recoverable);
    recoverable = the higher of value in use and `residual_share` x scheduled book value (IAS 36; 8.5).
    """
    in_use = _value_in_use(panel, fleet, cash)
    residual = panel["residual_share"]
    carrying, scheduled_before = fleet.opening_book, fleet.opening_book
    depreciation, write_down, book = [], [], []
    for year, scheduled in enumerate(fleet.book):
        added = fleet.capex[year]
        before = scheduled_before + added
        # the share of the schedule that is still carried; depreciation keeps it, a write-down lowers it
        kept = (carrying + added) / (before + TINY)
        off = fleet.depreciation[year] * kept
        left = carrying + added - off
        lost = np.maximum(left - np.maximum(in_use[year], residual * scheduled), 0.0)
        carrying, scheduled_before = left - lost, scheduled
        depreciation.append(off)
        write_down.append(lost)
        book.append(carrying)
    return tuple(depreciation), tuple(write_down), tuple(book)


def _value_in_use(panel: Panel, fleet: Fleet, cash: Series) -> Series:
    """What the fleet of year t will bring: V_t = max(0, (V_{t+1} + cash_{t+1} - upkeep_{t+1}) / q), per year.

    Cash before tax at q = 1 + r / (1 - tax), the path's own future being known. Upkeep holds the fleet as it
    is and belongs to it; capex of later spending years does not, so while spending lasts the fleet of year t
    has its share, by gigawatts, of what all of them bring. At the end of the last year what is left counts at
    its scheduled book value: the end of the horizon by itself writes nothing down.
    """
    rate = 1 + panel["discount_rate"] / (1 - panel["tax_rate"])
    spending = panel.scenario.spending_years
    value = fleet.book[-1]
    values = [value]
    for year in range(len(cash) - 1, 0, -1):
        upkeep = fleet.capex[year] if year >= spending else 0.0
        value = np.maximum((value + cash[year] - upkeep) / rate, 0.0)
        values.append(value)
    values.reverse()
    return tuple(value * share for value, share in zip(values, fleet.expanded, strict=True))
