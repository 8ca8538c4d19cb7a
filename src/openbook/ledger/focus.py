"""FOCUS: cost data with the column names of the FinOps Open Cost and Usage Specification, version 1.2.

    write(book, path)   every entry as a row; what FOCUS has no column for stands in columns x_...
    read(sheet)         our own rows exactly as they were; a provider's rows as what was billed

Machines that are owned follow the rule for purchases: what was paid is BilledCost on the day, and
EffectiveCost on the days it pays for. So either column adds up without counting a dollar twice.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

from openbook.errors import UserError
from openbook.ledger.accounts import ACCOUNTS, PRICE_UNITS, find_account
from openbook.ledger.book import Book
from openbook.ledger.depreciation import full_month
from openbook.ledger.entry import (
    Basis,
    LedgerEntry,
    Origin,
    amount_nano_usd,
    refuse_other_currency,
    refuse_wrong,
)
from openbook.ledger.rows import BookedRun, NumberedEntry, entry_to_row, run_from_values, run_to_row
from openbook.ledger.sheet import Sheet, SheetRow
from openbook.ledger.stated import StatedRun, midnight
from openbook.ledger.statement import usd_text
from openbook.units import to_nano_usd

VERSION = "1.2"
UNITS = {
    "device-second": "Seconds",
    "joule": "Joules",
    "token": "Tokens",
    "hour": "Hours",
    "gigabyte": "GB",
    "gigabyte-month": "GB-Months",
    "day": "Days",
    "month": "Months",
    "item": "Count",
    "usd": "USD",
}
PRICING_UNITS = {
    "device-hour": "Hours",
    "kilowatt-hour": "kWh",
    "million-tokens": "1000000 Tokens",
    **{
        unit: UNITS[unit]
        for unit in ("token", "hour", "gigabyte", "gigabyte-month", "day", "month", "item", "usd")
    },
}
# Of costs that are owned machines: what is billed once, and what is effective day by day.
BILLED_ONLY, EFFECTIVE_ONLY = frozenset({"hardware"}), frozenset({"depreciation", "idle", "recovered"})
CATEGORIES = {
    "device": "Compute",
    "idle": "Compute",
    "hardware": "Compute",
    "depreciation": "Compute",
    "recovered": "Compute",
    "storage": "Storage",
    **dict.fromkeys(
        ("prompt_tokens", "cached_tokens", "completion_tokens", "trained_tokens", "teacher_tokens"),
        "AI and Machine Learning",
    ),
}
COLUMNS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency",
    "ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost",
    "ContractedUnitPrice", "EffectiveCost", "InvoiceIssuerName", "ListCost", "ListUnitPrice",
    "PricingCategory", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ResourceId",
    "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "SkuId", "SkuPriceId",
    "SubAccountId", "SubAccountName", "Tags",
)  # fmt: skip
OWN_COLUMNS = (
    "x_EntryNumber", "x_RecordedAt", "x_PeriodStart", "x_PeriodEnd", "x_Account", "x_RunId", "x_Run",
    "x_Attempt", "x_Lost", "x_PriceSource", "x_PriceDate", "x_Origin", "x_Basis", "x_SourceFile",
    "x_ExternalId", "x_Reverses",
)  # fmt: skip
NEEDED = ("BilledCost", "BillingCurrency", "ChargePeriodStart", "ChargePeriodEnd")
PLACES = Decimal("1e-15")


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """An entry read from a row of a file, the number it had elsewhere, and what is known of its run."""

    row: SheetRow
    entry: LedgerEntry
    number: int | None = None
    booked_run: BookedRun | None = None
    stated_run: StatedRun | None = None

    @property
    def run_column(self) -> str:
        return "run" if self.number is None else "x_RunId"


def write(book: Book, path: Path) -> int:
    """Write every entry of the book -> how many. The file is whole, or is not there. Raises UserError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    runs = {run.run_id: run for run in book.runs()}
    num_rows = 0
    try:
        with beside.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, (*COLUMNS, *OWN_COLUMNS))
            writer.writeheader()
            for numbered in book.entries():
                writer.writerow(_row(numbered, runs.get(numbered.entry.run_id or ""), book.location))
                num_rows += 1
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({error.strerror})", "name another file") from error
    return num_rows


def is_focus(sheet: Sheet) -> bool:
    """Whether the columns are those of FOCUS."""
    return {"BilledCost", "BillingCurrency"} <= set(sheet.columns)


def read(sheet: Sheet, account: str | None = None) -> list[Arrival]:
    """The entries of a FOCUS file. Raises UserError that names line and column."""
    sheet.require(NEEDED, "a FOCUS file has it")
    if "x_EntryNumber" in sheet.columns:
        sheet.require((*COLUMNS, *OWN_COLUMNS), "`openbook ledger export` writes it")
        return [_own(row) for row in sheet.rows]
    return [_foreign(row, account) for row in sheet.rows]


def is_same(one: LedgerEntry, other: LedgerEntry) -> bool:
    """Whether an entry that was exported is this entry of the book."""
    return _content(one) == _content(other)


def _content(entry: LedgerEntry) -> LedgerEntry:
    """What of an entry an export keeps as it is."""
    note = entry.note or _description(entry)
    return replace(entry, note=note, external_id="", origin=Origin.IMPORT, source_file="", reverses=None)


def _description(entry: LedgerEntry) -> str:
    return f"{find_account(entry.account).title}, {entry.quantity.normalize():f} {entry.unit}"


def _row(numbered: NumberedEntry, run: BookedRun | None, location: str) -> dict[str, Any]:
    entry = numbered.entry
    account, (_, per_price) = find_account(entry.account), PRICE_UNITS[entry.price_unit]
    cost, zero = usd_text(entry.amount_nano_usd), "0"
    month_start, month_end = full_month(entry.day)
    is_usage = entry.account not in BILLED_ONLY and entry.account != "recovered"
    with localcontext(prec=40):
        pricing = (entry.quantity / per_price).quantize(PLACES).normalize()
    return {
        "BilledCost": zero if entry.account in EFFECTIVE_ONLY else cost,
        "EffectiveCost": zero if entry.account in BILLED_ONLY else cost,
        "ListCost": cost,
        "ContractedCost": cost,
        "BillingAccountId": location,
        "BillingAccountName": "openbook ledger",
        "BillingCurrency": "USD",
        "BillingPeriodStart": _time(midnight(month_start)),
        "BillingPeriodEnd": _time(midnight(month_end)),
        "ChargePeriodStart": _time(entry.period_start),
        "ChargePeriodEnd": _time(_up(entry.period_end)),
        "ChargeCategory": _charge_category(entry.account),
        "ChargeClass": _charge_class(entry),
        "ChargeDescription": entry.note or _description(entry),
        "ChargeFrequency": _frequency(entry.account),
        "ConsumedQuantity": f"{entry.quantity:f}" if is_usage else "",
        "ConsumedUnit": UNITS[entry.unit] if is_usage else "",
        "PricingCategory": "Standard" if is_usage or entry.account in BILLED_ONLY else "",
        "PricingQuantity": f"{pricing:f}",
        "PricingUnit": PRICING_UNITS[entry.price_unit],
        "ListUnitPrice": f"{entry.unit_price_usd:f}",
        "ContractedUnitPrice": f"{entry.unit_price_usd:f}",
        "InvoiceIssuerName": entry.price_source,
        "ProviderName": entry.price_source,
        "PublisherName": entry.price_source,
        "ResourceId": entry.run_id or "",
        "ResourceName": run.stage if run else "",
        "ResourceType": "Run" if run else "",
        "ServiceCategory": CATEGORIES.get(entry.account, "Other"),
        "ServiceName": account.title,
        "SkuId": entry.account,
        "SkuPriceId": f"{entry.account}:{entry.price_unit}:{entry.price_date}:{entry.unit_price_usd:f}",
        "SubAccountId": entry.programme,
        "SubAccountName": entry.programme,
        "Tags": _tags(entry, run),
        "x_EntryNumber": numbered.number,
        "x_RecordedAt": entry.time.isoformat(),
        "x_PeriodStart": entry.period_start.isoformat(),
        "x_PeriodEnd": entry.period_end.isoformat(),
        "x_Account": entry.account,
        "x_RunId": entry.run_id or "",
        "x_Run": json.dumps(run_to_row(run)) if run else "",
        "x_Attempt": entry.attempt,
        "x_Lost": "true" if entry.lost else "false",
        "x_PriceSource": entry.price_source,
        "x_PriceDate": entry.price_date.isoformat(),
        "x_Origin": str(entry.origin),
        "x_Basis": str(entry.basis),
        "x_SourceFile": entry.source_file,
        "x_ExternalId": entry.external_id,
        "x_Reverses": "" if entry.reverses is None else entry.reverses,
    }


def _time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _up(time: datetime) -> datetime:
    """The next whole second: an end is excluded."""
    return time if not time.microsecond else time.replace(microsecond=0) + timedelta(seconds=1)


def _charge_category(account: str) -> str:
    if account in BILLED_ONLY:
        return "Purchase"
    return "Adjustment" if account == "recovered" else "Usage"


def _charge_class(entry: LedgerEntry) -> str:
    """FOCUS calls only what mends an earlier month a correction."""
    return "Correction" if entry.reverses and full_month(entry.time.date())[0] > entry.day else ""


def _frequency(account: str) -> str:
    if account in BILLED_ONLY:
        return "One-Time"
    return "Recurring" if account in (*EFFECTIVE_ONLY, "storage") else "Usage-Based"


def _tags(entry: LedgerEntry, run: BookedRun | None) -> str:
    tags = {"account": entry.account, "basis": str(entry.basis)}
    if run is not None:
        tags |= {"run": run.run_id, "verb": run.verb, "stage": run.stage, "status": str(run.status)}
    if entry.programme:
        tags["programme"] = entry.programme
    return json.dumps(tags)


def _own(row: SheetRow) -> Arrival:
    """A row that `write` wrote, or that somebody changed since."""
    account = row.read("x_Account", lambda text: find_account(text).name)
    _refuse_currency(row)
    unit, price_unit = _units(row, account)
    column = "ConsumedQuantity" if row.text("ConsumedQuantity", "") else "PricingQuantity"
    cost = "EffectiveCost" if account in EFFECTIVE_ONLY else "BilledCost"
    entry = LedgerEntry(
        time=row.time("x_RecordedAt"),
        run_id=row.text("x_RunId", "") or None,
        attempt=int(row.number("x_Attempt")),
        account=account,
        lost=row.text("x_Lost") == "true",
        quantity=row.number(column),
        unit=unit,
        unit_price_usd=row.number("ListUnitPrice"),
        price_unit=price_unit,
        price_source=row.text("x_PriceSource"),
        price_date=row.day("x_PriceDate"),
        amount_nano_usd=_amount(row, cost),
        note=row.text("ChargeDescription", ""),
        period_start=row.time("x_PeriodStart"),
        period_end=row.time("x_PeriodEnd"),
        origin=Origin.IMPORT,
        basis=row.read("x_Basis", Basis),
        source_file=row.sheet,
        external_id=row.text("x_ExternalId", ""),
        programme=row.text("SubAccountId", ""),
        reverses=int(row.number("x_Reverses")) if row.text("x_Reverses", "") else None,
    )
    _check(row, entry, cost)
    number = int(row.number("x_EntryNumber"))
    if not entry.external_id:
        entry = replace(entry, external_id=f"focus:{_digest(number, entry)}")
    run = row.read("x_Run", lambda text: run_from_values(json.loads(text))) if row.text("x_Run", "") else None
    return Arrival(row=row, entry=entry, number=number, booked_run=run)


def _digest(number: int, entry: LedgerEntry) -> str:
    """Of what an entry says, so that it is known again in the next export of a book that has grown."""
    content = {"number": number, **entry_to_row(_content(entry))}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _units(row: SheetRow, account: str) -> tuple[str, str]:
    """The units of quantity and price. Raises UserError when the account has none such."""
    consumed, pricing = row.text("ConsumedUnit", ""), row.text("PricingUnit")
    for price_unit, (unit, _) in PRICE_UNITS.items():
        fits = unit in ACCOUNTS[account].units and consumed in ("", UNITS[unit])
        if fits and PRICING_UNITS[price_unit] == pricing:
            return unit, price_unit
    raise row.wrong("PricingUnit", f"{account} has no price by {pricing!r} and quantity in {consumed!r}")


def _amount(row: SheetRow, column: str) -> int:
    return to_nano_usd(row.number(column))


def _check(row: SheetRow, entry: LedgerEntry, cost: str) -> None:
    """Raises UserError when an entry contradicts itself or its cost is not quantity times price."""
    if entry.unit_price_usd < 0:
        raise row.wrong("ListUnitPrice", f"{entry.unit_price_usd} is negative", "a price is not")
    try:
        refuse_wrong(entry)
    except UserError as error:
        raise row.wrong("x_Account", error.what, error.mend) from error
    expected = amount_nano_usd(entry.quantity, entry.unit_price_usd, entry.price_unit)
    if abs(entry.amount_nano_usd - expected) > 1:
        raise row.wrong(
            cost,
            f"{usd_text(entry.amount_nano_usd)} is not quantity times price, {usd_text(expected)}",
            "mend one of the three",
        )


def _refuse_currency(row: SheetRow) -> None:
    row.read("BillingCurrency", lambda text: refuse_other_currency(text, "the cost"))


def _foreign(row: SheetRow, account: str | None) -> Arrival:
    """What a provider billed: hours of compute or tokens where they come to the cost, else plain dollars."""
    _refuse_currency(row)
    start, end = row.time("ChargePeriodStart"), row.time("ChargePeriodEnd")
    if end < start:
        raise row.wrong("ChargePeriodEnd", f"{end.isoformat()} is before ChargePeriodStart")
    provider = (
        row.text("ProviderName", "")
        or row.text("ServiceProviderName", "")
        or row.text("InvoiceIssuerName", "")
    )
    invoice = row.text("InvoiceId", "")
    amount = _amount(row, "BilledCost")
    entry = LedgerEntry(
        time=datetime.now(UTC),
        run_id=None,
        attempt=0,
        account=account or "other",
        lost=False,
        quantity=Decimal(amount).scaleb(-9),
        unit="usd",
        unit_price_usd=Decimal(1),
        price_unit="usd",
        price_source=f"{provider or 'a provider'}{f', invoice {invoice}' if invoice else ''}",
        price_date=start.astimezone(UTC).date(),
        amount_nano_usd=amount,
        note=row.text("ChargeDescription", row.text("ServiceName", "")),
        period_start=start,
        period_end=end,
        origin=Origin.IMPORT,
        basis=Basis.STATED,
        source_file=row.sheet,
        external_id=f"focus:{row.digest}",
    )
    if account is None:
        entry = _specific(row, entry)
    try:
        refuse_wrong(entry)
    except UserError as error:
        raise row.wrong("BilledCost", error.what, error.mend) from error
    return Arrival(row=row, entry=entry)


def _specific(row: SheetRow, plain: LedgerEntry) -> LedgerEntry:
    """A provider's row under the account it belongs to, if its quantity times its price is its cost."""
    category, unit = row.text("ServiceCategory", ""), row.text("PricingUnit", "").lower()
    if category == "Storage":
        return replace(plain, account="storage")
    account, price_unit = next(_fitting(category, unit), ("other", ""))
    quantity, price = row.text("PricingQuantity", ""), row.text("ContractedUnitPrice", "")
    if not (price_unit and quantity and price):
        return plain
    counted_in, per_price = PRICE_UNITS[price_unit]
    found = replace(
        plain,
        account=account,
        quantity=row.number("PricingQuantity") * per_price,
        unit=counted_in,
        unit_price_usd=row.number("ContractedUnitPrice"),
        price_unit=price_unit,
    )
    expected = amount_nano_usd(found.quantity, found.unit_price_usd, price_unit)
    is_exact = found.unit_price_usd >= 0 and abs(expected - plain.amount_nano_usd) <= 1
    return replace(found, amount_nano_usd=expected) if is_exact else plain


def _fitting(category: str, unit: str) -> Iterator[tuple[str, str]]:
    if category == "Compute" and unit in ("hours", "hour", "1 hour", "hrs"):
        yield "device", "device-hour"
    if category == "AI and Machine Learning" and unit in ("tokens", "token"):
        yield "teacher_tokens", "token"
    if category == "AI and Machine Learning" and unit in ("1000000 tokens", "1m tokens"):
        yield "teacher_tokens", "million-tokens"
