"""The machine at hand as an accelerator called `this`: what was measured of it, at what it costs. No torch.

Its price by the hour is the one by which the ledger books runs on it, so that a forecast and what is booked
differ by time and never by price. `Facility.host` holds what that price is made of.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date as Date

from openbook.economics.accelerator import THIS, Accelerator, Precision, Scope
from openbook.economics.facility import HOURS_PER_YEAR, Facility, load_facility
from openbook.economics.sourced import Mark, Sourced
from openbook.ledger.prices import PricePlan
from openbook.runs.machine_profile import MachineProfile, ShapeClass, load_profile

_DEVICE = "cpu"
"""What runs and the ledger call the processors of a machine."""


def this_machine(
    profile: MachineProfile | None = None,
    *,
    today: Date,
    prices: PricePlan | None = None,
    facility: Facility | None = None,
) -> Accelerator:
    """The machine of `profile`, or of the profile that `openbook doctor --measure` wrote.

    Peaks and bandwidth are the measured ones, so a share of the peak that products reach is 1. Raises
    UserError where the machine was not measured or the price plan has no price for it.
    """
    profile = load_profile() if profile is None else profile
    facility = load_facility() if facility is None else facility
    prices = PricePlan.default() if prices is None else prices
    measured = f"{profile.processor}, {profile.num_cpus} processors, measured"

    def ours(value: float, unit: str, note: str) -> Sourced:
        return Sourced(
            value=value, unit=unit, source=measured, date=profile.measured_on, mark=Mark.OURS, note=note
        )

    load = "disturbed while it was measured" if profile.is_disturbed else ""
    peaks = {
        Precision.BF16: ours(profile.product_rate("bf16", ShapeClass.SQUARE), "FLOP/s", load),
        Precision.FP32: ours(profile.product_rate("fp32", ShapeClass.SQUARE), "FLOP/s", load),
    }
    share = profile.num_cpus / facility.host.cores.value
    part = f"{profile.num_cpus} of {facility.host.cores.value:g} cores of a server"

    def part_of(whole: Sourced, factor: float = 1.0, note: str = "") -> Sourced:
        return replace(
            whole, value=whole.value * share * factor, mark=Mark.OURS, note=f"{part} of {whole.value:g}{note}"
        )

    return Accelerator(
        name=THIS,
        title=f"this machine ({profile.processor})",
        peak_flops=peaks,
        matmul_share={precision: ours(1.0, "of peak", "the peak is measured") for precision in peaks},
        memory_bytes=None
        if profile.memory_bytes is None
        else ours(profile.memory_bytes, "bytes", "installed"),
        memory_bandwidth=ours(profile.read_rate(), "bytes/s", load),
        link_bandwidth=None,
        network_bandwidth=None,
        tdp_watts=None,
        server_watts=part_of(facility.host.watts),
        all_in_watts=part_of(facility.host.watts, facility.pue.value, f" W, PUE {facility.pue.value:g}"),
        rent_usd_per_hour=_hourly_price(prices, facility, today),
        purchase_usd=part_of(facility.host.purchase_usd),
        purchase_scope=Scope.SERVER,
        devices_per_node=1,
    )


def _hourly_price(prices: PricePlan, facility: Facility, today: Date) -> Sourced:
    """The price of the ledger's plan. Ours is as old as the figures that it is made of."""
    price = prices.price(prices.resource_of(_DEVICE), today)
    is_ours = price.source == Mark.OURS
    return Sourced(
        value=float(price.price_usd),
        unit="USD/h",
        source=facility.host.purchase_usd.source if is_ours else price.source,
        date=max(price.valid_from, facility.host.purchase_usd.date) if is_ours else price.valid_from,
        mark=Mark.OURS if is_ours else Mark.SECOND_HAND,
        note=price.note,
    )


def host_usd_per_hour(facility: Facility, *, num_cpus: int, year: int) -> float:
    """What `num_cpus` processors cost by the hour: purchase over life, and power at its mean draw.

    By 2 processors and the electricity of 2025 the default price plan's `host-device-hour` was reckoned.
    """
    host = facility.host
    purchase = host.purchase_usd.value / (host.life_years.value * HOURS_PER_YEAR)
    drawn_kw = host.watts.value / 1000 * facility.mean_draw.value * facility.pue.value
    return (purchase + drawn_kw * facility.electricity(year).value) * num_cpus / host.cores.value
