"""Reading FOCUS: our own rows exactly as they were, a provider's rows as what was billed.

    read_focus(sheet)     a list of Arrival: the entry, its row, and what is known of its run

Our own rows are those that openbook.ledger.focus wrote; their columns x_... say what FOCUS has no column for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

from openbook.errors import UserError
from openbook.ledger.accounts import ACCOUNTS, PRICE_UNITS, find_account
from openbook.ledger.entry import (
    Basis,
    LedgerEntry,
    Origin,
    amount_nano_usd,
    refuse_other_currency,
    refuse_wrong,
)
from openbook.ledger.focus import COLUMNS, EFFECTIVE_ONLY, OWN_COLUMNS, PRICING_UNITS, UNITS, describe
from openbook.ledger.rows import BookedRun, entry_to_row, run_from_values
from openbook.ledger.sheet import Sheet, SheetRow
from openbook.ledger.stated import StatedRun
from openbook.ledger.statement import usd_text
from openbook.units import to_nano_usd

NEEDED = ("BilledCost", "BillingCurrency", "ChargePeriodStart", "ChargePeriodEnd")


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


def is_focus(sheet: Sheet) -> bool:
    """Whether the columns are those of FOCUS."""
    return {"BilledCost", "BillingCurrency"} <= set(sheet.columns)


def read_focus(sheet: Sheet, account: str | None = None) -> list[Arrival]:
    """The entries of a FOCUS file. Raises UserError that names line and column."""
    sheet.require(NEEDED, "a FOCUS file has it")
    if "x_EntryNumber" in sheet.columns:
        sheet.require((*COLUMNS, *OWN_COLUMNS), "`openbook ledger export` writes it")
        return [_own(row) for row in sheet.rows]
    return [_foreign(row, account) for row in sheet.rows]


def is_same(one: LedgerEntry, other: LedgerEntry) -> bool:
    """Whether an entry that was exported is this entry of the book."""
    return content_of(one) == content_of(other)


def content_of(entry: LedgerEntry) -> LedgerEntry:
    """What of an entry an export keeps as it is."""
    note = entry.note or describe(entry)
    return replace(entry, note=note, external_id="", origin=Origin.IMPORT, source_file="", reverses=None)


def _own(row: SheetRow) -> Arrival:
    """A row that `write` wrote, or that somebody changed since."""
    account = row.read("x_Account", lambda text: find_account(text).name)
    _refuse_currency(row)
    unit, price_unit = _units(row, account)
    column = "ConsumedQuantity" if row.text("ConsumedQuantity", "") else "PricingQuantity"
    cost = "EffectiveCost" if account in EFFECTIVE_ONLY else "BilledCost"
    entry = LedgerEntry(
        time=row.time("x_RecordedAt"),
        run_id=row.verbatim("x_RunId") or None,
        attempt=int(row.number("x_Attempt")),
        account=account,
        lost=row.text("x_Lost") == "true",
        quantity=row.number(column),
        unit=unit,
        unit_price_usd=row.number("ListUnitPrice"),
        price_unit=price_unit,
        price_source=row.verbatim("x_PriceSource"),
        price_date=row.day("x_PriceDate"),
        amount_nano_usd=_amount(row, cost),
        note=row.verbatim("ChargeDescription"),
        period_start=row.time("x_PeriodStart"),
        period_end=row.time("x_PeriodEnd"),
        origin=Origin.IMPORT,
        basis=row.read("x_Basis", Basis),
        source_file=row.sheet,
        external_id=row.verbatim("x_ExternalId"),
        programme=row.verbatim("SubAccountId"),
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
    content = {"number": number, **entry_to_row(content_of(entry))}
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
