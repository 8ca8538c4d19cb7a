"""`openbook bill` and `openbook report`: what was spent, and what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openbook.cli.options import Json, Root

if TYPE_CHECKING:
    from openbook.ledger.book import Book
    from openbook.ledger.prices import PricePlan
    from openbook.ledger.statement import Statement, StatementRow, Total
    from openbook.runs.run import Run

BOOK_FILE = "ledger.sqlite"
SECONDS_BETWEEN_SUMS = 5.0


class By(StrEnum):
    """What the lines of a statement are."""

    STAGE = "stage"
    STATUS = "status"
    RUN = "run"


Prices = Annotated[
    Path | None,
    typer.Option("--prices", metavar="FILE", help="A price plan of your own. [default: the one inside]"),
]


def bill(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Runs by folder or id. [default: all in the book]"),
    ] = None,
    root: Root = Path("out"),
    location: Annotated[
        str | None,
        typer.Option("--book", metavar="FILE|URL", help=f"The ledger. [default: {BOOK_FILE} in the root]"),
    ] = None,
    prices: Prices = None,
    by: Annotated[By, typer.Option("--by", help="What a line of the statement is.")] = By.STAGE,
    verify: Annotated[
        bool, typer.Option("--verify", help="Add everything up again from the entries and the runs first.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Book what is not booked yet and print the statement.

    Failed, killed and interrupted runs are booked like all others.
    """
    from openbook.cli.render import print_json
    from openbook.ledger.book import Book
    from openbook.ledger.prices import PricePlan
    from openbook.ledger.statement import statement, statement_to_json
    from openbook.runs.store import find_runs, resolve_run

    plan = PricePlan.load(prices) if prices else PricePlan.default()
    found = find_runs(root, on_broken=lambda error: print(f"left out: {error}", file=sys.stderr))
    wanted = [resolve_run(text, root) for text in runs or ()]
    if not found and not wanted and location is None:
        print(f"no runs below {root}; `openbook run nano` makes some", file=sys.stderr)
    with Book.open(location or root / BOOK_FILE) as book:
        _book(book, {run.manifest.id: run for run in (*found, *wanted)}, plan)
        if verify:
            _verify(book, found)
        result = statement(book, [run.manifest.id for run in wanted] or None)
    if as_json:
        print_json(statement_to_json(result))
        return
    _print_statement(result, by)


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


class Spending:
    """What the runs below a folder have cost so far, from their usage lines; summed up every few seconds."""

    def __init__(self, root: Path, plan: PricePlan, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._plan = plan
        self._clock = clock
        self._summed_at = -SECONDS_BETWEEN_SUMS
        self._text = ""
        self._known: dict[str, tuple[int, int]] = {}  # by run: size of its usage file, what it came to

    def __call__(self) -> str:
        from openbook.runs.store import find_runs
        from openbook.units import show_usd

        if self._clock() - self._summed_at >= SECONDS_BETWEEN_SUMS:
            self._text = show_usd(sum(map(self._cost, find_runs(self._root, on_broken=lambda _: None))))
            self._summed_at = self._clock()
        return self._text

    def _cost(self, run: Run) -> int:
        usage_file = run.folder / "usage.jsonl"
        size = usage_file.stat().st_size if usage_file.exists() else 0
        if self._known.get(run.manifest.id, (0, 0))[0] != size:
            devices = {attempt.number: attempt.device for attempt in run.attempts}
            cost = sum(
                device_cost(
                    self._plan, devices[line.attempt], line.usage.device_microseconds, line.time.date()
                )
                for line in run.usage_lines()
            )
            self._known[run.manifest.id] = (size, cost)
        return self._known.get(run.manifest.id, (0, 0))[1]


def spending(root: Path) -> Callable[[], str]:
    """What was spent below `root`, as text, for a progress line."""
    from openbook.ledger.prices import PricePlan

    return Spending(root, PricePlan.default())


def device_cost(plan: PricePlan, device: str, device_microseconds: int, day: date | None = None) -> int:
    """Nano-dollars for holding `device`; 0 when the plan does not price it (the bill then says so)."""
    from openbook.errors import UserError
    from openbook.ledger.entry import amount_nano_usd

    try:
        price = plan.price(plan.resource_of(device), day or datetime.now(UTC).date())
    except UserError:
        return 0  # a missing price must not stop the work that is watched
    return amount_nano_usd(Decimal(device_microseconds) / 1_000_000, price.price_usd, price.unit)


def _book(book: Book, runs: dict[str, Run], plan: PricePlan) -> None:
    from openbook.ledger.booking import book_run
    from openbook.units import show_usd

    bookings = [book_run(book, run, plan) for run in runs.values()]
    new = [booking for booking in bookings if booking.num_lines]
    if new:
        amount = show_usd(sum(booking.amount_nano_usd for booking in new))
        print(f"booked {len(new)} of {len(runs)} runs into {book.location}: {amount}", file=sys.stderr)


def _verify(book: Book, runs: list[Run]) -> None:
    from openbook.errors import UserError
    from openbook.ledger.audit import verify

    problems = verify(book, runs)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise UserError(f"ledger {book.location} does not add up", "see the lines above")
    print(f"ledger {book.location} adds up", file=sys.stderr)


def _print_statement(result: Statement, by: By) -> None:
    from openbook.cli.render import print_table
    from openbook.units import show_seconds, show_usd

    if by is By.RUN:
        head = ["run", "stage", "status"]
        lines: list[tuple[list[object], StatementRow | Total]] = [
            ([row.run_id, row.stage, row.status], row) for row in result.rows
        ]
    else:
        head = [by.value, "runs"]
        totals = result.by_stage() if by is By.STAGE else result.by_status()
        lines = [([name, total.num_runs], total) for name, total in totals.items()]
    rows = [
        [
            *names,
            show_seconds(float(item.device_seconds)),
            show_usd(item.amount_nano_usd),
            show_usd(item.lost_nano_usd),
        ]
        for names, item in lines
    ]
    seconds = show_seconds(float(sum(row.device_seconds for row in result.rows)))
    total = [
        "total",
        *[""] * (len(head) - 1),
        seconds,
        show_usd(result.total_nano_usd),
        show_usd(result.lost_nano_usd),
    ]
    columns = [*head, "device time", "amount", "of it lost"]
    print_table(columns, [*rows, total], right=("runs", "device time", "amount", "of it lost"))
    print(f"\n{_lost_line(result)}")


def _lost_line(result: Statement) -> str:
    """What came to nothing: whole runs, and work in others that was done twice."""
    from openbook.units import show_usd

    lost = {status: total for status, total in result.by_status().items() if _is_lost(status)}
    amount = sum(total.amount_nano_usd for total in lost.values())
    redone = result.lost_nano_usd - amount
    if not lost:
        which = "Every run made it."
    else:
        counts = ", ".join(f"{total.num_runs} {status}" for status, total in lost.items())
        num_runs = sum(total.num_runs for total in lost.values())
        which = f"Runs that did not make it: {num_runs} ({counts}), {show_usd(amount)}."
    return which + (f" Work done twice after interruptions: {show_usd(redone)}." if redone else "")


def _is_lost(status: str) -> bool:
    from openbook.runs.journal import RunStatus

    return RunStatus(status).is_lost
