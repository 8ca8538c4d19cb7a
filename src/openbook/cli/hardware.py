"""`openbook ledger hardware`: machines that are owned, and what their days cost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from openbook.cli.bookkeeping import day_of, open_book, tomorrow
from openbook.cli.groups import Group
from openbook.cli.options import BookAt, Json, Prices, Root

app = typer.Typer(cls=Group, help="Machines that are owned.", no_args_is_help=True)


@app.command("add")
def add_one(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    price: Annotated[str, typer.Option("--price", metavar="USD", help="What one of them cost.")],
    date: Annotated[str, typer.Option("--date", metavar="DAY", help="The first day of its use.")],
    life: Annotated[
        str, typer.Option("--life", metavar="TIME", help="How long it is used: 5y, 48months, 900d.")
    ],
    source: Annotated[str, typer.Option("--source", metavar="TEXT", help="Who says so: an invoice, a list.")],
    salvage: Annotated[
        str, typer.Option("--salvage", metavar="USD", help="What one is worth after that.")
    ] = "0",
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="straight-line, or declining by the same share.")
    ] = "straight-line",
    count: Annotated[int, typer.Option("--count", metavar="N", help="How many of them.")] = 1,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="What runs call it: cpu, or the name of a GPU.")
    ] = "cpu",
    prices: Prices = None,
    root: Root = Path("out"),
    location: BookAt = None,
) -> None:
    """Enter what was bought, and from then on what its days cost.

    Its price less its salvage is spread over its life, month by month: hours that runs used, and idle
    ones. `openbook bill` books it up to the day.
    """
    from openbook.errors import UserError, nearest
    from openbook.ledger.depreciation import Hardware, Method
    from openbook.ledger.hardware import add_hardware, book_hardware
    from openbook.ledger.prices import PricePlan
    from openbook.ledger.stated import parse_money

    day = day_of("--date", date)
    assert day is not None
    if method not in list(Method):
        raise UserError(f"there is no method {method!r}", nearest(method, list(map(str, Method))))
    plan = PricePlan.load(prices) if prices else PricePlan.default()
    plan.resource_of(device)  # refuses what no run could be priced as
    bought = Hardware(
        name=name,
        device=device,
        count=count,
        price_usd=parse_money(price),
        salvage_usd=parse_money(salvage),
        bought_on=day,
        life_days=_life_days(life),
        method=Method(method),
        source=source.strip(),
    )
    with open_book(location, root) as book:
        add_hardware(book, bought)
        book_hardware(book, plan, tomorrow())
    list_hardware(root=root, location=location, as_json=False)


@app.command("list")
def list_hardware(root: Root = Path("out"), location: BookAt = None, as_json: Json = False) -> None:
    """What is owned, how far it is used up, and what of that was idle."""
    from openbook.cli.render import print_json, print_table
    from openbook.ledger.hardware import ownership
    from openbook.ledger.statement import usd_text
    from openbook.units import show_usd

    with open_book(location, root) as book:
        found = ownership(book)
    if as_json:
        print_json(
            [
                {
                    "name": one.hardware.name,
                    "device": one.hardware.device,
                    "count": one.hardware.count,
                    "method": str(one.hardware.method),
                    "bought_on": one.hardware.bought_on,
                    "life_days": one.hardware.life_days,
                    "cost_usd": usd_text(one.hardware.cost_nano_usd),
                    "used_up_usd": usd_text(one.used_up_nano_usd),
                    "idle_usd": usd_text(one.idle_nano_usd),
                    "value_usd": usd_text(one.value_nano_usd),
                }
                for one in found
            ]
        )
        return
    rows = [
        [
            one.hardware.name,
            one.hardware.count,
            one.hardware.device,
            one.hardware.bought_on,
            f"{one.hardware.life_days} days",
            show_usd(one.hardware.cost_nano_usd),
            show_usd(one.used_up_nano_usd),
            show_usd(one.idle_nano_usd),
            show_usd(one.value_nano_usd),
        ]
        for one in found
    ]
    columns = ["name", "count", "device", "since", "life", "cost", "used up", "of it idle", "still worth"]
    print_table(columns, rows, right=("count", "life", "cost", "used up", "of it idle", "still worth"))


def _life_days(text: str) -> int:
    """A life as typed, in days: a year has 365 of them, a month a twelfth of that."""
    from openbook.errors import UserError
    from openbook.ledger.depreciation import DAYS_PER_YEAR

    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(y|years?|m|months?|d|days?)\s*", text.lower())
    if found is None:
        raise UserError(f"--life {text!r} is no time", "such as 5y, 48months or 900d")
    days = {"y": DAYS_PER_YEAR, "m": DAYS_PER_YEAR / 12, "d": 1}[found[2][0]]
    return round(float(found[1]) * days)
