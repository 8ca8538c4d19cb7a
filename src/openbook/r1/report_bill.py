"""The bill of a story: its runs priced into a ledger of the moment, so that the report needs no other."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from openbook.errors import UserError
from openbook.ledger.book import Book
from openbook.ledger.booking import book_run
from openbook.ledger.entry import LedgerEntry
from openbook.ledger.headline import Totals
from openbook.ledger.prices import PricePlan
from openbook.ledger.statement import Statement, statement
from openbook.pages.bars import Bar, BarChart, bar_chart
from openbook.pages.charts import multiples
from openbook.pages.page import Section, fill, missing
from openbook.pages.tables import Column, Table, html_table
from openbook.r1.report_story import Story, stage_title
from openbook.r1.report_totals import story_totals, totals_part
from openbook.units import show_count, show_seconds, show_usd

_BILL = """<p>{{ sentence }} {{ lost }}</p>
{{ charts }}
{{ table }}
{{ totals }}
<h3>At which price</h3>
{{ prices }}
<p class="note">What is paid for is the time a device was held. Tokens are counted beside it at a price of
zero, so nothing is paid twice.</p>"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaidPrice:
    """A price that was applied, in words; `note` says how it came about."""

    resource: str
    price: str
    valid_from: str
    source: str
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Bill:
    """A statement over the story's runs and the prices behind it; `unpriced` says why runs are left out."""

    statement: Statement
    totals: Totals
    is_from_books: bool
    """Whether the totals are from the books in the story's folder, people and machines included."""
    prices: tuple[PaidPrice, ...]
    unpriced: tuple[str, ...]


def price_story(story: Story, plan: PricePlan) -> Bill:
    """Book every run of the story, failed ones too, into a ledger that is thrown away, and add it up."""
    unpriced = []
    with tempfile.TemporaryDirectory() as folder, Book.open(Path(folder) / "ledger.sqlite") as book:
        for run in story.runs:
            try:
                book_run(book, run, plan)
            except UserError as error:
                unpriced.append(f"{run.manifest.stage} ({run.manifest.id}): {error}")
        paid = {_paid_price(entry, plan): None for entry in book.contents().entries if entry.unit_price_usd}
        found = statement(book)
        totals, is_from_books = story_totals(book, [row.run_id for row in found.rows], story.folder)
        return Bill(
            statement=found,
            totals=totals,
            is_from_books=is_from_books,
            prices=tuple(paid),
            unpriced=tuple(unpriced),
        )


def _paid_price(entry: LedgerEntry, plan: PricePlan) -> PaidPrice:
    key = (entry.unit_price_usd, entry.price_unit, entry.price_source, entry.price_date)
    lines = [line for line in plan.prices if (line.price_usd, line.unit, line.source, line.valid_from) == key]
    return PaidPrice(
        resource=lines[0].resource if lines else entry.account,
        price=f"${entry.unit_price_usd.normalize():f} a {entry.price_unit.replace('-', ' ')}",
        valid_from=entry.price_date.isoformat(),
        source=entry.price_source,
        note=lines[0].note if lines else "",
    )


def bill_section(bill: Bill) -> Section:
    """Stage by stage, what was lost, and the price with its source."""
    if not bill.statement.rows:
        body = missing("There is no run that could be priced.")
    else:
        body = fill(
            _BILL,
            sentence=_sentence(bill.statement),
            lost=_lost_sentence(bill.statement),
            charts=multiples(_charts(bill.statement), large=True),
            table=html_table(bill_table(bill.statement)),
            totals=totals_part(bill.totals, is_from_books=bill.is_from_books),
            prices=_prices(bill),
        )
    for line in bill.unpriced:
        body += missing(f"Not in the bill: {line}")
    return Section(id="bill", short_title="The bill", title="The bill", body=body)


def bill_table(found: Statement) -> Table:
    """A line for each stage and the total."""
    rows = [
        (
            stage_title(stage),
            str(total.num_runs),
            show_seconds(float(total.device_seconds)),
            *map(show_count, _num_tokens(found, stage)),
            show_usd(total.amount_nano_usd),
            show_usd(total.lost_nano_usd),
        )
        for stage, total in found.by_stage().items()
    ]
    seconds = float(sum(row.device_seconds for row in found.rows))
    total = (
        "total",
        str(len(found.rows)),
        show_seconds(seconds),
        *map(show_count, _num_tokens(found)),
        show_usd(found.total_nano_usd),
        show_usd(found.lost_nano_usd),
    )
    labels = ("runs", "device time", "tokens trained on", "tokens sampled", "cost", "of it lost")
    columns = (Column(label="stage"), *(Column(label=label, number=True) for label in labels))
    return Table(columns=columns, rows=tuple(rows), total=total)


def _num_tokens(found: Statement, stage: str | None = None) -> tuple[int, int]:
    """Tokens trained on and sampled in a stage, or in all."""
    rows = [row for row in found.rows if stage is None or row.stage == stage]
    trained, sampled = (
        sum(row.num_tokens.get(account, 0) for row in rows)
        for account in ("trained_tokens", "completion_tokens")
    )
    return trained, sampled


def _charts(found: Statement) -> list[Markup]:
    """Where the money went, and where the tokens."""
    costs, tokens = [], []
    for stage, total in found.by_stage().items():
        lost, kept = total.lost_nano_usd / 1e9, (total.amount_nano_usd - total.lost_nano_usd) / 1e9
        costs.append(
            Bar(label=stage_title(stage), values=(kept, lost), shown=show_usd(total.amount_nano_usd))
        )
        counts = _num_tokens(found, stage)
        tokens.append(Bar(label=stage_title(stage), values=counts, shown=show_count(sum(counts))))
    return [
        bar_chart(BarChart(name="bill-cost", title="Cost", parts=("kept", "lost"), bars=tuple(costs))),
        bar_chart(
            BarChart(name="bill-tokens", title="Tokens", parts=("trained on", "sampled"), bars=tuple(tokens))
        ),
    ]


def _sentence(found: Statement) -> str:
    seconds = show_seconds(float(sum(row.device_seconds for row in found.rows)))
    runs = "1 run" if len(found.rows) == 1 else f"{len(found.rows)} runs"
    amount = show_usd(found.total_nano_usd)
    return (
        f"Everything in this folder, failures included, took {runs}, {seconds} of device time and {amount}."
    )


def _lost_sentence(found: Statement) -> str:
    """What came to nothing: whole runs, and work in others that was done twice."""
    if not found.lost_nano_usd:
        return "None of it was lost."
    lost = [row for row in found.rows if row.status.is_lost]
    redone = found.lost_nano_usd - sum(row.lost_nano_usd for row in lost)
    why = [f"{stage_title(row.stage)} {row.status}: {show_usd(row.lost_nano_usd)}" for row in lost]
    why += [f"done twice after interruptions: {show_usd(redone)}"] if redone else []
    return f"Of that, {show_usd(found.lost_nano_usd)} was lost ({'; '.join(why)})."


def _prices(bill: Bill) -> Markup:
    rows = tuple((price.resource, price.price, price.valid_from, price.source) for price in bill.prices)
    if not rows:
        return missing("Nothing in this folder has a price above zero.")
    labels = ("what", "price", "valid from", "source")
    notes = tuple(price.note for price in bill.prices if price.note)
    return html_table(Table(columns=tuple(Column(label=label) for label in labels), rows=rows, notes=notes))
