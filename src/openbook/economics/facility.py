"""What stands around an accelerator: power, cooling, electricity, the server and its life, capital. No torch.

    load_facility().electricity(2025).value -> 0.0826
    load_facility().watts_drawn(find_accelerator("h100"))

The figures lie in `data/facility.toml`; a user's file of the same layout takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

from openbook.config import config, parse_toml, read_text
from openbook.economics.accelerator import Accelerator, Scope
from openbook.economics.sourced import Mark, Sourced
from openbook.economics.sourced_file import Figure, Source, Sources, to_sourced

HOURS_PER_YEAR = 8760


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """The server that the machine at hand is taken to be a share of, by cores."""

    cores: Sourced
    purchase_usd: Sourced
    life_years: Sourced
    watts: Sourced


@dataclass(frozen=True, kw_only=True, slots=True)
class Facility:
    """The surroundings of accelerators. Shares and factors are plain numbers, money is in dollars."""

    pue: Sourced
    pue_hyperscaler: Sourced
    mean_draw: Sourced
    """Of a server's power at its limit, while training."""
    server_power_factor: Sourced
    overhead_over_devices: Sourced
    """Everything over the energy of the devices alone, as one operator measured it."""
    electricity_usd_per_kwh: Mapping[int, Sourced]
    server_cost_factors: Mapping[str, Sourced]
    default_server_cost_factor: Sourced
    interconnect_share: Sourced
    """Of what the whole cluster costs."""
    server_lives: Mapping[int, Sourced]
    """Years that a server lasts, by the first year in which it was bought."""
    book_lives: Mapping[str, Sourced]
    """Years over which companies write servers off."""
    capital_rate: Sourced
    """Interest on capital, a year."""
    value_decline_per_year: Sourced
    """Orders of magnitude that a device loses in value in a year."""
    usd_per_gigawatt: Sourced
    device_hours_between_failures: Sourced
    effective_share: Sourced
    host: Host

    def electricity(self, year: int) -> Sourced:
        """Dollars per kWh in `year`: of the nearest year that is known, which the note then names."""
        nearest = min(self.electricity_usd_per_kwh, key=lambda known: (abs(known - year), -known))
        price = self.electricity_usd_per_kwh[nearest]
        return price if nearest == year else replace(price, note=f"{price.note} Of {nearest}.".strip())

    def server_life_years(self, year: int) -> Sourced:
        """Years that a server bought in `year` lasts."""
        return self.server_lives[max(known for known in self.server_lives if known <= year)]

    def server_cost_factor(self, accelerator: Accelerator) -> Sourced:
        """Price of a server over that of the devices in it."""
        return self.server_cost_factors.get(accelerator.name, self.default_server_cost_factor)

    def owned_usd(self, accelerator: Accelerator) -> Sourced | None:
        """What one device costs to own with its share of the server, without the network between servers.

        None where no purchase price is known. The price of a bare device is raised by the server's factor;
        that of a whole server is taken as it is.
        """
        price = accelerator.purchase_usd
        if price is None or accelerator.purchase_scope is Scope.SERVER:
            return price
        factor = self.server_cost_factor(accelerator)
        note = f"{price.value:,.0f} for the device, times {factor.value:g} for its server ({factor.source})"
        return replace(price, value=price.value * factor.value, mark=Mark.OURS, note=note)

    def watts_drawn(self, accelerator: Accelerator, *, is_hyperscaler: bool = False) -> Sourced | None:
        """Watts that one device draws while it trains, its server and the building included.

        The server's power, times its mean draw, times the PUE. Where the server's power is not known: the
        chip's times the usual factor. None where neither is known. `all_in_watts` is what others reckon with
        and is not used here: it holds another PUE and no mean draw.
        """
        pue = self.pue_hyperscaler if is_hyperscaler else self.pue
        if accelerator.server_watts is not None:
            base, watts = accelerator.server_watts, accelerator.server_watts.value
            part = f"{watts:,.0f} W in its server"
        elif accelerator.tdp_watts is not None:
            base = accelerator.tdp_watts
            watts = base.value * self.server_power_factor.value
            part = f"{base.value:,.0f} W of the chip times {self.server_power_factor.value:g} for the server"
        else:
            return None
        note = f"{part}, {self.mean_draw.value:.0%} drawn, PUE {pue.value:g}"
        return replace(base, value=watts * self.mean_draw.value * pue.value, mark=Mark.OURS, note=note)


@config
class _Power:
    pue: Figure
    pue_hyperscaler: Figure
    mean_draw: Figure
    server_power_factor: Figure
    overhead_over_devices: Figure


@config
class _Year:
    year: int
    usd_per_kwh: Figure


@config
class _Life:
    from_year: int
    years: Figure


@config
class _Server:
    cost_factor: Figure
    cost_factors: Mapping[str, Figure]
    interconnect_share: Figure
    lives: tuple[_Life, ...]


@config
class _Books:
    lives: Mapping[str, Figure]


@config
class _Capital:
    rate: Figure
    value_decline_per_year: Figure
    usd_per_gigawatt: Figure


@config
class _Failures:
    device_hours_between: Figure
    effective_share: Figure


@config
class _Host:
    cores: Figure
    purchase_usd: Figure
    life_years: Figure
    watts: Figure


@config
class _File:
    sources: Mapping[str, Source]
    power: _Power
    electricity: tuple[_Year, ...]
    server: _Server
    books: _Books
    capital: _Capital
    failures: _Failures
    host: _Host

    def __post_init__(self) -> None:
        if not self.electricity or not self.server.lives:
            raise ValueError("electricity and server.lives: give at least one year")


def load_facility(path: Path | None = None) -> Facility:
    """The facility of the file at `path`, or of the package. Raises UserError for one that does not fit."""
    if path is None:
        return _packaged()
    return read_facility(read_text(path, "facility"), where=str(path))


@cache
def _packaged() -> Facility:
    data = resources.files("openbook.economics").joinpath("data/facility.toml")
    return read_facility(data.read_text(encoding="utf-8"), where="facility.toml")


def read_facility(text: str, *, where: str) -> Facility:
    """The facility of a TOML text; `where` names it in errors. Raises UserError."""
    file = parse_toml(_File, text, where=f"facility {where}")

    def read(figure: Figure, unit: str) -> Sourced:
        return to_sourced(figure, file.sources, unit=unit, where=f"facility {where}")

    def read_all(figures: Mapping[str, Figure], unit: str) -> dict[str, Sourced]:
        return {name: read(figure, unit) for name, figure in figures.items()}

    return Facility(
        pue=read(file.power.pue, "of the servers' power"),
        pue_hyperscaler=read(file.power.pue_hyperscaler, "of the servers' power"),
        mean_draw=read(file.power.mean_draw, "of the server's limit"),
        server_power_factor=read(file.power.server_power_factor, "of the chip's power"),
        overhead_over_devices=read(file.power.overhead_over_devices, "of the devices' energy"),
        electricity_usd_per_kwh={one.year: read(one.usd_per_kwh, "USD/kWh") for one in file.electricity},
        server_cost_factors=read_all(file.server.cost_factors, "of the devices' price"),
        default_server_cost_factor=read(file.server.cost_factor, "of the devices' price"),
        interconnect_share=read(file.server.interconnect_share, "of the cluster's cost"),
        server_lives={one.from_year: read(one.years, "years") for one in file.server.lives},
        book_lives=read_all(file.books.lives, "years"),
        capital_rate=read(file.capital.rate, "a year"),
        value_decline_per_year=read(file.capital.value_decline_per_year, "orders of magnitude a year"),
        usd_per_gigawatt=read(file.capital.usd_per_gigawatt, "USD/GW"),
        device_hours_between_failures=read(file.failures.device_hours_between, "device hours"),
        effective_share=read(file.failures.effective_share, "of the time"),
        host=_host(file.host, file.sources, where),
    )


def _host(given: _Host, sources: Sources, where: str) -> Host:
    def read(figure: Figure, unit: str) -> Sourced:
        return to_sourced(figure, sources, unit=unit, where=f"facility {where}: host")

    return Host(
        cores=read(given.cores, "cores"),
        purchase_usd=read(given.purchase_usd, "USD"),
        life_years=read(given.life_years, "years"),
        watts=read(given.watts, "W"),
    )
