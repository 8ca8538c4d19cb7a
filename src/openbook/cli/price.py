"""`openbook price`: what a served token costs, and what it is sold for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from openbook.cli.options import AcceleratorFile, Json

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="deepseek-v3, a config.json, a checkpoint or a run of your own. [default: the price lists]",
    ),
]
AcceleratorName = Annotated[
    str, typer.Option("--accelerator", metavar="NAME", help="h800, a100-80, ... or `this`.")
]
PrecisionName = Annotated[
    str | None,
    typer.Option("--precision", metavar="P", help="Of the weights. [default: fp8 where it has it, or bf16]"),
]
Context = Annotated[
    int | None, typer.Option("--context", metavar="N", help="Mean cached tokens while answering.")
]
Hit = Annotated[float | None, typer.Option("--hit", metavar="SHARE", help="Of the input, found in a cache.")]
Ratio = Annotated[
    float | None, typer.Option("--output-per-input", metavar="R", help="Output tokens for each input token.")
]
Speed = Annotated[
    float | None, typer.Option("--speed", metavar="N", help="Tokens a second for each user; 0 is any.")
]
Utilisation = Annotated[
    float | None, typer.Option("--utilisation", metavar="SHARE", help="Busy share of the paid hours.")
]
Rent = Annotated[
    float | None,
    typer.Option("--rent", metavar="USD", help="Of one device for an hour. [default: the table's]"),
]
LayoutText = Annotated[
    str,
    typer.Option(
        "--layout", metavar="KEY=N,..", help="prefill, decode (devices), tp, redundant. [default: what fits]"
    ),
]
Drafts = Annotated[
    str,
    typer.Option("--drafts", metavar="N:SHARE", help="Tokens guessed a step : share accepted, as 1:0.85."),
]
SoldAs = Annotated[
    str | None,
    typer.Option("--sold-as", metavar="VENDOR/MODEL", help="The margin at a listed price."),
]
Cut = Annotated[
    float | None, typer.Option("--cut", metavar="SHARE", help="And after the price falls by so much.")
]
Users = Annotated[
    str | None,
    typer.Option("--users", metavar="N:IN:OUT", help="Devices for N users of IN, OUT tokens a day each."),
]
Lists = Annotated[bool, typer.Option("--lists", help="Show the price lists alone.")]
At = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="TIME", help="The moment of a listed price, UTC: 2025-03-01T17:00Z. [default: now]"
    ),
]
Vendor = Annotated[
    str | None, typer.Option("--vendor", metavar="NAME", help="Lists of one vendor, all dates.")
]
ListFile = Annotated[
    Path | None,
    typer.Option("--price-list", metavar="FILE", help="A price list of your own, instead of ours."),
]
Measured = Annotated[
    bool, typer.Option("--measured", help="Measure a checkpoint on this machine, a minute or so.")
]
Prices = Annotated[
    Path | None, typer.Option("--prices", metavar="FILE", help="A plan of your own for device-hours here.")
]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE.svg", help="Draw cost by batch and load.")]


def price(
    source: Source = None,
    accelerator: AcceleratorName = "h800",
    accelerators: AcceleratorFile = None,
    precision: PrecisionName = None,
    context: Context = None,
    hit: Hit = None,
    output_per_input: Ratio = None,
    speed: Speed = None,
    utilisation: Utilisation = None,
    rent: Rent = None,
    layout: LayoutText = "",
    drafts: Drafts = "",
    sold_as: SoldAs = None,
    cut: Cut = None,
    users: Users = None,
    plot: Plot = None,
    lists: Lists = False,
    at: At = None,
    vendor: Vendor = None,
    price_list: ListFile = None,
    measured: Measured = False,
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """Say what a million served tokens cost, reckoned or measured here, and what vendors ask.

    Without a model: the price lists that hold, and DeepSeek-V3 on H800.
    """
    from openbook.cli import price_text
    from openbook.economics.serving.price_list import PriceList

    given = PriceList.load(price_list) if price_list else PriceList.default()
    moment = read_moment(at)
    if lists or vendor is not None:
        offers = given.of(vendor) if vendor is not None and at is None else given.at(moment, vendor)
        price_text.show_offers(offers, given, moment, as_json)
        return
    if source is not None and (measured or is_own(source)):
        from openbook.cli import price_measured

        found = price_measured.measurement(source, measured=measured, prices=prices)
        price_text.show_measurement(found, as_json)
        return
    from openbook.cli import price_case

    options = price_case.PriceOptions(
        device=price_case.Device(accelerator, accelerators, precision, rent, layout),
        use=price_case.Use(context, hit, output_per_input, speed, utilisation, drafts),
        sale=price_case.Sale(sold_as, cut, users),
        plot=plot,
    )
    reckoned = price_case.reckon(source or "deepseek-v3", options, given, moment)
    overview = given.at(moment) if source is None else ()
    price_text.show_reckoned(reckoned, overview, given, moment, as_json)


def read_moment(text: str | None) -> datetime:
    """A moment in UTC; one without a zone is taken to be in UTC. Raises UserError."""
    from openbook.errors import UserError

    if text is None:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"--at {text!r} is no time", "write it as 2025-03-01T17:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def is_own(source: str) -> bool:
    """Whether a source is a run, a folder of runs or a GGUF file: such are measured and not reckoned."""
    from openbook.economics.serving.models import KNOWN
    from openbook.model.packaged import find_gguf
    from openbook.runs.run import MANIFEST_FILE

    path = Path(source)
    if source.lower() in KNOWN or path.suffix == ".json" or (path / "config.json").is_file():
        return False
    if path.is_dir():
        return any(path.rglob(MANIFEST_FILE))
    return find_gguf(path) is not None or _is_run(source)


def _is_run(source: str) -> bool:
    from openbook.cli.shelf import OUT
    from openbook.errors import UserError
    from openbook.runs.store import resolve_run

    try:
        resolve_run(source, OUT)
    except UserError:
        return False
    return True
