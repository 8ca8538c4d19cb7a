"""Reading accelerators from TOML, strictly. No torch.

A file has `[sources.KEY]` and `[accelerators.NAME]`; `data/accelerators.toml` is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import date as Date

from openbook.config import config, parse_toml
from openbook.economics.accelerator import THIS, Accelerator, Precision, Quote, QuoteKind, Scope
from openbook.economics.sourced import Mark, Sourced
from openbook.economics.sourced_file import Figure, Source, Sources, find_source, to_sourced
from openbook.errors import UserError, nearest


@config
class Offer:
    """A dated price of one device, in dollars (a purchase) or dollars an hour (a rental)."""

    name: str
    usd: float
    date: Date
    kind: QuoteKind
    seller: str
    source: str
    scope: Scope = Scope.SERVER
    mark: Mark | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.usd < float("inf"):
            raise ValueError("a price is positive")


@config
class Entry:
    """An accelerator as the file has it: figures in the units that its makers use."""

    title: str
    devices_per_node: int = 8
    peak_tflops: Mapping[str, Figure]
    matmul_share: Mapping[str, Figure] = field(default_factory=dict)
    memory_gb: Figure | None = None
    memory_tb_per_second: Figure | None = None
    link_gb_per_second: Figure | None = None
    network_gb_per_second: Figure | None = None
    tdp_watts: Figure | None = None
    server_watts: Figure | None = None
    all_in_watts: Figure | None = None
    rent: str | None = None
    rent_reason: str = ""
    rentals: tuple[Offer, ...] = ()
    buy: str | None = None
    buy_reason: str = ""
    purchases: tuple[Offer, ...] = ()

    def __post_init__(self) -> None:
        if self.devices_per_node < 1:
            raise ValueError("devices_per_node must be at least 1")
        if not self.peak_tflops:
            raise ValueError("peak_tflops: give at least one")
        for precision in self.peak_tflops:
            if precision not in list(Precision):
                raise ValueError(
                    f"peak_tflops: unknown precision {precision!r}; known: {', '.join(Precision)}"
                )
        for precision, share in self.matmul_share.items():
            if share.value > 1 or precision not in self.peak_tflops:
                raise ValueError(f"matmul_share of {precision}: a share, at most 1, of a peak that is given")
        for offers in (self.rentals, self.purchases):
            names = [offer.name for offer in offers]
            if len(set(names)) < len(names):
                raise ValueError(f"two prices have one name: {', '.join(names)}")
        if any(offer.kind is QuoteKind.PURCHASE for offer in self.rentals):
            raise ValueError("rentals: a price of kind 'purchase' belongs under purchases")
        if any(offer.kind is not QuoteKind.PURCHASE for offer in self.purchases):
            raise ValueError("purchases: every price is of kind 'purchase'")


@config
class _File:
    sources: Mapping[str, Source] = field(default_factory=dict)
    accelerators: Mapping[str, Entry]


def read_accelerators(text: str, *, where: str) -> dict[str, Accelerator]:
    """The accelerators of a TOML text by name; `where` names it in errors. Raises UserError."""
    file = parse_toml(_File, text, where=f"accelerators {where}")
    try:
        return {name: _accelerator(name, entry, file.sources) for name, entry in file.accelerators.items()}
    except UserError as error:
        raise UserError(f"accelerators {where}: {error.what}", error.mend) from error


def _accelerator(name: str, entry: Entry, sources: Sources) -> Accelerator:
    where = f"accelerators.{name}"
    if name == THIS:
        raise UserError(f"{where}: that name is taken by the machine at hand", "choose another")
    if name != name.lower():
        raise UserError(f"{where}: names are in small letters", f"call it {name.lower()!r}")

    def figure(key: str, unit: str, factor: float = 1.0) -> Sourced | None:
        given: Figure | None = getattr(entry, key)
        at = f"{where}.{key}"
        return None if given is None else to_sourced(given, sources, unit=unit, factor=factor, where=at)

    def figures(key: str, unit: str, factor: float = 1.0) -> dict[Precision, Sourced]:
        given: Mapping[str, Figure] = getattr(entry, key)
        return {
            Precision(precision): to_sourced(
                one, sources, unit=unit, factor=factor, where=f"{where}.{key}.{precision}"
            )
            for precision, one in given.items()
        }

    rentals = tuple(_quote(one, "USD/h", sources, f"{where}.rentals") for one in entry.rentals)
    purchases = tuple(_quote(one, "USD", sources, f"{where}.purchases") for one in entry.purchases)
    rental = _chosen(entry.rent, rentals, f"{where}.rent")
    purchase = _chosen(entry.buy, purchases, f"{where}.buy")
    return Accelerator(
        name=name,
        title=entry.title,
        peak_flops=figures("peak_tflops", "FLOP/s", 1e12),
        matmul_share=figures("matmul_share", "of peak"),
        memory_bytes=figure("memory_gb", "bytes", 1e9),
        memory_bandwidth=figure("memory_tb_per_second", "bytes/s", 1e12),
        link_bandwidth=figure("link_gb_per_second", "bytes/s", 1e9),
        network_bandwidth=figure("network_gb_per_second", "bytes/s", 1e9),
        tdp_watts=figure("tdp_watts", "W"),
        server_watts=figure("server_watts", "W"),
        all_in_watts=figure("all_in_watts", "W"),
        rent_usd_per_hour=_price(rental, entry.rent_reason),
        purchase_usd=_price(purchase, entry.buy_reason),
        purchase_scope=Scope.SERVER if purchase is None else purchase.scope,
        devices_per_node=entry.devices_per_node,
        rentals=rentals,
        purchases=purchases,
    )


def _quote(given: Offer, unit: str, sources: Sources, where: str) -> Quote:
    source = find_source(given.source, sources, where=f"{where}.{given.name}")
    price = Sourced(
        value=given.usd,
        unit=unit,
        source=source.title,
        date=given.date,
        mark=given.mark or source.mark,
        note=given.note,
    )
    return Quote(name=given.name, kind=given.kind, seller=given.seller, scope=given.scope, price=price)


def _chosen(name: str | None, quotes: tuple[Quote, ...], where: str) -> Quote | None:
    if name is None:
        return None
    for quote in quotes:
        if quote.name == name:
            return quote
    raise UserError(f"{where}: no price is called {name!r}", nearest(name, [quote.name for quote in quotes]))


def _price(quote: Quote | None, reason: str) -> Sourced | None:
    """The price of the chosen quote, with what it was and why it was chosen in its note."""
    if quote is None:
        return None
    parts = (f"{quote.kind}, {quote.seller}", reason, quote.price.note)
    return replace(quote.price, note="; ".join(part for part in parts if part))
