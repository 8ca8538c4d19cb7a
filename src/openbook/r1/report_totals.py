"""The three totals in the report: what the figure that is quoted counts, and what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from openbook.errors import UserError
from openbook.ledger.book import Book
from openbook.ledger.headline import Figure, Totals, totals_of_runs
from openbook.pages.bars import Bar, BarChart, bar_chart
from openbook.pages.charts import multiples
from openbook.pages.page import fill
from openbook.pages.tables import ABSENT, Column, Table, html_table
from openbook.units import show_share, show_usd

BOOK_FILE = "ledger.sqlite"
_TOTALS = """<h3>Three totals</h3>
<p>The headline is {{ headline }}: the device time, at its price, of the runs that made it. It says
what doing this once more would take at least. What it took with all failures, what the machines cost, and
what the whole programme cost are other questions, and have other answers:</p>
{{ table }}
{{ chart }}
<p class="note">{{ note }}</p>"""


def story_totals(book: Book, run_ids: Sequence[str], folder: Path) -> tuple[Totals, bool]:
    """The totals of a story's runs, and whether they are from the books in its folder.

    Those hold people, data and machines that were entered; `book`, made for the moment, holds the runs
    alone and is asked where there are no others, or not with all these runs.
    """
    path = folder / BOOK_FILE
    if path.exists():
        try:
            with Book.open(path) as kept:
                if set(run_ids) <= {run.run_id for run in kept.runs()}:
                    return totals_of_runs(kept, run_ids), True
        except UserError:
            pass  # the books say so themselves when they are asked for the bill
    return totals_of_runs(book, run_ids), False


def totals_part(totals: Totals, *, is_from_books: bool) -> Markup:
    """The table of the three, and how much of each the headline leaves out."""
    note = (
        "As it stands in the books of this folder."
        if is_from_books
        else "Nobody has entered people, data or machines in the books of this folder: "
        "`openbook bill` opens them, `openbook ledger` enters what belongs there."
    )
    return fill(
        _TOTALS,
        headline=show_usd(totals.headline.amount_nano_usd),
        table=html_table(totals_table(totals)),
        chart=_chart(totals),
        note=note,
    )


def totals_table(totals: Totals) -> Table:
    """A row for each total: what it counts, what it came to, what of it the headline leaves out."""
    headline = totals.headline.amount_nano_usd
    rows = [("headline", totals.headline.label, show_usd(headline), ABSENT)]
    for name, figure in _three(totals):
        if figure is None:
            rows.append((name, "no machine is entered in the books", ABSENT, ABSENT))
            continue
        parts = ", ".join(f"{part} {show_usd(amount)}" for part, amount in figure.parts.items() if amount)
        share = figure.left_out(headline)
        shown = ABSENT if share is None else "it is more" if share < 0 else show_share(share)
        rows.append((name, parts or "nothing", show_usd(figure.amount_nano_usd), shown))
    labels = (("total", False), ("what it counts", False), ("amount", True), ("headline leaves out", True))
    columns = tuple(Column(label=label, number=number) for label, number in labels)
    return Table(columns=columns, rows=tuple(rows))


def _three(totals: Totals) -> tuple[tuple[str, Figure | None], ...]:
    return (
        ("1 the runs", totals.run),
        ("2 the owned hardware", totals.owned),
        ("3 the whole programme", totals.programme),
    )


def _chart(totals: Totals) -> Markup:
    """The share of each total that the headline is; nothing where there is no share to show."""
    headline = totals.headline.amount_nano_usd
    bars = []
    for name, figure in _three(totals):
        share = figure.left_out(headline) if figure else None
        if share is not None and 0 <= share <= 1:
            bars.append(Bar(label=name, values=(1 - share, share), shown=show_share(share)))
    if not bars:
        return Markup("")
    parts = ("in the headline", "left out")
    chart = bar_chart(
        BarChart(
            name="bill-totals", title="What the headline leaves out", parts=parts, bars=tuple(bars), full=1.0
        )
    )
    return multiples([chart], large=True)
