"""Import: entries from a CSV file into a book, all of them or none, and each of them once.

Our own layout has a line for each entry and these columns, in any order:

    date        the day, YYYY-MM-DD                 until       the day after its last (default: the next)
    account     staff, data, storage, device, ...   note        what it was
    quantity    how many units                      run         the run it belongs to
    unit        hour, device-hour, token, usd, ...  stage       of a run that has no folder here
    price       dollars for one unit                programme   what it was all for
    source      who says so                         id          what the source calls it
    price_date  from when the price holds           currency    USD, or nothing
    basis       stated, measured or estimated

The first six are needed. A file with FOCUS columns is read by openbook.ledger.focus_read.
A row without an id is known again by its content, so importing a file again adds only what is new in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from openbook.errors import UserError
from openbook.ledger.accounts import find_account
from openbook.ledger.book import Book
from openbook.ledger.change import Change
from openbook.ledger.entry import Basis, LedgerEntry, Origin, refuse_other_currency
from openbook.ledger.focus_read import Arrival, is_focus, is_same, read_focus
from openbook.ledger.hardware import PREFIX
from openbook.ledger.sheet import Sheet, SheetRow, read_sheet
from openbook.ledger.stated import Stated, StatedRun, find_price_unit, make_known, parse_money, stated_entry

NEEDED = ("date", "account", "quantity", "unit", "price", "source")
COLUMNS = (
    *NEEDED, "until", "price_date", "basis", "note", "run", "stage", "programme", "id", "currency",
)  # fmt: skip
LAYOUT = f"its columns are {', '.join(COLUMNS)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """What an import did: entries added, entries that were there already, and what the new ones come to."""

    num_new: int
    num_known: int
    amount_nano_usd: int


def import_file(book: Book, path: Path, account: str | None = None) -> Imported:
    """Add the entries of a file that the book does not have yet.

    `account` takes the place of the one that FOCUS rows of a provider would be guessed to. Raises
    UserError that names line and column of what is wrong; then nothing was added.
    """
    sheet = read_sheet(path)
    arrivals = read_focus(sheet, account) if is_focus(sheet) else _read(sheet)
    with book.changing() as change:
        own = {one.number: one for one in arrivals if one.number is not None}
        there = {number for number, entry in _numbered(book, own) if is_same(own[number].entry, entry)}
        known = change.known_external_ids(one.entry.external_id for one in arrivals)
        new = [one for one in arrivals if one.number not in there and one.entry.external_id not in known]
        for one in new:
            _make_known(change, one)
        numbers = {number: number for number in there} | _numbers_of(change, arrivals, known)
        entries = _renumbered(change.next_number, new, numbers)
        change.append(entries)
    return Imported(
        num_new=len(new),
        num_known=len(arrivals) - len(new),
        amount_nano_usd=sum(entry.amount_nano_usd for entry in entries),
    )


def _read(sheet: Sheet) -> list[Arrival]:
    sheet.require(NEEDED, LAYOUT)
    sheet.refuse_unknown(COLUMNS)
    return [_arrival(sheet.name, row) for row in sheet.rows]


def _arrival(name: str, row: SheetRow) -> Arrival:
    account = row.read("account", lambda text: find_account(text).name)
    day = row.day("date")
    external_id = row.text("id", f"csv:{row.digest}")
    if external_id.startswith(PREFIX):
        raise row.wrong("id", f"{external_id!r} is how the ledger calls its own", "give it another")
    if row.text("currency", "USD") != "USD":
        row.read("currency", lambda text: refuse_other_currency(text, "the price"))
    quantity = row.number("quantity")
    if quantity < 0:
        raise row.wrong(
            "quantity", f"{quantity} is negative", "a mistake is taken back by `openbook ledger reverse`"
        )
    stated = Stated(
        account=account,
        quantity=quantity,
        unit=row.read("unit", lambda text: find_price_unit(text, account)),
        price_usd=row.read("price", parse_money),
        source=row.text("source"),
        day=day,
        until=row.day("until") if row.text("until", "") else None,
        price_date=row.day("price_date") if row.text("price_date", "") else None,
        note=row.text("note", ""),
        run_id=row.text("run", "") or None,
        programme=row.text("programme", ""),
        external_id=external_id,
        basis=row.read("basis", Basis) if row.text("basis", "") else Basis.STATED,
    )
    if stated.until is not None and stated.until <= day:
        raise row.wrong("until", f"{stated.until} is not after {day}", "it is the day after the last")
    stage = row.text("stage", "")
    try:
        entry = stated_entry(stated, origin=Origin.IMPORT, source_file=name)
    except UserError as error:
        raise row.wrong("quantity", error.what, error.mend) from error
    run = StatedRun(run_id=stated.run_id, stage=stage) if stated.run_id and stage else None
    return Arrival(row=row, entry=entry, stated_run=run)


def _numbered(book: Book, wanted: dict[int, Arrival]) -> list[tuple[int, LedgerEntry]]:
    """The entries of the book that have the numbers of entries of the file: perhaps the same ones."""
    if not wanted:
        return []
    first, last = min(wanted), max(wanted)
    found = []
    for numbered in book.entries(after=first - 1):
        if numbered.number > last:
            break
        if numbered.number in wanted:
            found.append((numbered.number, numbered.entry))
    return found


def _make_known(change: Change, arrival: Arrival) -> None:
    """See to it that the run of an entry is in the book. Raises UserError that names the row."""
    run_id = arrival.entry.run_id
    if run_id is None or change.run(run_id) is not None:
        return
    if arrival.booked_run is not None:
        change.put_run(arrival.booked_run)
    elif arrival.stated_run is not None:
        make_known(change, arrival.stated_run)
    else:
        raise arrival.row.wrong(
            arrival.run_column, f"run {run_id!r} is not in the ledger", "book it first, or give its stage"
        )


def _numbers_of(change: Change, arrivals: Sequence[Arrival], known: frozenset[str]) -> dict[int, int]:
    """Under which numbers of this book earlier imports entered what the file numbers otherwise."""
    by_id = {
        one.entry.external_id: one.number
        for one in arrivals
        if one.number is not None and one.entry.external_id in known
    }
    return {by_id[name]: number for name, number in change.numbers_of(by_id).items()}


def _renumbered(first: int, new: Sequence[Arrival], there: Mapping[int, int]) -> list[LedgerEntry]:
    """The entries, with what they reverse by the numbers that those have in this book."""
    numbers = dict(there)
    numbers |= {one.number: first + place for place, one in enumerate(new) if one.number is not None}
    entries = []
    for one in new:
        target = one.entry.reverses
        if target is not None and target not in numbers:
            raise one.row.wrong(
                "x_Reverses", f"entry {target}, which it takes back, is not in the file", "export it whole"
            )
        entries.append(one.entry if target is None else replace(one.entry, reverses=numbers[target]))
    return entries
