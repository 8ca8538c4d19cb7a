"""From capex to machines in service, what they can do, and how they are written off. No torch.

Conventions. A vintage is what one year's capex buys. Spending happens at the start of its year; the vintage
serves from `delay_years` later for `economic_life` years and is written off in a straight line over
`book_life` from the same moment; buildings, power and cooling over `building_life`. Devices are counted in
equivalents of the first year's. Arrays are [company or 1, path or 1], one for each year.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openbook.economics.capital import HOURS_PER_YEAR
from openbook.economics.invest.distributions import Floats
from openbook.economics.invest.scenario import Panel

TINY = 1e-300
"""Added to a divisor, it changes no number but zero: what takes no machine is served in full by any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """What stands there in each year. Money is in USD billion, devices and hours in millions."""

    opening_book: Floats
    """Book value of the opening vintage at the start of the first year."""
    capex: tuple[Floats, ...]
    """Into AI, on the company's basis."""
    gigawatts: tuple[Floats, ...]
    devices: tuple[Floats, ...]
    """In service, in equivalents of the first year's devices."""
    hours: tuple[Floats, ...]
    """Busy device-hours for sale, at most: devices x 8760 x utilisation x (1 - training share)."""
    depreciation: tuple[Floats, ...]
    book: tuple[Floats, ...]
    """Scheduled book value at the end of the year: what was spent less depreciation so far."""
    expanded: tuple[Floats, ...]
    """Of the power that the spending years add and the opening vintage had, what is bought by each year."""


def in_service(delay: Floats, life: Floats, num_ages: int) -> tuple[Floats, ...]:
    """Overlap of each year of age [a, a + 1] with [delay, delay + life], as a share of the year."""
    end = delay + life
    return tuple(
        np.maximum(np.minimum(age + 1, end) - np.maximum(age, delay), 0.0) for age in range(num_ages)
    )


def usd_per_device(panel: Panel) -> Floats:
    """All of the data center over its devices: USD a GW x kW x PUE / 1e6."""
    return panel["usd_billion_per_gigawatt"] * 1e3 * panel["device_kilowatts"] * panel["pue"]


def _plus(total: Floats, more: Floats) -> Floats:
    """The sum, in the memory of `more` where it fits: sums are most of the work."""
    return np.add(total, more, out=more if more.shape >= total.shape else None)


def build_fleet(panel: Panel) -> Fleet:
    """The fleet of every year. Capex_t = capex_{t-1} (1 + growth) while spending lasts, then upkeep.

    Upkeep = maintenance share x last year's depreciation of machines, and buys machines alone: their
    buildings stand. GW added = machines' capex / (short-lived share x USD billion a GW).
    """
    years, spending_years = panel.scenario.num_years, panel.scenario.spending_years
    held = _Held.empty(panel)
    short_part, ai_share = panel["short_lived_share"], panel["ai_share"]
    growth = 1 + panel["capex_growth"]
    opening = panel["opening_capex"] * ai_share
    spend = panel["first_capex"] * ai_share
    opening_book = opening * (1 - short_part * held.short_share[0] - (1 - short_part) * held.long_share[0])
    expansion = held.take(-1, opening * short_part, opening * (1 - short_part))
    book_value, capex, book, expanded = opening_book, [], [], []
    for vintage in range(years):
        if vintage < spending_years:
            spend = spend if vintage == 0 else spend * growth
            capex.append(spend)
            expansion = expansion + held.take(vintage, spend * short_part, spend * (1 - short_part))
        else:
            capex.append(panel["maintenance_share"] * held.short_off[vintage - 1])
            held.take(vintage, capex[vintage], None)
        book_value = book_value + capex[vintage] - held.short_off[vintage] - held.long_off[vintage]
        book.append(book_value)
        expanded.append(expansion)
    sold = HOURS_PER_YEAR * panel["utilisation"] * (1 - panel["training_share"])
    return Fleet(
        opening_book=opening_book,
        capex=tuple(capex),
        gigawatts=tuple(held.gigawatts),
        devices=tuple(held.devices),
        hours=tuple(count * sold for count in held.devices),
        depreciation=tuple(short + long for short, long in zip(held.short_off, held.long_off, strict=True)),
        book=tuple(book),
        expanded=tuple(so_far / np.where(expansion > 0, expansion, 1.0) for so_far in expanded),
    )


@dataclass(kw_only=True, slots=True)
class _Held:
    """What each year has of the vintages taken so far, and how a vintage ages."""

    panel: Panel
    service: tuple[Floats, ...]
    short_share: list[Floats]
    long_share: list[Floats]
    """Of a vintage's price, by age: what is written off of machines, and of buildings."""
    gigawatts: list[Floats]
    devices: list[Floats]
    short_off: list[Floats]
    long_off: list[Floats]

    @classmethod
    def empty(cls, panel: Panel) -> _Held:
        years, delay, zero = panel.scenario.num_years, panel["delay_years"], np.zeros((1, 1))

        def written_off(life: Floats) -> list[Floats]:
            return [overlap / life for overlap in in_service(delay, life, years + 1)]

        return cls(
            panel=panel,
            service=in_service(delay, panel["economic_life"], years + 1),
            short_share=written_off(panel["book_life"]),
            long_share=written_off(panel["building_life"]),
            gigawatts=[zero] * years,
            devices=[zero] * years,
            short_off=[zero] * years,
            long_off=[zero] * years,
        )

    def take(self, vintage: int, short: Floats, long: Floats | None) -> Floats:
        """Add what a vintage's machines and buildings cost to the years it serves -> its gigawatts."""
        panel = self.panel
        power = short / (panel["short_lived_share"] * panel["usd_billion_per_gigawatt"])
        each_gigawatt = 1 / (panel["device_kilowatts"] * panel["pue"])
        added = power * each_gigawatt * (1 + panel["hardware_gain"]) ** vintage
        for year in range(max(vintage, 0), len(self.devices)):
            age = year - vintage
            if self.service[age].any():
                self.gigawatts[year] = _plus(self.gigawatts[year], power * self.service[age])
                self.devices[year] = _plus(self.devices[year], added * self.service[age])
            if self.short_share[age].any():
                self.short_off[year] = _plus(self.short_off[year], short * self.short_share[age])
            if long is not None:
                self.long_off[year] = _plus(self.long_off[year], long * self.long_share[age])
        return power
