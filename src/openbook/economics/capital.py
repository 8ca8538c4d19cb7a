"""What owned capacity costs by the hour, and when owning beats renting. No torch.

capital_recovery_factor(0.10, 5)                                  0.26380
levelised(OwnedDevice(capex_usd=24_902.34, rate=0.10, years=5))   6,569.17 a year, $0.7499 an hour
"""

from __future__ import annotations

from dataclasses import dataclass

from openbook.errors import UserError

HOURS_PER_YEAR = 8760


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnedDevice:
    """One device that was bought: its price, what capital costs, its life, and what it takes to run.

    `utilisation` is the share of all hours in which it earns; `all_in_kilowatts` is drawn at the meter
    of the rack and multiplied by `power_usage_effectiveness` (1 if it already holds the cooling).
    """

    capex_usd: float
    rate: float
    years: float
    salvage_usd: float = 0.0
    opex_usd_per_year: float = 0.0
    utilisation: float = 1.0
    all_in_kilowatts: float = 0.0
    power_usage_effectiveness: float = 1.0
    usd_per_kilowatt_hour: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.utilisation <= 1:
            raise UserError(
                f"a utilisation of {self.utilisation:g} is not a share", "give one above 0 and up to 1"
            )
        for name in ("capex_usd", "salvage_usd", "opex_usd_per_year", "all_in_kilowatts"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name):g}", "it cannot be negative")
        if self.power_usage_effectiveness < 1:
            raise UserError(
                f"a PUE of {self.power_usage_effectiveness:g} would make energy",
                "give the whole facility's power over the machines', 1 or more",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelisedCost:
    """What an hour of an owned device costs, by part; energy is paid in busy hours alone."""

    capital_usd_per_year: float
    capital_usd_per_hour: float
    opex_usd_per_hour: float
    energy_usd_per_hour: float

    @property
    def usd_per_hour(self) -> float:
        return self.capital_usd_per_hour + self.opex_usd_per_hour + self.energy_usd_per_hour


def capital_recovery_factor(rate: float, years: float) -> float:
    """r / (1 - (1 + r)^-n): the yearly payment that returns 1 with interest; 1/n at no interest."""
    if years <= 0:
        raise UserError(f"a life of {years:g} years", "give one above 0")
    if rate <= -1:
        raise UserError(f"a cost of capital of {rate:g}", "give it as a share, such as 0.10")
    return 1 / years if rate == 0 else rate / (1 - (1 + rate) ** -years)


def levelised(device: OwnedDevice) -> LevelisedCost:
    """[(capex CRF - salvage r / ((1 + r)^n - 1)) + opex] / (8760 u) + kW x PUE x $/kWh."""
    sinking = capital_recovery_factor(device.rate, device.years) - device.rate
    per_year = device.capex_usd * (sinking + device.rate) - device.salvage_usd * sinking
    busy_hours = HOURS_PER_YEAR * device.utilisation
    energy = device.all_in_kilowatts * device.power_usage_effectiveness * device.usd_per_kilowatt_hour
    return LevelisedCost(
        capital_usd_per_year=per_year,
        capital_usd_per_hour=per_year / busy_hours,
        opex_usd_per_hour=device.opex_usd_per_year / busy_hours,
        energy_usd_per_hour=energy,
    )


def rent_or_buy_hours(price_usd: float, rent_usd_per_hour: float, running_usd_per_hour: float = 0.0) -> float:
    """Busy hours after which a bought device has cost less than a rented one.

    Raises UserError when running an owned device costs as much as the rent: then it never does.
    """
    saved = rent_usd_per_hour - running_usd_per_hour
    if saved <= 0:
        raise UserError(
            f"running an owned device at {running_usd_per_hour:g} USD/h saves nothing over a rent of "
            f"{rent_usd_per_hour:g} USD/h",
            "buying never pays back at these prices",
        )
    return price_usd / saved
