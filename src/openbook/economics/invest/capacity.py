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
    years = panel.scenario.num_years
    delay, book_life = panel["delay_years"], panel["book_life"]
    service = in_service(delay, panel["economic_life"], years + 1)
    short_share = [overlap / book_life for overlap in in_service(delay, book_life, years + 1)]
    building_life = panel["building_life"]
    long_share = [overlap / building_life for overlap in in_service(delay, building_life, years + 1)]
    short_part, ai_share = panel["short_lived_share"], panel["ai_share"]
    usd_per_gigawatt = short_part * panel["usd_billion_per_gigawatt"]
    devices_per_gigawatt = 1 / (panel["device_kilowatts"] * panel["pue"])
    gain, growth = 1 + panel["hardware_gain"], 1 + panel["capex_growth"]
    upkeep = panel["maintenance_share"]

    serving_ages = {age for age, share in enumerate(service) if share.any()}
    written_off_ages = {age for age, share in enumerate(short_share) if share.any()}

    zero = np.zeros((1, 1))
    gigawatts, devices = [zero] * years, [zero] * years
    short_off, long_off = [zero] * years, [zero] * years
    book_value, expansion = zero, zero
    capex, book, expanded = [], [], []
    opening = panel["opening_capex"] * ai_share
    spend = panel["first_capex"] * ai_share
    opening_book = opening * (1 - short_part * short_share[0] - (1 - short_part) * long_share[0])
    for vintage in range(-1, years):
        if vintage == -1:
            short, long, book_value = opening * short_part, opening * (1 - short_part), opening_book
        elif vintage < panel.scenario.spending_years:
            spend = spend if vintage == 0 else spend * growth
            short, long = spend * short_part, spend * (1 - short_part)
            capex.append(spend)
        else:
            short, long = upkeep * short_off[vintage - 1], zero
            capex.append(short)
        power = short / usd_per_gigawatt
        added = power * devices_per_gigawatt * gain**vintage
        if vintage < panel.scenario.spending_years:
            expansion = expansion + power
        for year in range(max(vintage, 0), years):
            age = year - vintage
            if age in serving_ages:
                gigawatts[year] = _plus(gigawatts[year], power * service[age])
                devices[year] = _plus(devices[year], added * service[age])
            if age in written_off_ages:
                short_off[year] = _plus(short_off[year], short * short_share[age])
            if long is not zero:
                long_off[year] = _plus(long_off[year], long * long_share[age])
        if vintage >= 0:
            book_value = book_value + capex[vintage] - short_off[vintage] - long_off[vintage]
            book.append(book_value)
            expanded.append(expansion)
    sold = HOURS_PER_YEAR * panel["utilisation"] * (1 - panel["training_share"])
    return Fleet(
        opening_book=opening_book,
        capex=tuple(capex),
        gigawatts=tuple(gigawatts),
        devices=tuple(devices),
        hours=tuple(count * sold for count in devices),
        depreciation=tuple(short + long for short, long in zip(short_off, long_off, strict=True)),
        book=tuple(book),
        expanded=tuple(so_far / np.where(expansion > 0, expansion, 1.0) for so_far in expanded),
    )
