"""Owned hardware: depreciation and idle time by month, and no dollar counted twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from openbook.errors import UserError
from openbook.ledger.audit import verify
from openbook.ledger.book import Book
from openbook.ledger.depreciation import Hardware, Method
from openbook.ledger.entry import LedgerEntry
from openbook.ledger.hardware import add_hardware, all_hardware, book_hardware, ownership
from openbook.ledger.headline import totals_of_runs, totals_to_json
from openbook.ledger.prices import PricePlan
from openbook.ledger.rows import BookedRun
from openbook.ledger.totals import Among, By
from openbook.runs.journal import RunStatus

PLAN = PricePlan.from_toml(
    """
    devices = { cpu = "host", H200 = "h200" }
    [[prices]]
    resource = "host"
    unit = "device-hour"
    price_usd = 0.5
    valid_from = 2020-01-01
    source = "ours"
    [[prices]]
    resource = "h200"
    unit = "device-hour"
    price_usd = 2
    valid_from = 2020-01-01
    source = "a list"
    """,
    "test",
)
DOLLAR = 10**9
# 30 days at 24 dollars a day: 1 dollar an hour.
SERVER = Hardware(
    name="server",
    device="cpu",
    count=1,
    price_usd=Decimal(720),
    salvage_usd=Decimal(0),
    bought_on=date(2026, 11, 1),
    life_days=30,
    method=Method.STRAIGHT_LINE,
    source="invoice 7",
)


@pytest.fixture
def book(location: str) -> Iterator[Book]:
    with Book.open(location, busy_timeout_seconds=60) as book:
        yield book


def used(
    book: Book, name: str, hours: int, day: int, price: str = "0.5", source: str = "ours", lost: bool = False
) -> None:
    """A run that held a device for so many hours on a day of November."""
    start = datetime(2026, 11, day, 1, tzinfo=UTC)
    run = BookedRun(
        run_id=name,
        verb="rl",
        stage="zero",
        status=RunStatus.FAILED if lost else RunStatus.DONE,
        reason="",
        parents=(),
        created_at=start,
        booked_at=start,
        num_lines_booked=1,
        num_rewinds_booked=0,
    )
    entry = LedgerEntry(
        time=start,
        run_id=name,
        attempt=1,
        account="device",
        lost=False,
        quantity=Decimal(3600 * hours),
        unit="device-second",
        unit_price_usd=Decimal(price),
        price_unit="device-hour",
        price_source=source,
        price_date=date(2020, 1, 1),
        amount_nano_usd=int(Decimal(price) * hours * DOLLAR),
        note="",
        period_start=start,
        period_end=start + timedelta(hours=hours),
    )
    with book.changing() as change:
        change.put_run(run)
        change.append([entry])


def amounts(book: Book) -> dict[str, Decimal]:
    """By account, in dollars."""
    return {one.key[0]: Decimal(one.amount_nano_usd) / DOLLAR for one in book.totals((By.ACCOUNT,))}


def test_days_of_ownership_become_used_and_idle_hours(book: Book) -> None:
    add_hardware(book, SERVER)
    used(book, "r1", hours=12, day=2)
    used(book, "rented", hours=100, day=2, price="2", source="a list")
    assert book_hardware(book, PLAN, date(2026, 11, 11)) == 3
    assert amounts(book) == {
        "device": Decimal(206),
        "hardware": Decimal(720),
        "depreciation": Decimal(12),
        "idle": Decimal(228),
        "recovered": Decimal(-6),
    }
    assert book.totals((), Among(accounts=("idle",)))[0].quantities == {"device-second": Decimal(228 * 3600)}
    assert verify(book) == ()
    (owned,) = ownership(book)
    assert (owned.used_up_nano_usd, owned.idle_nano_usd, owned.value_nano_usd) == (
        240 * DOLLAR,
        228 * DOLLAR,
        480 * DOLLAR,
    )


def test_booking_again_enters_only_what_is_new_and_late_usage_moves_idle_hours(book: Book) -> None:
    add_hardware(book, SERVER)
    used(book, "r1", hours=12, day=2)
    book_hardware(book, PLAN, date(2026, 11, 11))
    assert book_hardware(book, PLAN, date(2026, 11, 11)) == 0
    used(book, "late", hours=10, day=3)
    assert book_hardware(book, PLAN, date(2026, 11, 11)) == 3
    assert amounts(book)["idle"] == 218 and amounts(book)["depreciation"] == 22
    assert amounts(book)["recovered"] == -11
    book_hardware(book, PLAN, date(2027, 6, 1))
    after = amounts(book)
    assert after["idle"] + after["depreciation"] == 720, "never more than it cost"
    assert after["idle"] == 720 - 22
    assert verify(book) == ()


def test_a_sum_over_all_but_the_purchase_counts_no_dollar_twice(book: Book) -> None:
    """Charged less than it costs, the programme pays the cost; charged more, it pays the charge."""
    add_hardware(book, SERVER)
    used(book, "cheap", hours=100, day=2)
    book_hardware(book, PLAN, date(2026, 12, 1))
    assert totals_of_runs(book).programme.amount_nano_usd == 720 * DOLLAR
    dear = PricePlan.from_toml(
        """
        devices = { cpu = "host" }
        [[prices]]
        resource = "host"
        unit = "device-hour"
        price_usd = 3
        valid_from = 2020-01-01
        source = "dear"
        """,
        "test",
    )
    used(book, "dear", hours=100, day=3, price="3", source="dear")
    book_hardware(book, dear, date(2026, 12, 1))
    assert totals_of_runs(book).programme.amount_nano_usd == (50 + 300 + 620) * DOLLAR


def test_two_lots_of_the_same_device_share_its_hours(book: Book) -> None:
    add_hardware(book, SERVER)
    add_hardware(book, replace(SERVER, name="three-more", count=3))
    used(book, "r1", hours=80, day=2)
    book_hardware(book, PLAN, date(2026, 12, 1))
    shares = {one.hardware.name: one.idle_nano_usd // DOLLAR for one in ownership(book)}
    assert shares == {"server": 720 - 20, "three-more": 3 * 720 - 60}


def test_more_hours_than_are_owned_leave_no_idle_ones(book: Book) -> None:
    add_hardware(book, SERVER)
    used(book, "r1", hours=2000, day=2)
    book_hardware(book, PLAN, date(2026, 12, 1))
    assert amounts(book)["depreciation"] == 720 and "idle" not in amounts(book)


def test_a_device_month_by_month_over_years_adds_up_exactly(book: Book) -> None:
    fleet = replace(
        SERVER,
        name="fleet",
        count=2048,
        price_usd=Decimal("24902.34375"),
        salvage_usd=Decimal("1000.10"),
        life_days=1500,
        method=Method.DECLINING,
    )
    add_hardware(book, fleet)
    for until in (date(2026, 11, 2), date(2026, 12, 25), date(2028, 1, 1), date(2036, 1, 1)):
        book_hardware(book, PLAN, until)
        assert verify(book) == ()
    (owned,) = ownership(book)
    assert owned.value_nano_usd == int(Decimal("1000.10") * 2048 * DOLLAR)
    assert owned.idle_nano_usd == pytest.approx(owned.used_up_nano_usd, abs=60), "a nano-dollar a month"


def test_a_name_is_taken_once(book: Book) -> None:
    add_hardware(book, SERVER)
    with pytest.raises(UserError, match="there is hardware 'server' already"):
        add_hardware(book, SERVER)
    assert all_hardware(book) == (SERVER,)


def test_the_three_totals_and_what_the_headline_leaves_out(book: Book) -> None:
    used(book, "good", hours=10, day=2)
    used(book, "bad", hours=30, day=2, lost=True)
    add_hardware(book, SERVER)
    book_hardware(book, PLAN, date(2026, 12, 1))
    found = totals_of_runs(book)
    assert found.headline.amount_nano_usd == 5 * DOLLAR
    assert found.run.amount_nano_usd == 20 * DOLLAR
    assert found.owned is not None and found.owned.amount_nano_usd == 720 * DOLLAR
    assert found.programme.amount_nano_usd == 720 * DOLLAR
    value = totals_to_json(found)
    assert value["this_run"]["left_out_by_headline"] == pytest.approx(0.75)
    assert value["owned_hardware"]["left_out_by_headline"] == pytest.approx(1 - 5 / 720)
    assert value["owned_hardware"]["parts_nano_usd"]["of that idle"] == 680 * DOLLAR
    assert "left_out_by_headline" not in value["headline"]


def test_an_empty_book_has_totals_of_nothing(book: Book) -> None:
    found = totals_of_runs(book)
    assert found.owned is None and found.programme.amount_nano_usd == 0
    assert found.run.left_out(0) is None
