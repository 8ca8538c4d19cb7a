"""Whatever is entered by hand is exported and imported without loss, and the copy adds up the same."""

from __future__ import annotations

import tempfile
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from openbook.ledger import focus
from openbook.ledger.accounts import ACCOUNTS, PRICE_UNITS
from openbook.ledger.audit import verify
from openbook.ledger.book import Book
from openbook.ledger.focus_read import content_of
from openbook.ledger.stated import Stated, add_stated
from openbook.ledger.totals import By
from openbook.ledger.transfer import import_file

UNITS = [
    (account.name, unit)
    for account in ACCOUNTS.values()
    for unit, (counted_in, _) in PRICE_UNITS.items()
    if counted_in in account.units
]
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30)


@st.composite
def stated(draw: st.DrawFn) -> Stated:
    account, unit = draw(st.sampled_from(UNITS))
    day = draw(st.dates(min_value=date(1990, 1, 1), max_value=date(2100, 1, 1)))
    return Stated(
        account=account,
        quantity=draw(st.decimals(min_value=0, max_value=10**5, places=3)),
        unit=unit,
        price_usd=draw(st.decimals(min_value=0, max_value=10**4, places=6)),
        source=draw(TEXTS.filter(str.strip)),
        day=day,
        until=day + timedelta(days=draw(st.integers(min_value=1, max_value=400))),
        note=draw(TEXTS),
        programme=draw(TEXTS),
    )


@settings(max_examples=40)
@given(st.lists(stated(), min_size=1, max_size=6))
def test_what_is_entered_comes_back_from_a_file_as_it_was(entered: list[Stated]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with Book.open(place / "a.db") as book, Book.open(place / "b.db") as copy:
            for one in entered:
                add_stated(book, one)
            focus.write(book, place / "focus.csv")
            import_file(copy, place / "focus.csv")
            assert import_file(copy, place / "focus.csv").num_new == 0
            assert import_file(book, place / "focus.csv").num_new == 0
            before = [content_of(one.entry) for one in book.entries()]
            assert [content_of(one.entry) for one in copy.entries()] == before
            keys = (By.ACCOUNT, By.MONTH, By.PROGRAMME)
            assert copy.totals(keys) == book.totals(keys)
            assert verify(copy) == ()


def test_a_description_stands_for_a_note_that_is_missing() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with Book.open(place / "a.db") as book:
            unnoted = Stated(
                account="staff",
                quantity=Decimal("1.50"),
                unit="hour",
                price_usd=Decimal(95),
                source="x",
                day=date(2026, 1, 1),
            )
            add_stated(book, unnoted)
            focus.write(book, place / "focus.csv")
        assert "staff, 1.5 hour" in (place / "focus.csv").read_text()
