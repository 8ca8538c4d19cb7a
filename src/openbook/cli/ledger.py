"""`openbook ledger`: entries by hand, from files and into files, and the hardware that is owned."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openbook.cli.bookkeeping import check, day_of, open_book, runs_below, tomorrow, until_of
from openbook.cli.groups import Group
from openbook.cli.options import BookAt, Json, Prices, Root

if TYPE_CHECKING:
    from openbook.ledger.rows import NumberedEntry

app = typer.Typer(
    cls=Group,
    help="The books: entries by hand, from files and into files, and owned hardware.",
    no_args_is_help=True,
)
hardware = typer.Typer(cls=Group, help="Machines that are owned.", no_args_is_help=True)
app.add_typer(hardware, name="hardware")

Account = Annotated[
    str,
    typer.Option(
        "--account", metavar="NAME", help="What it goes to: staff, data, storage, teacher_tokens, ..."
    ),
]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why, or what it was.")]


@app.command("add")
def add(
    account: Account,
    quantity: Annotated[str, typer.Option("--quantity", metavar="N", help="How many units.")],
    unit: Annotated[
        str, typer.Option("--unit", metavar="UNIT", help="hour, device-hour, million-tokens, usd, ...")
    ],
    price: Annotated[str, typer.Option("--price", metavar="USD", help="Dollars for one unit.")],
    source: Annotated[
        str, typer.Option("--source", metavar="TEXT", help="Who says so: an invoice, a contract, a list.")
    ],
    date: Annotated[str, typer.Option("--date", metavar="DAY", help="When: 2026-11-30.")],
    until: Annotated[
        str | None, typer.Option("--until", metavar="DAY", help="Its last day. [default: the same]")
    ] = None,
    note: Note = "",
    run: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="The run it belongs to. [default: none]")
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage", metavar="NAME", help="Of a run that has no folder here, such as a published one."
        ),
    ] = None,
    parent: Annotated[
        list[str] | None,
        typer.Option("--parent", metavar="ID", help="What that run was made from; may be given again."),
    ] = None,
    programme: Annotated[
        str,
        typer.Option("--programme", metavar="NAME", help="What it is all for, where there is more than one."),
    ] = "",
    root: Root = Path("out"),
    location: BookAt = None,
    as_json: Json = False,
) -> None:
    """Enter something by hand.

    Staff, data, storage, a teacher's tokens, an invoice. Nothing is changed afterwards: a mistake is
    taken back by `openbook ledger reverse`.
    """
    from openbook.cli.render import print_json
    from openbook.errors import UserError
    from openbook.ledger.stated import Stated, StatedRun, add_stated, parse_money
    from openbook.units import show_usd

    day = day_of("--date", date)
    assert day is not None
    if (stage or parent) and not run:
        raise UserError("--stage and --parent are about a run", "name it with --run")
    stated = Stated(
        account=account,
        quantity=_number("--quantity", quantity),
        unit=unit,
        price_usd=parse_money(price),
        source=source,
        day=day,
        until=until_of("--until", until),
        note=note,
        run_id=run,
        programme=programme,
    )
    made_up = StatedRun(run_id=run, stage=stage, parents=parent or ()) if run and stage else None
    with open_book(location, root) as book:
        number = add_stated(book, stated, made_up)
        (entry,) = (one for one in book.entries(after=number - 1) if one.number == number)
    if as_json:
        print_json(_to_json(entry))
        return
    print(f"entry {number}: {show_usd(entry.entry.amount_nano_usd)}")


@app.command("reverse")
def reverse(
    number: Annotated[int, typer.Argument(metavar="ENTRY", help="Its number in `openbook ledger list`.")],
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why it is taken back.")],
    root: Root = Path("out"),
    location: BookAt = None,
) -> None:
    """Take an entry back by one that undoes it; both stay in the books."""
    from openbook.errors import UserError

    if not note.strip():
        raise UserError("a reversal needs its reason", "--note TEXT")
    with open_book(location, root) as book, book.changing() as change:
        undone_by = change.reverse(number, time=datetime.now(UTC), note=note)
    print(f"entry {undone_by} takes back entry {number}")


@app.command("list")
def list_entries(
    account: Annotated[str | None, typer.Option("--account", metavar="NAME", help="Of this account.")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Of this run.")] = None,
    origin: Annotated[
        str | None, typer.Option("--origin", metavar="NAME", help="Entered by openbook, hand or import.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DAY", help="From this day or month on.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DAY", help="To this day or month, included.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="The last so many.")] = 40,
    root: Root = Path("out"),
    location: BookAt = None,
    as_json: Json = False,
) -> None:
    """The entries, oldest first."""
    from openbook.cli.render import print_json
    from openbook.ledger.accounts import find_account
    from openbook.ledger.listing import Wanted, find_entries

    wanted = Wanted(
        account=None if account is None else find_account(account).name,
        run_id=run,
        origin=origin,
        since=day_of("--since", since),
        until=until_of("--until", until),
    )
    with open_book(location, root) as book:
        found, num_found = find_entries(book, wanted, limit)
    if as_json:
        print_json([_to_json(one) for one in found])
        return
    _print_entries(found)
    if num_found > len(found):
        print(f"{num_found - len(found)} earlier ones; --limit shows more", file=sys.stderr)


@app.command("import")
def import_entries(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV in the layout of the guide, or FOCUS.")],
    account: Annotated[
        str | None,
        typer.Option(
            "--account", metavar="NAME", help="Where a provider's FOCUS rows go. [default: by service]"
        ),
    ] = None,
    root: Root = Path("out"),
    location: BookAt = None,
    as_json: Json = False,
) -> None:
    """Enter what a CSV file holds and the books do not: all of it, or nothing if a line is wrong.

    Columns: date, account, quantity, unit, price, source, and where you like until, price_date, basis,
    note, run, stage, programme, id, currency. Or the columns of FOCUS.
    """
    from openbook.cli.render import print_json
    from openbook.ledger.accounts import find_account
    from openbook.ledger.statement import usd_text
    from openbook.ledger.transfer import import_file
    from openbook.units import show_usd

    if account is not None:
        find_account(account)
    with open_book(location, root) as book:
        done = import_file(book, file, account)
    if as_json:
        amount = usd_text(done.amount_nano_usd)
        print_json({"num_new": done.num_new, "num_known": done.num_known, "amount_usd": amount})
        return
    print(f"{done.num_new} entries, {show_usd(done.amount_nano_usd)}; {done.num_known} were there already")


@app.command("export")
def export(
    focus: Annotated[
        Path, typer.Option("--focus", metavar="FILE", help="A CSV file with the column names of FOCUS 1.2.")
    ],
    root: Root = Path("out"),
    location: BookAt = None,
) -> None:
    """Write every entry into a file that other tools read, and `openbook ledger import` as well."""
    from openbook.ledger.focus import write

    with open_book(location, root) as book:
        num_rows = write(book, focus)
    print(f"{num_rows} entries", file=sys.stderr)
    print(focus)


@app.command("verify")
def verify(root: Root = Path("out"), location: BookAt = None) -> None:
    """Add everything up again: entries, totals, and the usage that the runs recorded."""
    with open_book(location, root) as book:
        check(book, runs_below(root))


@hardware.command("add")
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


@hardware.command("list")
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


def _number(option: str, text: str) -> Decimal:
    from openbook.errors import UserError

    try:
        number = Decimal(text.replace(",", "").replace("_", ""))
    except InvalidOperation:
        raise UserError(f"{option} {text!r} is no number", "such as 12.5 or 2,664,000") from None
    if not number.is_finite():
        raise UserError(f"{option} {text!r} is no number", "such as 12.5 or 2,664,000")
    return number


def _life_days(text: str) -> int:
    """A life as typed, in days: a year has 365 of them, a month a twelfth of that."""
    import re

    from openbook.errors import UserError
    from openbook.ledger.depreciation import DAYS_PER_YEAR

    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(y|years?|m|months?|d|days?)\s*", text.lower())
    if found is None:
        raise UserError(f"--life {text!r} is no time", "such as 5y, 48months or 900d")
    days = {"y": DAYS_PER_YEAR, "m": DAYS_PER_YEAR / 12, "d": 1}[found[2][0]]
    return round(float(found[1]) * days)


def _to_json(numbered: NumberedEntry) -> dict[str, Any]:
    from openbook.ledger.rows import entry_to_row
    from openbook.ledger.statement import usd_text

    amount = usd_text(numbered.entry.amount_nano_usd)
    return {"number": numbered.number, **entry_to_row(numbered.entry), "amount_usd": amount}


def _print_entries(found: list[NumberedEntry]) -> None:
    from openbook.cli.bill_text import show_quantity
    from openbook.cli.render import print_table
    from openbook.units import show_usd

    rows = [
        [
            numbered.number,
            numbered.entry.day,
            numbered.entry.account,
            show_quantity(numbered.entry.unit, numbered.entry.quantity) or "-",
            show_usd(numbered.entry.amount_nano_usd),
            numbered.entry.run_id or "-",
            f"takes back {numbered.entry.reverses}: {numbered.entry.note}"
            if numbered.entry.reverses
            else numbered.entry.note,
        ]
        for numbered in found
    ]
    print_table(
        ["entry", "day", "account", "quantity", "amount", "run", "note"],
        rows,
        right=("entry", "quantity", "amount"),
    )
