"""FOCUS: cost data with the column names of the FinOps Open Cost and Usage Specification, version 1.2.

    write(book, path)   every entry as a row; what FOCUS has no column for stands in columns x_...

Machines that are owned follow the rule for purchases: what was paid is BilledCost on the day, and
EffectiveCost on the days it pays for. So either column adds up without counting a dollar twice.
"""

from __future__ import annotations

import csv
import json
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

from openbook.errors import UserError
from openbook.ledger.accounts import PRICE_UNITS, find_account
from openbook.ledger.book import Book
from openbook.ledger.depreciation import full_month
from openbook.ledger.entry import (
    LedgerEntry,
)
from openbook.ledger.rows import BookedRun, NumberedEntry, run_to_row
from openbook.ledger.stated import midnight
from openbook.ledger.statement import usd_text

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
PLACES = Decimal("1e-15")


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
        "ChargeDescription": entry.note or describe(entry),
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
        **_own_cells(numbered, run),
    }


def _own_cells(numbered: NumberedEntry, run: BookedRun | None) -> dict[str, Any]:
    """What FOCUS has no column for."""
    entry = numbered.entry
    return {
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


def describe(entry: LedgerEntry) -> str:
    """What an entry without a note is."""
    return f"{find_account(entry.account).title}, {entry.quantity.normalize():f} {entry.unit}"


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
