"""One accelerator: what it can do at most, what it holds, draws and costs. No torch.

Peaks are dense: no vendor's doubling for sparsity. `Precision.FP32` is the rate without tensor cores, which
is what training in fp32 uses unless TF32 is switched on; that rate stands under `Precision.TF32`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from openbook.economics.sourced import Mark, Sourced
from openbook.errors import UserError, nearest

THIS = "this"
"""The name of the machine at hand."""


class Precision(StrEnum):
    """What a matrix product multiplies in."""

    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    FP4 = "fp4"
    FP32 = "fp32"
    TF32 = "tf32"

    @property
    def num_bytes(self) -> float:
        """Bytes of one number in memory; TF32 is stored as fp32, and fp4 without its scales."""
        return {"fp8": 1.0, "fp4": 0.5, "fp32": 4.0, "tf32": 4.0}.get(self.value, 2.0)


class QuoteKind(StrEnum):
    """What a price was: two kinds are not compared without saying so."""

    ASSUMED = "assumed"
    """Written down in somebody's reckoning; nobody need have paid it."""
    ON_DEMAND = "on-demand"
    SPOT = "spot"
    """On demand, and it may be taken away."""
    ONE_YEAR = "1-year"
    THREE_YEARS = "3-year"
    INDEX = "index"
    """An average over sellers."""
    OWNERSHIP = "ownership"
    """What owning one is reckoned to cost by the hour."""
    MARKET = "market"
    """What a survey of the market found for renting by the month."""
    PURCHASE = "purchase"


class Scope(StrEnum):
    """What a price of one device pays for."""

    DEVICE = "device"
    """The chip, module or baseboard alone: a server costs more by `Facility.server_cost_factor`."""
    SERVER = "server"
    """Its share of a whole server, ready to run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quote:
    """A price that was asked, paid or assumed once, under a name."""

    name: str
    kind: QuoteKind
    seller: str
    scope: Scope
    price: Sourced
    """USD/h for a rental, USD for a purchase, each of one device."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accelerator:
    """A kind of device. A figure for which no source was found is None, and `missing()` names it."""

    name: str
    title: str
    peak_flops: Mapping[Precision, Sourced]
    """Dense FLOP/s at most, by what is multiplied."""
    matmul_share: Mapping[Precision, Sourced]
    """The share of the peak that a matrix product of the best shape was measured to reach."""
    memory_bytes: Sourced | None
    memory_bandwidth: Sourced | None
    """Bytes a second."""
    link_bandwidth: Sourced | None
    """Bytes a second one way between devices of a node."""
    network_bandwidth: Sourced | None
    """Bytes a second one way between nodes, for each device."""
    tdp_watts: Sourced | None
    """The chip or module alone, at its limit."""
    all_in_watts: Sourced | None
    """With its share of the server, the network and the cooling of the building: no PUE comes on top."""
    rent_usd_per_hour: Sourced | None
    """The rental that is taken by default; the note says why this one of `rentals`."""
    purchase_usd: Sourced | None
    """The purchase price of one device, chosen from `purchases` likewise; `purchase_scope` says of what."""
    devices_per_node: int
    """How many devices the fast link joins."""
    server_watts: Sourced | None = None
    """With its share of the server and its network cards, without the building: a PUE comes on top."""
    purchase_scope: Scope = Scope.SERVER
    rentals: tuple[Quote, ...] = ()
    purchases: tuple[Quote, ...] = ()

    def peak(self, precision: Precision) -> Sourced:
        """The dense peak for `precision`. Raises UserError when the device has none."""
        require_precision(self, precision)
        return self.peak_flops[precision]

    def achievable_share(self, precision: Precision) -> Sourced | None:
        """`matmul_share` for `precision`; where it was not measured, that of 16 bits, marked as ours.

        None where nothing was measured. Raises UserError when the device cannot compute in `precision`.
        """
        require_precision(self, precision)
        if precision in self.matmul_share:
            return self.matmul_share[precision]
        for nearby in (Precision.BF16, Precision.FP16, *self.matmul_share):
            if nearby in self.matmul_share:
                note = f"measured for {nearby}; nothing is known for {precision}"
                return replace(self.matmul_share[nearby], mark=Mark.OURS, note=note)
        return None

    def rental(self, name: str) -> Quote:
        """The rental that goes by `name`. Raises UserError for an unknown one."""
        return _quote(self.rentals, name, f"{self.name} has no rental price")

    def purchase(self, name: str) -> Quote:
        """The purchase price that goes by `name`. Raises UserError for an unknown one."""
        return _quote(self.purchases, name, f"{self.name} has no purchase price")

    def at_rent(self, usd_per_hour: float, *, today: date) -> Accelerator:
        """The same device at the user's own rental price. Raises UserError for a price that is none."""
        return replace(self, rent_usd_per_hour=_own(usd_per_hour, "USD/h", "--rent", today))

    def at_purchase(self, usd: float, *, today: date) -> Accelerator:
        """The same device at the user's own price, its share of the server included. Raises UserError."""
        own = _own(usd, "USD", "--purchase", today)
        return replace(self, purchase_usd=own, purchase_scope=Scope.SERVER)

    def missing(self) -> tuple[str, ...]:
        """The figures that are not known, each with what supplies it: `rent_usd_per_hour: --rent`."""
        unknown = {field: option for field, option in SUPPLIED_BY.items() if not getattr(self, field)}
        if self.server_watts is not None:
            unknown.pop("all_in_watts", None)  # the server's watts and a PUE stand in for it
        if self.name == THIS:
            for needless in ("link_bandwidth", "network_bandwidth", "tdp_watts"):
                unknown.pop(needless, None)  # one device, whose power is a share of a server's
        return tuple(f"{field}: {option}" for field, option in unknown.items())


SUPPLIED_BY: Mapping[str, str] = {
    "rent_usd_per_hour": "--rent",
    "purchase_usd": "--purchase",
    "matmul_share": "--accelerators FILE",
    "memory_bytes": "--accelerators FILE",
    "memory_bandwidth": "--accelerators FILE",
    "link_bandwidth": "--accelerators FILE",
    "network_bandwidth": "--accelerators FILE",
    "tdp_watts": "--accelerators FILE",
    "server_watts": "--accelerators FILE",
    "all_in_watts": "--accelerators FILE",
}
"""Which option supplies a figure that is not known."""


def require_precision(accelerator: Accelerator, precision: Precision) -> None:
    """Raise UserError with the reason when the device has no arithmetic for `precision`."""
    if precision in accelerator.peak_flops:
        return
    has = ", ".join(str(known) for known in Precision if known in accelerator.peak_flops)
    if precision is Precision.BF16:
        why = "its tensor cores have no bf16"
    elif precision in (Precision.FP8, Precision.FP4):
        why = f"it has no arithmetic in {precision}, so nothing would run faster than in 16 bits"
    else:
        why = f"no peak of it for {precision} is known"
    raise UserError(
        f"{accelerator.title} ({accelerator.name}) cannot compute in {precision}: {why}",
        f"it has {has}; choose one with --precision, or another --accelerator",
    )


def _quote(quotes: tuple[Quote, ...], name: str, fault: str) -> Quote:
    for quote in quotes:
        if quote.name == name:
            return quote
    known = [quote.name for quote in quotes]
    raise UserError(f"{fault} called {name!r}", nearest(name, known) if known else "none is known")


def _own(value: float, unit: str, option: str, today: date) -> Sourced:
    if not 0 <= value < float("inf"):
        raise UserError(f"{option} {value:g}: a price is a number that is not negative", f"give it in {unit}")
    return Sourced(value=value, unit=unit, source=f"{option} of the user", date=today, mark=Mark.OURS)
