"""Reading accelerators from TOML, strictly. No torch.

A file has `[sources.KEY]` (title, date, mark) and `[accelerators.NAME]`; a figure names the key of its source
and takes date and mark from there unless it gives its own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import date as Date

from openbook.config import config, parse
from openbook.economics.accelerator import THIS, Accelerator, Precision, Quote, QuoteKind
from openbook.economics.sourced import Mark, Sourced
from openbook.errors import UserError, nearest


@config
class Source:
    """Who says something, and when it was said or read."""

    title: str
    date: Date
    mark: Mark


@config
class Figure:
    """A number in the unit of its key, and the key of its source."""

    value: float
    source: str
    date: Date | None = None
    mark: Mark | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.value < float("inf"):
            raise ValueError("a figure is positive; leave it out where it is not known")


@config
class Offer:
    """A dated price of one device, in dollars (a purchase) or dollars an hour (a rental)."""

    name: str
    usd: float
    date: Date
    kind: QuoteKind
    seller: str
    source: str
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


@config
class _File:
    sources: Mapping[str, Source] = field(default_factory=dict)
    accelerators: Mapping[str, Entry]


def read_accelerators(text: str, *, where: str) -> dict[str, Accelerator]:
    """The accelerators of a TOML text by name; `where` names it in errors. Raises UserError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"accelerators {where}: not valid TOML: {error}") from error
    try:
        file = parse(_File, data)
        return {name: _accelerator(name, entry, file.sources) for name, entry in file.accelerators.items()}
    except UserError as error:
        raise UserError(f"accelerators {where}: {error.what}", error.mend) from error


def _accelerator(name: str, entry: Entry, sources: Mapping[str, Source]) -> Accelerator:
    where = f"accelerators.{name}"
    if name == THIS:
        raise UserError(f"{where}: that name is taken by the machine at hand", "choose another")
    if name != name.lower():
        raise UserError(f"{where}: names are in small letters", f"call it {name.lower()!r}")

    def figure(key: str, given: Figure | None, unit: str, factor: float) -> Sourced | None:
        return None if given is None else _sourced(given, unit, factor, sources, f"{where}.{key}")

    def figures(key: str, given: Mapping[str, Figure], unit: str, factor: float) -> dict[Precision, Sourced]:
        return {
            Precision(precision): _sourced(one, unit, factor, sources, f"{where}.{key}.{precision}")
            for precision, one in given.items()
        }

    rentals = tuple(_quote(one, "USD/h", sources, f"{where}.rentals") for one in entry.rentals)
    purchases = tuple(_quote(one, "USD", sources, f"{where}.purchases") for one in entry.purchases)
    return Accelerator(
        name=name,
        title=entry.title,
        peak_flops=figures("peak_tflops", entry.peak_tflops, "FLOP/s", 1e12),
        matmul_share=figures("matmul_share", entry.matmul_share, "of peak", 1.0),
        memory_bytes=figure("memory_gb", entry.memory_gb, "bytes", 1e9),
        memory_bandwidth=figure("memory_tb_per_second", entry.memory_tb_per_second, "bytes/s", 1e12),
        link_bandwidth=figure("link_gb_per_second", entry.link_gb_per_second, "bytes/s", 1e9),
        network_bandwidth=figure("network_gb_per_second", entry.network_gb_per_second, "bytes/s", 1e9),
        tdp_watts=figure("tdp_watts", entry.tdp_watts, "W", 1.0),
        all_in_watts=figure("all_in_watts", entry.all_in_watts, "W", 1.0),
        rent_usd_per_hour=_chosen(entry.rent, entry.rent_reason, rentals, f"{where}.rent"),
        purchase_usd=_chosen(entry.buy, entry.buy_reason, purchases, f"{where}.buy"),
        devices_per_node=entry.devices_per_node,
        rentals=rentals,
        purchases=purchases,
    )


def _sourced(given: Figure, unit: str, factor: float, sources: Mapping[str, Source], where: str) -> Sourced:
    source = _source(given.source, sources, where)
    return Sourced(
        value=given.value * factor,
        unit=unit,
        source=source.title,
        date=given.date or source.date,
        mark=given.mark or source.mark,
        note=given.note,
    )


def _quote(given: Offer, unit: str, sources: Mapping[str, Source], where: str) -> Quote:
    source = _source(given.source, sources, f"{where}.{given.name}")
    price = Sourced(
        value=given.usd,
        unit=unit,
        source=source.title,
        date=given.date,
        mark=given.mark or source.mark,
        note=given.note,
    )
    return Quote(name=given.name, kind=given.kind, seller=given.seller, price=price)


def _chosen(name: str | None, reason: str, quotes: tuple[Quote, ...], where: str) -> Sourced | None:
    """The price of the quote called `name`, with what it was and why it was chosen in its note."""
    if name is None:
        return None
    for quote in quotes:
        if quote.name == name:
            parts = (f"{quote.kind}, {quote.seller}", reason, quote.price.note)
            return replace(quote.price, note="; ".join(part for part in parts if part))
    raise UserError(f"{where}: no price is called {name!r}", nearest(name, [quote.name for quote in quotes]))


def _source(key: str, sources: Mapping[str, Source], where: str) -> Source:
    if key not in sources:
        mend = nearest(key, list(sources)) if sources else "add it under [sources]"
        raise UserError(f"{where}: unknown source {key!r}", mend)
    return sources[key]
