"""Dollars of device-hours by three labelled methods, and the energy behind them. No torch.

The methods answer different questions and differ by up to two orders of magnitude for one run, so that a
figure never goes without its method: what renting the hours costs, what they wear off owned hardware, and
what the whole programme cost of which the run is the last part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from openbook.economics.accelerators import Accelerator
from openbook.economics.plan.band import Band, widened
from openbook.economics.plan.calibration import Calibration
from openbook.economics.sourced import Mark, Sourced

HOURS_PER_YEAR = 8760
RENT, OWN, PROGRAMME = "rent", "own", "programme"


@dataclass(frozen=True, kw_only=True, slots=True)
class Energy:
    """kWh of the devices alone (mean draw of their TDP) and of everything around them."""

    devices_kwh: float | None
    all_in_kwh: float | None
    all_in_watts: Sourced | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Dollars by method; None where a price is not known."""

    rent: Band | None
    own: Band | None
    own_depreciation_usd: float | None
    own_electricity_usd: float | None
    programme: Band | None

    def by_method(self) -> dict[str, Band | None]:
        return {RENT: self.rent, OWN: self.own, PROGRAMME: self.programme}


def depreciation_usd(device_hours: float, purchase_usd: float, life_years: float) -> float:
    """Straight line at full use: the share of its life that the hours take from a device."""
    return device_hours * purchase_usd / (life_years * HOURS_PER_YEAR)


def programme_multipliers(figures: Calibration) -> tuple[float, float]:
    """A programme's compute over its final run, least and most: 1.5 to 10 (fact sheet 7.3)."""
    return 1 / figures["programme.final_share_high"], 1 / figures["programme.final_share_low"]


def programme_band(final: Band, figures: Calibration) -> Band:
    """The whole programme's compute for a final run: the middle is the geometric one of the two ends."""
    least, most = programme_multipliers(figures)
    return Band(value=final.value * math.sqrt(least * most), low=final.value * least, high=final.value * most)


def energy(hours: float, accelerator: Accelerator, figures: Calibration) -> Energy:
    """Energy of device-hours. All-in power is the device's own figure, else a factor over its draw."""
    tdp, all_in = accelerator.tdp_watts, accelerator.all_in_watts
    factor = figures.figures["power.all_in_factor"]
    devices = None if tdp is None else hours * tdp.value * figures["power.mean_draw"] / 1000
    if all_in is None and tdp is not None:
        all_in = Sourced(
            value=tdp.value * figures["power.mean_draw"] * factor.value,
            unit="W",
            source=f"TDP x mean draw x {factor.value:g} ({factor.source})",
            date=factor.date,
            mark=Mark.OURS,
        )
    total = None if all_in is None else hours * all_in.value / 1000
    return Energy(devices_kwh=devices, all_in_kwh=total, all_in_watts=all_in)


def cost(hours: Band, accelerator: Accelerator, figures: Calibration) -> Cost:
    """The three methods for a forecast of device-hours."""
    rent, own, depreciation, electricity = None, None, None, None
    if accelerator.rent_usd_per_hour is not None:
        price = accelerator.rent_usd_per_hour
        rent = widened(hours, price.value, _spread(price, figures["spread.rent"]))
    power = energy(1.0, accelerator, figures)
    if accelerator.purchase_usd is not None and power.all_in_kwh is not None:
        price = accelerator.purchase_usd
        hourly = depreciation_usd(1.0, price.value, figures["ownership.life_years"])
        running = power.all_in_kwh * figures["power.usd_per_kwh"]
        depreciation, electricity = hours.value * hourly, hours.value * running
        own = widened(hours, hourly + running, _spread(price, figures["spread.purchase"]))
    return Cost(
        rent=rent,
        own=own,
        own_depreciation_usd=depreciation,
        own_electricity_usd=electricity,
        programme=None if rent is None else programme_band(rent, figures),
    )


def _spread(price: Sourced, market: float) -> float:
    """A price that the user gave is certain; one of the market is not."""
    return 0.0 if price.mark is Mark.OURS and price.source.endswith("of the user") else market
