"""The statement as text: lines with their sums, what came to nothing, and the three totals below."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from openbook.cli.render import print_table
from openbook.ledger.cuts import Cut
from openbook.units import show_count, show_seconds, show_share, show_usd

if TYPE_CHECKING:
    from openbook.ledger.headline import Figure, Totals
    from openbook.ledger.lineage import Lineage
    from openbook.ledger.statement import Line, Statement

RIGHT = ("runs", "quantity", "device time", "amount", "of it lost", "headline leaves out")
OUTSIDE = "(no run)"


def print_statement(by: Cut, lines: Sequence[Line], whole: Statement, totals: Totals) -> None:
    """Lines of `whole` or of a part of its time, their sum, what was lost of it all, and the three totals."""
    beside = _beside(by, lines, whole)
    rows = [[_name(by, line), *beside[line.name], *_cells(by, line)] for line in lines]
    amount = sum(line.amount_nano_usd for line in lines)
    lost = sum(line.lost_nano_usd for line in lines)
    seconds = sum((line.quantities.get("device-second", Decimal(0)) for line in lines), Decimal(0))
    how_much = "" if by is Cut.ACCOUNT else show_seconds(float(seconds))
    labels = {Cut.STAGE: ["runs"], Cut.STATUS: ["runs"], Cut.RUN: ["stage", "status"]}.get(by, [])
    total = ["total", *[""] * len(labels), how_much, show_usd(amount), show_usd(lost)]
    quantity = "quantity" if by is Cut.ACCOUNT else "device time"
    print_table([by.value, *labels, quantity, "amount", "of it lost"], [*rows, total], right=RIGHT)
    print(f"\n{lost_line(whole)}\n")
    print_totals(totals)


def print_lineage(run_id: str, found: Lineage, totals: Totals) -> None:
    """What a result cost from nothing, run by run."""
    rows = [
        [row.run_id, row.stage, role, show_seconds(float(row.device_seconds)), show_usd(row.amount_nano_usd)]
        for role, statement in (("made it", found.made_it), ("in vain", found.in_vain))
        for row in statement.rows
    ]
    seconds = float(sum(row.device_seconds for one in (found.made_it, found.in_vain) for row in one.rows))
    total = ["total", "", "", show_seconds(seconds), show_usd(found.total_nano_usd)]
    print(f"what {run_id} cost from nothing\n")
    print_table(["run", "stage", "", "device time", "amount"], [*rows, total], right=RIGHT)
    lost = found.made_it.lost_nano_usd
    if lost:
        print(f"\nOf what made it, {show_usd(lost)} was work done twice after interruptions.")
    if found.did_not.rows:
        amount = show_usd(found.did_not.total_nano_usd)
        print(f"\nOther runs in these books, which led elsewhere: {len(found.did_not.rows)}, {amount}.")
    for name in found.missing:
        print(f"\n{name} is an ancestor that was never booked here: its cost is missing.")
    print()
    print_totals(totals)


def print_totals(totals: Totals) -> None:
    """The headline, and beside it what three ways of counting say."""
    headline = totals.headline.amount_nano_usd
    rows = [["headline", totals.headline.label, show_usd(headline), ""]]
    for number, figure in enumerate((totals.run, totals.owned, totals.programme), start=1):
        if figure is None:
            rows.append([str(number), "the owned hardware: none is entered", "-", "-"])
            continue
        share = figure.left_out(headline)
        shown = "-" if share is None else "it is more" if share < 0 else show_share(share)
        rows.append([str(number), figure.label, show_usd(figure.amount_nano_usd), shown])
    print_table(["total", "what it counts", "amount", "headline leaves out"], rows, right=RIGHT)
    print()
    for number, figure in enumerate((totals.run, totals.owned, totals.programme), start=1):
        if figure is None:
            print(f"{number}  `openbook ledger hardware add` enters what was bought: its days count then")
        elif figure.parts:
            print(f"{number}  {_parts(figure)}")


def lost_line(result: Statement) -> str:
    """What came to nothing: whole runs, and work in others that was done twice."""
    from openbook.runs.journal import RunStatus

    if not result.rows:
        return "There is no run in these books."
    lost = {status: total for status, total in result.by_status().items() if RunStatus(status).is_lost}
    amount = sum(total.amount_nano_usd for total in lost.values())
    redone = result.lost_nano_usd - amount
    if not lost:
        which = "Every run made it."
    else:
        counts = ", ".join(f"{total.num_runs} {status}" for status, total in lost.items())
        num_runs = sum(total.num_runs for total in lost.values())
        which = f"Runs that did not make it: {num_runs} ({counts}), {show_usd(amount)}."
    return which + (f" Work done twice after interruptions: {show_usd(redone)}." if redone else "")


def show_quantity(unit: str, quantity: Decimal) -> str:
    """A quantity for a person: `2 h 10 min`, `1.5M tokens`, `12.5 hours`."""
    match unit:
        case "device-second":
            return show_seconds(float(quantity)) if quantity >= 0 else f"-{show_seconds(-float(quantity))}"
        case "joule":
            return f"{quantity / 3_600_000:,.4f} kWh"
        case "token":
            return f"{show_count(float(quantity))} tokens"
        case "usd":
            return ""
    plain = f"{quantity.normalize():,f}"
    return f"{plain} {unit}" if plain == "1" else f"{plain} {unit}s"


def _beside(by: Cut, lines: Sequence[Line], whole: Statement) -> dict[str, list[object]]:
    """What stands beside the name of a line: how many runs, or which stage and status."""
    if by is Cut.RUN:
        runs = {row.run_id: row for row in whole.rows}
        return {
            line.name: [runs[line.name].stage, runs[line.name].status] if line.name in runs else ["", ""]
            for line in lines
        }
    has_runs = by in (Cut.STAGE, Cut.STATUS)
    return {line.name: [line.num_runs or "-"] if has_runs else [] for line in lines}


def _name(by: Cut, line: Line) -> str:
    from openbook.ledger.accounts import ACCOUNTS

    if by is Cut.ACCOUNT:
        return ACCOUNTS[line.name].title
    return line.name or (OUTSIDE if by is not Cut.PROGRAMME else "(none named)")


def _cells(by: Cut, line: Line) -> list[str]:
    if by is Cut.ACCOUNT:
        shown = [show_quantity(unit, quantity) for unit, quantity in line.quantities.items()]
        first = ", ".join(text for text in shown if text)
    else:
        first = show_seconds(float(line.quantities.get("device-second", Decimal(0))))
    return [first, show_usd(line.amount_nano_usd), show_usd(line.lost_nano_usd)]


def _parts(figure: Figure) -> str:
    return ", ".join(f"{name} {show_usd(amount)}" for name, amount in figure.parts.items())
