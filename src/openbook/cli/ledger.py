"""`openbook ledger`: entries by hand, from files and into files."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openbook.cli import hardware
from openbook.cli.bookkeeping import check, day_of, open_book, runs_below, until_of
from openbook.cli.groups import Group
from openbook.cli.options import BookAt, Json, Root, Since, Until

if TYPE_CHECKING:
    from openbook.ledger.rows import NumberedEntry

app = typer.Typer(
    cls=Group,
    help="The books: entries by hand, from files and into files, and owned hardware.",
    no_args_is_help=True,
)
app.add_typer(hardware.app, name="hardware")

Account = Annotated[
    str,
    typer.Option(
        "--account", metavar="NAME", help="What it goes to: staff, data, storage, teacher_tokens, ..."
    ),
]
Quantity = Annotated[str, typer.Option("--quantity", metavar="N", help="How many units.")]
Unit = Annotated[
    str, typer.Option("--unit", metavar="UNIT", help="hour, device-hour, million-tokens, usd, ...")
]
Source = Annotated[
    str, typer.Option("--source", metavar="TEXT", help="Who says so: an invoice, a contract, a list.")
]
LastDay = Annotated[
    str | None, typer.Option("--until", metavar="DAY", help="Its last day. [default: the same]")
]
RunId = Annotated[
    str | None, typer.Option("--run", metavar="ID", help="The run it belongs to. [default: none]")
]
Stage = Annotated[
    str | None,
    typer.Option(
        "--stage", metavar="NAME", help="Of a run that has no folder here, such as a published one."
    ),
]
Parents = Annotated[
    list[str] | None,
    typer.Option("--parent", metavar="ID", help="What that run was made from; may be given again."),
]
Programme = Annotated[
    str,
    typer.Option("--programme", metavar="NAME", help="What it is all for, where there is more than one."),
]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why, or what it was.")]


@app.command("add")
def add(
    account: Account,
    quantity: Quantity,
    unit: Unit,
    price: Annotated[str, typer.Option("--price", metavar="USD", help="Dollars for one unit.")],
    source: Source,
    date: Annotated[str, typer.Option("--date", metavar="DAY", help="When: 2026-11-30.")],
    until: LastDay = None,
    note: Note = "",
    run: RunId = None,
    stage: Stage = None,
    parent: Parents = None,
    programme: Programme = "",
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
    since: Since = None,
    until: Until = None,
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


@app.command("teacher")
def teacher(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A distillation, by folder or id.")],
    price: Annotated[
        str,
        typer.Option("--price", metavar="USD", help="Dollars per million tokens that the teacher sampled."),
    ],
    source: Annotated[str, typer.Option("--source", metavar="TEXT", help="Whose price list.")],
    date: Annotated[str, typer.Option("--date", metavar="DAY", help="From when that price holds.")],
    input_price: Annotated[
        str, typer.Option("--input-price", metavar="USD", help="Dollars per million tokens that it read.")
    ] = "0",
    root: Root = Path("out"),
    location: BookAt = None,
) -> None:
    """Price the tokens of a run's teacher from a list.

    For a teacher that is somebody else's: one of your own is paid by its device time already.
    """
    from openbook.ledger.stated import parse_money
    from openbook.ledger.teacher import TeacherPrice, book_teacher
    from openbook.runs.store import resolve_run

    day = day_of("--date", date)
    assert day is not None
    asked = TeacherPrice(
        output_usd=parse_money(price), input_usd=parse_money(input_price), source=source.strip(), day=day
    )
    with open_book(location, root) as book:
        numbers = book_teacher(book, resolve_run(run, root), asked)
    print(f"entries {', '.join(map(str, numbers))}")


@app.command("verify")
def verify(root: Root = Path("out"), location: BookAt = None, as_json: Json = False) -> None:
    """Add everything up again: entries, totals, and the usage that the runs recorded."""
    from openbook.cli.render import print_json

    with open_book(location, root) as book:
        check(book, runs_below(root))
        if as_json:
            print_json({"ledger": book.location, "adds_up": True})


def _number(option: str, text: str) -> Decimal:
    from openbook.errors import UserError

    try:
        number = Decimal(text.replace(",", "").replace("_", ""))
    except InvalidOperation:
        raise UserError(f"{option} {text!r} is no number", "such as 12.5 or 2,664,000") from None
    if not number.is_finite():
        raise UserError(f"{option} {text!r} is no number", "such as 12.5 or 2,664,000")
    return number


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
