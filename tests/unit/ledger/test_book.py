from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from openbook.errors import UserError
from openbook.ledger.audit import verify
from openbook.ledger.book import Book
from openbook.ledger.entry import Basis, LedgerEntry, Origin
from openbook.ledger.rows import BookedRun
from openbook.ledger.totals import Among, By
from openbook.runs.journal import RunStatus

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
RUN = BookedRun(
    run_id="r1",
    verb="rl",
    stage="zero",
    status=RunStatus.DONE,
    reason="",
    parents=("r0",),
    created_at=NOON,
    booked_at=NOON,
    num_lines_booked=3,
    num_rewinds_booked=0,
    programme="story",
)
STAFF = LedgerEntry(
    time=NOON,
    run_id=None,
    attempt=0,
    account="staff",
    lost=False,
    quantity=Decimal("12.5"),
    unit="hour",
    unit_price_usd=Decimal(80),
    price_unit="hour",
    price_source="payroll",
    price_date=date(2026, 1, 1),
    amount_nano_usd=1_000 * 10**9,
    note="",
    period_start=NOON - timedelta(days=30),
    period_end=NOON,
    origin=Origin.HAND,
    basis=Basis.STATED,
    programme="story",
)
DEVICE = replace(
    STAFF,
    run_id="r1",
    attempt=1,
    account="device",
    quantity=Decimal("0.000001"),
    unit="device-second",
    price_unit="device-hour",
    unit_price_usd=Decimal("3.6"),
    amount_nano_usd=1,
    origin=Origin.OPENBOOK,
    basis=Basis.MEASURED,
    period_start=NOON,
)


def put(book: Book, *entries: LedgerEntry) -> None:
    with book.changing() as change:
        change.put_run(RUN)
        change.append(entries)


def test_a_new_ledger_is_a_file_in_write_ahead_mode_that_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "ledger.db"
    with Book.open(path) as book:
        put(book)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    with Book.open(f"sqlite:///{path}") as book:
        assert book.contents().runs == (RUN,)


def test_what_is_entered_comes_back_as_it_was(location: str) -> None:
    with Book.open(location) as book:
        full = replace(
            STAFF, source_file="pay.csv", external_id="pay-1", origin=Origin.IMPORT, note="x\ny;'\""
        )
        put(book, DEVICE, full, replace(DEVICE, lost=True))
    with Book.open(location) as book:
        assert book.contents().runs == (RUN,)
        assert book.contents().entries == (DEVICE, full, replace(DEVICE, lost=True))
        assert [(one.number, one.entry) for one in book.entries(after=1)] == [
            (2, full),
            (3, replace(DEVICE, lost=True)),
        ]
        assert book.contents(["r1"]).entries == (DEVICE, replace(DEVICE, lost=True))


def test_a_change_that_fails_leaves_the_book_as_it_was(location: str) -> None:
    book = Book.open(location)
    with pytest.raises(RuntimeError), book.changing() as change:
        change.put_run(RUN)
        change.append([STAFF])
        raise RuntimeError
    assert book.contents().runs == ()
    assert book.totals() == ()


@pytest.mark.parametrize("statement", ["UPDATE entries SET amount_nano_usd = 1", "DELETE FROM entries"])
def test_entries_can_only_be_added(location: str, statement: str) -> None:
    with Book.open(location) as book:
        put(book, STAFF)
        with pytest.raises(DBAPIError, match="only ever added"), book._engine.begin() as connection:
            connection.execute(text(statement))
        assert book.contents().entries == (STAFF,)


def test_entries_cannot_be_replaced_or_cut_off(tmp_path: Path, postgresql_book: Book) -> None:
    with pytest.raises(DBAPIError, match="only ever added"), postgresql_book._engine.begin() as connection:
        connection.execute(text("TRUNCATE entries CASCADE"))
    with Book.open(tmp_path / "ledger.db") as book:
        put(book, STAFF)
    connection = sqlite3.connect(tmp_path / "ledger.db")
    with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
        connection.execute("INSERT OR REPLACE INTO entries SELECT * FROM entries")
    connection.close()


@pytest.fixture
def postgresql_book(request: pytest.FixtureRequest) -> Book:
    return Book.open(request.getfixturevalue("postgresql").new_database())


def test_an_entry_of_an_unknown_run_is_a_mistake_of_ours(location: str) -> None:
    book = Book.open(location)
    with pytest.raises(IntegrityError), book.changing() as change:
        change.append([DEVICE])
    assert book.contents().entries == ()


def test_an_entry_is_taken_back_once_by_its_opposite(location: str) -> None:
    book = Book.open(location)
    put(book, STAFF, DEVICE)
    with book.changing() as change:
        assert change.reverse(1, time=NOON, note="entered twice") == 3
    back = book.contents().entries[2]
    assert (back.reverses, back.quantity, back.amount_nano_usd) == (1, Decimal("-12.5"), -1_000 * 10**9)
    assert (back.note, back.period_start) == ("entered twice", STAFF.period_start)
    (staff,) = [total for total in book.totals([By.ACCOUNT]) if total.key == ("staff",)]
    assert (staff.amount_nano_usd, staff.quantities) == (0, {"hour": Decimal(0)})
    assert verify(book) == ()
    for number, why in ((1, "was taken back by entry 3"), (3, "takes back entry 1"), (9, "no entry 9")):
        with pytest.raises(UserError, match=why), book.changing() as change:
            change.reverse(number, time=NOON, note="")


def test_usage_that_was_priced_wrongly_is_taken_back_and_the_rest_still_adds_up(location: str) -> None:
    book = Book.open(location)
    price = {"unit_price_usd": Decimal("0.9")}  # 0.25 nano-dollars a microsecond
    put(book, *(replace(DEVICE, **price, amount_nano_usd=amount) for amount in (0, 0, 1, 0)))
    assert verify(book) == ()
    with book.changing() as change:
        change.reverse(3, time=NOON, note="another device")
    assert verify(book) == ()


def test_an_external_id_is_entered_once(location: str) -> None:
    book = Book.open(location)
    put(book, replace(STAFF, external_id="a"))
    for again in ([replace(STAFF, external_id="a")], [replace(STAFF, external_id="b")] * 2):
        with pytest.raises(UserError, match="is that of an entry already"):
            put(book, STAFF, *again)
    with book.changing() as change:
        assert change.known_external_ids(["a", "b", ""]) == {"a"}
    assert len(book.contents().entries) == 1


def test_totals_are_the_sums_of_entries_by_whatever_is_asked(location: str) -> None:
    book = Book.open(location)
    put(book, DEVICE, replace(DEVICE, lost=True), STAFF)
    with book.changing() as change:
        change.put_run(replace(RUN, run_id="r2", stage="distill", status=RunStatus.FAILED))
        change.append([replace(DEVICE, run_id="r2", amount_nano_usd=5, programme="")])
    assert [(total.amount_nano_usd, total.lost_nano_usd) for total in book.totals()] == [(10**12 + 7, 6)]

    def sums(*by: By, **among: object) -> dict[tuple[str, ...], int]:
        return {
            total.key: total.amount_nano_usd
            for total in book.totals(by, Among(**among))  # type: ignore[arg-type]
        }

    assert sums(By.STAGE) == {("zero",): 2, ("distill",): 5, ("",): 10**12}
    assert sums(By.RUN, By.LOST) == {("r1", "0"): 1, ("r1", "1"): 1, ("r2", "0"): 5, ("", "0"): 10**12}
    assert sums(By.ACCOUNT) == {("device",): 7, ("staff",): 10**12}
    assert sums(By.MONTH, By.DAY) == {("2026-01", "2026-01-01"): 10**12, ("2026-01", "2026-01-31"): 7}
    assert sums(By.STATUS, By.VERB) == {("done", "rl"): 2, ("failed", "rl"): 5, ("", ""): 10**12}
    assert sums(By.ORIGIN, By.BASIS) == {("openbook", "measured"): 7, ("hand", "stated"): 10**12}
    assert sums(By.PROGRAMME) == {("story",): 10**12 + 2, ("",): 5}
    assert sums(run_ids=["r1", "r2"]) == {(): 7}
    assert sums(run_ids=[]) == {}
    assert sums(By.RUN, accounts=["device"], programme="story") == {("r1",): 2}
    assert sums(since=date(2026, 1, 2)) == {(): 7}
    assert sums(until=date(2026, 1, 31)) == {(): 10**12}


def test_quantities_of_a_total_are_exact_by_unit(location: str) -> None:
    book = Book.open(location)
    tokens = replace(DEVICE, account="data", unit="token", price_unit="token", unit_price_usd=Decimal(0))
    many = replace(tokens, quantity=Decimal(14_800_000_000_000), amount_nano_usd=0)
    small = replace(STAFF, account="data", unit="gigabyte", price_unit="gigabyte", unit_price_usd=Decimal(0))
    pieces = [replace(small, quantity=Decimal("0.999999999"), amount_nano_usd=0)] * 3
    put(book, many, many, *pieces, replace(small, quantity=Decimal("-2.5"), amount_nano_usd=0))
    (total,) = book.totals([By.ACCOUNT])
    assert total.quantities == {"token": Decimal(29_600_000_000_000), "gigabyte": Decimal("0.499999997")}
    assert total.num_entries == 6


def test_a_sum_that_a_database_cannot_hold_is_refused_and_not_rounded(location: str) -> None:
    book = Book.open(location)
    billion = 10**9 * 10**9
    hardware = replace(
        STAFF,
        account="hardware",
        unit="usd",
        price_unit="usd",
        unit_price_usd=Decimal(1),
        quantity=Decimal(5 * 10**9),
        amount_nano_usd=5 * billion,
    )
    put(book, hardware)
    with pytest.raises(UserError, match=r"more than 9.2 billion dollars"):
        put(book, hardware)
    put(book, replace(hardware, period_start=NOON, account="other"))
    put(book, replace(hardware, account="other", quantity=Decimal("-1.5"), amount_nano_usd=-1_500_000_000))
    assert [total.amount_nano_usd for total in book.totals()] == [10 * billion - 1_500_000_000]
    with pytest.raises(UserError, match=r"more than 9.2 billion dollars"):
        put(book, replace(hardware, quantity=Decimal(10**10), amount_nano_usd=10 * billion))
    assert len(book.contents().entries) == 3
    assert verify(book) == ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"account": "staf"}, "no account 'staf'; did you mean 'staff'"),
        ({"unit": "day", "price_unit": "day"}, "counted in day; count it in hour or usd"),
        ({"price_unit": "month"}, "counted in hour and priced by the month"),
        ({"price_unit": "fortnight"}, "priced by the 'fortnight'"),
        ({"unit_price_usd": Decimal(-1)}, "a price is not negative"),
        ({"unit_price_usd": Decimal("NaN")}, "a price is not negative"),
        ({"quantity": Decimal("Infinity")}, "has the quantity Infinity"),
        ({"quantity": Decimal("0.0000000001")}, "round it to 9 decimals"),
        ({"price_source": ""}, "price without a source"),
        ({"time": datetime(2026, 1, 1)}, "without a time zone"),
        ({"period_end": NOON - timedelta(days=31)}, "before it begins"),
    ],
)
def test_an_entry_that_contradicts_itself_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, object], why: str
) -> None:
    book = Book.open(tmp_path / "ledger.db")
    with pytest.raises(UserError, match=why) as raised:
        put(book, STAFF, replace(STAFF, **change))  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    assert book.contents().entries == ()


def test_the_audit_finds_what_was_done_behind_its_back(location: str) -> None:
    book = Book.open(location)
    put(book, STAFF, STAFF, DEVICE)
    with book.changing() as change:
        change.reverse(2, time=NOON, note="")
    assert verify(book) == ()
    is_sqlite = "://" not in location
    lift = (
        ["DROP TRIGGER entries_refuse_update", "DROP TRIGGER entries_refuse_delete"]
        if is_sqlite
        else ["DROP TRIGGER entries_refuse_change ON entries"]
    )
    for statement in (
        *lift,
        "UPDATE totals SET amount_nano_usd = amount_nano_usd + 2 WHERE account = 'staff'",
        "UPDATE entries SET amount_nano_usd = amount_nano_usd + 1 WHERE id = 4",
        "DELETE FROM entries WHERE id = 3",
    ):
        with book._engine.begin() as connection:
            connection.execute(text(statement))
    problems = "\n".join(verify(book))
    assert "entries 3 to 3 are missing" in problems
    assert "entry 4 is not the opposite of entry 2" in problems
    assert (
        "the totals say 1000000000002 nano-dollars in 3 entries for staff of no run on 2026-01-01" in problems
    )
    assert (
        "the totals say 1 nano-dollars in 1 entries for device of run r1 on 2026-01-31, its entries 0"
        in problems
    )
