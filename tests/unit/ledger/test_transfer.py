"""Import and export: what is written comes back the same, once, and a bad line names its place."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from openbook.errors import UserError
from openbook.ledger import focus
from openbook.ledger.audit import verify
from openbook.ledger.book import Book
from openbook.ledger.booking import book_run
from openbook.ledger.depreciation import Hardware, Method
from openbook.ledger.entry import LedgerEntry, Origin
from openbook.ledger.focus_read import content_of
from openbook.ledger.hardware import add_hardware, book_hardware
from openbook.ledger.prices import PricePlan
from openbook.ledger.stated import Stated, add_stated
from openbook.ledger.statement import statement, statement_to_json
from openbook.ledger.totals import By
from openbook.ledger.transfer import import_file
from openbook.runs.run import Run
from openbook.runs.usage import Usage

CSV = """date,account,quantity,unit,price,source,note,programme,id
2026-11-02,staff,12,hours,95,contract,"cleaning, by hand",r1,
2026-11-02,staff,12,hours,95,contract,"cleaning, by hand",r1,
2026-11-03,data,3,gigabyte,$20.50,invoice 9,,r1,inv-9
2026-11-04,teacher_tokens,1.5,million-tokens,2.19,price list,traces of R1,,
2026-11-05,other,17.25,usd,1,receipt,,,
"""


@pytest.fixture
def book(location: str) -> Iterator[Book]:
    with Book.open(location, busy_timeout_seconds=60) as book:
        yield book


def file(folder: Path, text: str, name: str = "costs.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def entries(book: Book) -> list[LedgerEntry]:
    return [one.entry for one in book.entries()]


def test_a_file_of_our_layout_is_entered_line_by_line(book: Book, tmp_path: Path) -> None:
    done = import_file(book, file(tmp_path, CSV))
    assert (done.num_new, done.num_known) == (5, 0)
    staff, _, data, teacher, other = entries(book)
    assert (staff.amount_nano_usd, staff.unit, staff.programme) == (1140 * 10**9, "hour", "r1")
    assert staff.note == "cleaning, by hand" and staff.price_date == staff.day == date(2026, 11, 2)
    assert (data.external_id, data.amount_nano_usd) == ("inv-9", 61_500_000_000)
    assert (teacher.quantity, teacher.amount_nano_usd) == (Decimal(1_500_000), 3_285_000_000)
    assert other.amount_nano_usd == done.amount_nano_usd - 2 * 1140 * 10**9 - 61_500_000_000 - 3_285_000_000
    assert {one.origin for one in entries(book)} == {Origin.IMPORT}
    assert verify(book) == ()


def test_a_file_that_has_grown_adds_only_what_is_new(book: Book, tmp_path: Path) -> None:
    import_file(book, file(tmp_path, CSV))
    assert import_file(book, file(tmp_path, CSV)).num_new == 0
    grown = CSV + "2026-11-06,storage,100,gigabyte-month,0.02,list,,,\n"
    done = import_file(book, file(tmp_path, grown, "renamed.csv"))
    assert (done.num_new, done.num_known, done.amount_nano_usd) == (1, 5, 2 * 10**9)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2026-11-02,stuff,1,hour,9,x,,,", "line 7, column account: there is no account 'stuff'.*'staff'"),
        ("2026-11-02,staff,1,hour,-9,x,,,", "line 7, column price: a price of '-9'; a price is not negative"),
        ("2026-11-02,staff,1,hour,9 EUR,x,,,", "line 7, column price: '9 EUR' is in 'EUR'"),
        ("2026-11-02,staff,1,token,9,x,,,", "line 7, column unit: staff is not counted in 'token'"),
        ("2026-11-02,staff,-1,hour,9,x,,,", "line 7, column quantity: -1 is negative"),
        ("2026-11-02,staff,much,hour,9,x,,,", "line 7, column quantity: 'much' cannot be read"),
        ("2026-11-02,staff,1,hour,9,,,,", "line 7, column source: is empty"),
        (",staff,1,hour,9,x,,,", "line 7, column date: is empty"),
        ("2026-13-02,staff,1,hour,9,x,,,", "line 7, column date: '2026-13-02' cannot be read"),
        ("2026-11-02,staff,1,hour,9,x", "line 7 has 6 cells for 9 columns"),
        ("2026-11-02,staff,1,hour,9,x,,,hardware:a:idle:1", "line 7, column id: .* calls its own"),
        ("2026-11-02,staff,1e-12,hour,9,x,,,", "line 7, column quantity: .*round it to 9 decimals"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_imported(
    book: Book, tmp_path: Path, line: str, words: str
) -> None:
    with pytest.raises(UserError, match=f"costs.csv {words}") as raised:
        import_file(book, file(tmp_path, CSV + line + "\n"))
    assert "\n" not in str(raised.value)
    assert entries(book) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("date,account,quantity,unit,price\n", "line 1 has no column 'source'"),
        ("date,account,quantity,unit,price,source,sauce\n", "line 1, column 'sauce' is unknown; .*'source'"),
        ("date,date,account,quantity,unit,price,source\n", "names the column 'date' twice"),
        ('date,account,quantity,unit,price,source\n"2026,staff', "is no CSV"),
    ],
)
def test_a_file_that_is_no_sheet_is_refused(book: Book, tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        import_file(book, file(tmp_path, text))
    with pytest.raises(UserError, match="cannot be read"):
        import_file(book, tmp_path / "missing.csv")


def test_a_run_has_to_be_known_or_to_have_a_stage(book: Book, tmp_path: Path) -> None:
    head = "date,account,quantity,unit,price,source,run,stage\n"
    line = "2025-01-01,device,2664000,device-hours,2,V3 report,v3-pretrain"
    with pytest.raises(UserError, match="line 2, column run: run 'v3-pretrain' is not in the ledger"):
        import_file(book, file(tmp_path, f"{head}{line},\n"))
    import_file(book, file(tmp_path, f"{head}{line},pretrain\n"))
    assert statement(book).total_nano_usd == 5_328_000 * 10**9


def a_whole_book(book: Book, folder: Path) -> None:
    """Runs, one of them failed, people, machines, and a mistake that was taken back."""
    plan = PricePlan.default()
    for number, seconds in enumerate((7, 11)):
        run = Run.create(folder / f"run-{number}", verb="rl", stage="zero", recipe={}, seed=1)
        run.start()
        for _ in range(3):
            run.record(Usage(device_microseconds=seconds * 333_333, trained_tokens=10))
        run.fail("nan") if number else run.finish()
        book_run(book, run, plan)
    today = datetime.now(UTC).date()
    number = add_stated(
        book,
        Stated(
            account="staff",
            quantity=Decimal("12.5"),
            unit="hour",
            price_usd=Decimal("95.10"),
            source='the "contract", page 3',
            day=date(2026, 1, 31),
            programme="r1",
        ),
    )
    with book.changing() as change:
        change.reverse(number, time=datetime.now(UTC), note="was 11")
    add_hardware(
        book,
        Hardware(
            name="host",
            device="cpu",
            count=1,
            price_usd=Decimal(730),
            salvage_usd=Decimal(0),
            bought_on=date(today.year, today.month, 1),
            life_days=365,
            method=Method.STRAIGHT_LINE,
            source="a shop",
        ),
    )
    book_hardware(book, plan, date(today.year, today.month, 28))


def test_what_is_exported_comes_back_the_same(book: Book, tmp_path: Path) -> None:
    a_whole_book(book, tmp_path / "runs")
    path = tmp_path / "focus.csv"
    assert focus.write(book, path) == len(entries(book))
    with Book.open(tmp_path / "copy.db") as copy:
        done = import_file(copy, path)
        assert (done.num_new, done.num_known) == (len(entries(book)), 0)
        assert list(map(content_of, entries(copy))) == list(map(content_of, entries(book)))
        assert [one.reverses for one in entries(copy)] == [one.reverses for one in entries(book)]
        assert copy.runs() == book.runs()
        assert statement_to_json(statement(copy)) == statement_to_json(statement(book))
        assert copy.totals((By.ACCOUNT, By.DAY)) == book.totals((By.ACCOUNT, By.DAY))
        assert verify(copy) == ()
        assert import_file(copy, path).num_new == 0
    assert import_file(book, path).num_new == 0, "they are there already"


def test_a_book_that_has_grown_is_exported_and_imported_again(book: Book, tmp_path: Path) -> None:
    path = tmp_path / "focus.csv"
    a_whole_book(book, tmp_path / "runs")
    number = add_stated(
        book,
        Stated(
            account="other",
            quantity=Decimal(5),
            unit="usd",
            price_usd=Decimal(1),
            source="x",
            day=date(2026, 2, 1),
        ),
    )
    focus.write(book, path)
    with Book.open(tmp_path / "copy.db") as copy:
        add_stated(
            copy,
            Stated(
                account="other",
                quantity=Decimal(1),
                unit="usd",
                price_usd=Decimal(1),
                source="y",
                day=date(2026, 2, 1),
            ),
        )
        import_file(copy, path)
        with book.changing() as change:
            change.reverse(number, time=datetime.now(UTC), note="not ours")
        focus.write(book, path)
        assert import_file(copy, path).num_new == 1
        last = entries(copy)[-1]
        assert last.reverses == number + 1, "under the number that it has here"
        assert copy.totals()[0].amount_nano_usd == book.totals()[0].amount_nano_usd + 10**9


def test_the_columns_are_those_of_focus_and_add_up_without_counting_twice(book: Book, tmp_path: Path) -> None:
    a_whole_book(book, tmp_path / "runs")
    path = tmp_path / "focus.csv"
    focus.write(book, path)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert all(name[0].isupper() or name.startswith("x_") for name in rows[0])
    by_account = {one.key[0]: one.amount_nano_usd for one in book.totals((By.ACCOUNT,))}
    owned = sum(by_account[name] for name in ("depreciation", "idle", "recovered"))
    rest = sum(by_account.values()) - owned - by_account["hardware"]
    billed, effective = (sum(Decimal(row[name]) for row in rows) for name in ("BilledCost", "EffectiveCost"))
    assert int(billed * 10**9) == rest + by_account["hardware"]
    assert int(effective * 10**9) == rest + owned
    purchase = next(row for row in rows if row["x_Account"] == "hardware")
    assert (purchase["ChargeCategory"], purchase["EffectiveCost"], purchase["ConsumedQuantity"]) == (
        "Purchase",
        "0",
        "",
    )
    device = next(row for row in rows if row["x_Account"] == "device")
    assert (device["ServiceCategory"], device["ConsumedUnit"], device["PricingUnit"]) == (
        "Compute",
        "Seconds",
        "Hours",
    )
    assert device["ChargePeriodStart"].endswith("Z") and device["BillingPeriodStart"].endswith(
        "-01T00:00:00Z"
    )
    taken_back = next(row for row in rows if row["x_Reverses"])
    assert taken_back["ChargeClass"] == "Correction", "it mends a month that is over"
    assert {row["BillingCurrency"] for row in rows} == {"USD"}


PROVIDER = """\
BilledCost,BillingCurrency,ChargePeriodStart,ChargePeriodEnd,ServiceCategory,ProviderName,InvoiceId,\
ChargeDescription,PricingQuantity,PricingUnit,ContractedUnitPrice
29.50,USD,2026-05-01T00:00:00Z,2026-05-01T10:00:00Z,Compute,Cloud,7,H100 on demand,10,Hours,2.95
3.285,USD,2026-05-01,2026-05-02,AI and Machine Learning,Cloud,7,out,1.5,1000000 Tokens,2.19
4.00,USD,2026-05-01T00:00:00Z,2026-06-01T00:00:00Z,Storage,Cloud,7,disk,200,GB-Months,0.02
-1.00,USD,2026-05-01T00:00:00Z,2026-06-01T00:00:00Z,Other,Cloud,7,goodwill,,,
8.00,USD,2026-05-01T00:00:00Z,2026-05-01T10:00:00Z,Compute,Cloud,7,with a discount,10,Hours,2.95
"""


def test_a_providers_focus_file_is_entered_at_what_was_billed(book: Book, tmp_path: Path) -> None:
    done = import_file(book, file(tmp_path, PROVIDER))
    assert done.amount_nano_usd == 43_785_000_000
    found = [(one.account, one.unit, one.amount_nano_usd / 1e9) for one in entries(book)]
    assert found == [
        ("device", "device-second", 29.5),
        ("teacher_tokens", "token", 3.285),
        ("storage", "usd", 4.0),
        ("other", "usd", -1.0),
        ("other", "usd", 8.0),
    ]
    assert entries(book)[0].price_source == "Cloud, invoice 7"
    assert import_file(book, file(tmp_path, PROVIDER)).num_new == 0
    assert verify(book) == ()


def test_other_currencies_and_costs_that_are_none_name_line_and_column(book: Book, tmp_path: Path) -> None:
    for old, new, words in (
        ("3.285,USD", "3.285,EUR", r"line 3, column BillingCurrency: the cost is in 'EUR'"),
        ("4.00,USD", "four,USD", r"line 4, column BilledCost: 'four' cannot be read"),
        ("2026-05-01T10", "2026-04-01T10", r"line 2, column ChargePeriodEnd: .* is before"),
    ):
        with pytest.raises(UserError, match=words):
            import_file(book, file(tmp_path, PROVIDER.replace(old, new)))
    assert entries(book) == []


def test_an_export_that_was_changed_by_hand_is_held_to_its_own_sums(book: Book, tmp_path: Path) -> None:
    a_whole_book(book, tmp_path / "runs")
    path = tmp_path / "focus.csv"
    focus.write(book, path)
    text = path.read_text()
    path.write_text(text.replace("\n1188.75,", "\n1288.75,"))
    assert path.read_text() != text
    with Book.open(tmp_path / "copy.db") as copy:
        with pytest.raises(
            UserError, match=r"column BilledCost: 1288.75 is not quantity times price, 1188.75"
        ):
            import_file(copy, path)
        assert entries(copy) == []


def test_hand_entries_have_to_have_a_known_run(book: Book) -> None:
    stated = Stated(
        account="staff",
        quantity=Decimal(1),
        unit="hour",
        price_usd=Decimal(1),
        source="x",
        day=date(2026, 1, 1),
    )
    with pytest.raises(UserError, match=r"run 'r1' is not in ledger"):
        add_stated(book, replace(stated, run_id="r1"))
    with pytest.raises(UserError, match="staff is not counted in 'token'; use hour or usd"):
        add_stated(book, replace(stated, unit="token"))
