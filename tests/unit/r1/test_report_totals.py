"""The three totals of the report, from literals and from the books in a folder."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

from openbook.ledger.book import Book
from openbook.ledger.booking import book_run
from openbook.ledger.headline import Figure, Totals
from openbook.ledger.prices import PricePlan
from openbook.ledger.stated import Stated, add_stated
from openbook.r1.report_totals import story_totals, totals_part, totals_table
from openbook.runs.run import Run
from openbook.runs.usage import Usage

MILLION = 10**15
V3 = Totals(
    headline=Figure(label="the kept work of 4 runs", amount_nano_usd=5_870_672 * 10**9, parts={}),
    run=Figure(
        label="the runs",
        amount_nano_usd=5_870_672 * 10**9,
        parts={"compute that was kept": 5_870_672 * 10**9},
    ),
    owned=Figure(label="hardware", amount_nano_usd=51 * MILLION, parts={"bought": 51 * MILLION, "idle": 0}),
    programme=Figure(label="programme", amount_nano_usd=0, parts={}),
)


def test_the_table_says_what_the_headline_leaves_out_of_each() -> None:
    rows = {row[0]: row[1:] for row in totals_table(V3).rows}
    assert rows["headline"] == ("the kept work of 4 runs", "$5,870,672.00", "-")
    assert rows["1 the runs"] == ("compute that was kept $5,870,672.00", "$5,870,672.00", "0.0 %")
    assert rows["2 the owned hardware"] == ("bought $51,000,000.00", "$51,000,000.00", "88.5 %")
    assert rows["3 the whole programme"] == ("nothing", "$0.0000", "-"), "a share of nothing is none"


def test_a_headline_above_a_total_and_a_total_that_is_not_known_are_said() -> None:
    cheap = Figure(label="programme", amount_nano_usd=MILLION, parts={})
    found = Totals(headline=V3.headline, run=V3.run, owned=None, programme=cheap)
    rows = {row[0]: row[1:] for row in totals_table(found).rows}
    assert rows["2 the owned hardware"] == ("no machine is entered in the books", "-", "-")
    assert rows["3 the whole programme"][2] == "it is more"
    assert "no machine is entered" in totals_part(found, is_from_books=False)


def test_the_page_shows_shares_as_bars_and_where_the_figures_are_from() -> None:
    page = totals_part(V3, is_from_books=True)
    assert "88.5 %" in page and 'id="bill-totals-title"' in page
    assert "As it stands in the books" in page
    assert "Nobody has entered people" in totals_part(V3, is_from_books=False)


def test_the_books_of_the_folder_are_asked_once_they_hold_the_runs(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", verb="rl", stage="zero", recipe={}, seed=1, run_id="r1")
    run.start()
    run.record(Usage(device_microseconds=3_600_000_000))
    run.finish()
    plan = PricePlan.default()
    with Book.open(tmp_path / "moment.sqlite") as moment, Book.open(tmp_path / "ledger.sqlite") as kept:
        book_run(moment, run, plan)
        staff = Stated(
            account="staff",
            quantity=Decimal(1),
            unit="hour",
            price_usd=Decimal(95),
            source="x",
            day=date(2026, 1, 1),
        )
        add_stated(kept, staff)
        totals, is_from_books = story_totals(moment, ["r1"], tmp_path)
        assert (totals.programme.amount_nano_usd, is_from_books) == (10_000_000, False)
        book_run(kept, run, plan)
        totals, is_from_books = story_totals(moment, ["r1"], tmp_path)
        assert (totals.programme.amount_nano_usd, is_from_books) == (95_010_000_000, True)
        assert totals.headline.amount_nano_usd == 10_000_000
    (tmp_path / "ledger.sqlite").write_text("damaged " * 1000)
    with Book.open(tmp_path / "moment.sqlite") as moment:
        assert story_totals(moment, ["r1"], tmp_path)[1] is False
