"""`openbook bill` and `openbook report`: what was spent, and what came of it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openbook.cli.bookkeeping import BOOK_FILE
from openbook.cli.options import BookAt, Json, Prices, Root, Since, Until
from openbook.ledger.cuts import Cut

if TYPE_CHECKING:
    from openbook.ledger.book import Book
    from openbook.ledger.totals import Among


Of = Annotated[
    str | None,
    typer.Option(
        "--of",
        metavar="CHECKPOINT|RUN",
        help="What this result cost from nothing: its ancestors, and the tries of them that failed.",
    ),
]


def bill(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Runs by folder or id. [default: all in the book]"),
    ] = None,
    root: Root = Path("out"),
    location: BookAt = None,
    prices: Prices = None,
    by: Annotated[Cut, typer.Option("--by", help="What a line of the statement is.")] = Cut.STAGE,
    of: Of = None,
    since: Since = None,
    until: Until = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Add everything up again from the entries and the runs first.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Book what is not booked yet and print the statement.

    Failed, killed and interrupted runs are booked like all others. Below the statement stand the three
    totals: this run, the owned hardware, the whole programme.
    """
    from openbook.cli.bookkeeping import book_all, check, day_of, open_book, runs_below, until_of
    from openbook.cli.outlook import compare_forecasts
    from openbook.cli.render import print_json
    from openbook.errors import UserError
    from openbook.ledger.prices import PricePlan
    from openbook.ledger.totals import Among
    from openbook.runs.store import resolve_run

    if of is not None and (runs or since or until):
        raise UserError("--of is about one result, all of it", "give it without runs, --since and --until")
    plan = PricePlan.load(prices) if prices else PricePlan.default()
    among = Among(since=day_of("--since", since), until=until_of("--until", until))
    found = runs_below(root)
    wanted = [resolve_run(text, root) for text in runs or ()]
    if not found and not wanted and location is None and not (root / BOOK_FILE).exists():
        print(f"no runs below {root}; `openbook run nano` makes some", file=sys.stderr)
    with open_book(location, root) as book:
        book_all(book, (*found, *wanted), plan)
        if verify:
            check(book, found)
        if of is not None:
            value = _lineage(book, _run_id_of(of, root, book), as_json=as_json)
        else:
            run_ids = [run.manifest.id for run in wanted] or None
            value = _statement(book, run_ids, by, among, as_json=as_json)
            compared = compare_forecasts(wanted or found, plan, as_json=as_json)
            value = None if value is None else {**value, "forecasts": compared}
    if as_json:
        print_json(value)


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a story, such as out/nano-0.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The HTML file. [default: report.html in the run]"),
    ] = None,
    prices: Prices = None,
) -> None:
    """Write a story as one self-contained HTML page.

    It says how the models were made, how good they are and what they cost.
    """
    from openbook.ledger.prices import PricePlan
    from openbook.r1.report import write_report

    plan = PricePlan.load(prices) if prices else PricePlan.default()
    print(write_report(run, out, prices=plan))


def _statement(
    book: Book, run_ids: list[str] | None, by: Cut, among: Among, *, as_json: bool
) -> dict[str, Any] | None:
    """The statement over these runs; printed, or as JSON."""
    from openbook.cli.bill_text import print_statement
    from openbook.ledger.headline import totals_of_runs, totals_to_json
    from openbook.ledger.statement import line_to_json, lines, lines_of, statement, statement_to_json
    from openbook.ledger.sums import read_sums

    sums = read_sums(book)
    result, totals = statement(sums, run_ids), totals_of_runs(sums, run_ids)
    if by in (Cut.RUN, Cut.STAGE, Cut.STATUS) and not (among.since or among.until):
        found = lines_of(sums, by, run_ids)
    else:
        found = lines(book, by, replace(among, run_ids=run_ids))
    if not as_json:
        print_statement(by, found, result, totals)
        return None
    period = {"since": among.since, "until": among.until}
    return {
        **statement_to_json(result),
        "by": str(by),
        "period": {name: str(day) if day else None for name, day in period.items()},
        "lines": [line_to_json(line) for line in found],
        "totals": totals_to_json(totals),
    }


def _lineage(book: Book, run_id: str, *, as_json: bool) -> dict[str, Any] | None:
    """What a result cost from nothing; printed, or as JSON."""
    from openbook.cli.bill_text import print_lineage
    from openbook.ledger.headline import totals_of_lineage, totals_to_json
    from openbook.ledger.lineage import lineage, lineage_to_json
    from openbook.ledger.sums import read_sums

    sums = read_sums(book)
    found = lineage(sums, run_id)
    totals = totals_of_lineage(sums, found)
    if not as_json:
        print_lineage(run_id, found, totals)
        return None
    return {"run_id": run_id, "lineage": lineage_to_json(found), "totals": totals_to_json(totals)}


def _run_id_of(text: str, root: Path, book: Book) -> str:
    """The run that made a checkpoint, or the run itself. Raises UserError."""
    from openbook.errors import UserError
    from openbook.runs.run import MANIFEST_FILE, Run
    from openbook.runs.store import resolve_run

    path = Path(text)
    for folder in (path, path.resolve().parent):
        if path.is_dir() and (folder / MANIFEST_FILE).exists():
            return Run.open(folder).manifest.id
    if path.is_dir():
        from openbook.model.checkpoint import Checkpoint

        made_by = str(Checkpoint.open(path).provenance.get("run_id", ""))
        if not made_by:
            raise UserError(f"{path} does not say which run made it", "name a checkpoint made here, or a run")
        return made_by
    if any(run.run_id == text for run in book.runs()):
        return text  # of a run without a folder here
    return resolve_run(text, root).manifest.id
