from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from openbook.ledger.entry import LedgerEntry, Sum, add_up, amount_nano_usd, price_key, reversal

ENTRY = LedgerEntry(
    time=datetime(2026, 1, 31, tzinfo=UTC),
    run_id="r1",
    attempt=1,
    account="device",
    lost=False,
    quantity=Decimal("1800"),
    unit="device-second",
    unit_price_usd=Decimal("2.00"),
    price_unit="device-hour",
    price_source="ours",
    price_date=date(2026, 1, 1),
    amount_nano_usd=1_000_000_000,
    note="",
    period_start=datetime(2026, 1, 30, 23, 30, tzinfo=UTC),
    period_end=datetime(2026, 1, 31, tzinfo=UTC),
)


@pytest.mark.parametrize(
    ("quantity", "price", "unit", "nano_usd"),
    [
        ("3600", "2.00", "device-hour", 2_000_000_000),
        ("1800", "0.0100", "device-hour", 5_000_000),
        ("0.000001", "2.00", "device-hour", 1),  # 0.5556 of a nano-dollar
        ("0.0000009", "2.00", "device-hour", 0),  # exactly 0.5: half to even
        ("0.0000027", "2.00", "device-hour", 2),  # exactly 1.5
        ("10032000000", "2.00", "device-hour", 5_573_333_333_333_333),  # 2.787M hours of one GPU
        ("86", "0.55", "million-tokens", 47_300),
        ("300", "2.19", "million-tokens", 657_000),
        ("-1800", "0.0100", "device-hour", -5_000_000),
        ("7", "0", "token", 0),
    ],
)
def test_an_amount_is_the_exact_product_rounded_once(
    quantity: str, price: str, unit: str, nano_usd: int
) -> None:
    assert amount_nano_usd(Decimal(quantity), Decimal(price), unit) == nano_usd


def test_the_published_training_cost_of_deepseek_v3_comes_out() -> None:
    """Table 1 of the report: 2.788 million H800 hours at 2.00 USD are 5.576 million USD."""
    assert amount_nano_usd(Decimal(2_788_000 * 3600), Decimal("2.00"), "device-hour") == 5_576_000 * 10**9


def test_an_entry_and_its_reversal_add_up_to_nothing() -> None:
    back = reversal(ENTRY, time=datetime(2026, 2, 1, tzinfo=UTC), note="entered twice")
    assert back.note == "entered twice"
    assert add_up([ENTRY, back]) == {price_key(ENTRY): Sum(Decimal(0), 0)}
