from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from openbook.errors import UserError
from openbook.ledger.prices import PricePlan

PLAN = """
[devices]
cpu = "host"
[[prices]]
resource = "host"
unit = "device-hour"
price_usd = 0.1
valid_from = 2025-01-01
valid_to = 2026-01-01
source = "ours"
[[prices]]
resource = "host"
unit = "device-hour"
price_usd = 0.30
valid_from = 2026-01-01
source = "ours"
"""


def test_a_price_holds_from_its_first_day_up_to_but_not_on_its_last() -> None:
    plan = PricePlan.from_toml(PLAN, "test")
    assert plan.price("host", date(2025, 1, 1)).price_usd == Decimal("0.1")
    assert plan.price("host", date(2025, 12, 31)).price_usd == Decimal("0.1")
    assert plan.price("host", date(2026, 1, 1)).price_usd == Decimal("0.3")
    assert plan.price("host", date(2099, 1, 1)).price_usd == Decimal("0.3")


def test_a_day_before_all_prices_and_an_unknown_resource_are_errors() -> None:
    plan = PricePlan.from_toml(PLAN, "test")
    with pytest.raises(UserError, match="no price of host for 2024-12-31"):
        plan.price("host", date(2024, 12, 31))
    with pytest.raises(UserError, match=r"no 'hosst'; did you mean 'host'\?"):
        plan.price("hosst", date(2025, 1, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("valid_to = 2026-01-01", "valid_to = 2026-01-02", "two prices for host hold on 2026-01-01"),
        ("valid_to = 2026-01-01", "valid_to = 2025-01-01", "valid_to must be after valid_from"),
        ("price_usd = 0.1", "price_usd = -0.1", "not negative"),
        ('unit = "device-hour"', 'unit = "device-hours"', "did you mean 'device-hour'"),
        ("price_usd = 0.1", "price = 0.1", "unknown key"),
        ('cpu = "host"', 'cpu = "hots"', "takes 'hots', which has no price"),
        ("[devices]", "[devices", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_plan_is_one_line_that_names_the_plan(old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^price plan mine.toml.*{message}"):
        PricePlan.from_toml(PLAN.replace(old, new, 1), "mine.toml")


def test_a_plan_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(PLAN)
    assert len(PricePlan.load(tmp_path / "prices.toml").prices) == 2
    with pytest.raises(UserError, match="cannot be read"):
        PricePlan.load(tmp_path / "other.toml")


def test_prices_in_dollars_are_exact_decimals() -> None:
    assert str(PricePlan.from_toml(PLAN, "test").price("host", date(2026, 5, 5)).price_usd) == "0.30"


@pytest.mark.parametrize(
    ("device", "resource"),
    [
        ("cpu", "host-device-hour"),
        ("NVIDIA H200", "h200-hour"),
        ("NVIDIA H100 80GB HBM3", "h100-hour"),
        ("nvidia gb200", "gb200-hour"),
        ("NVIDIA B200", "b200-hour"),
        ("AMD Instinct MI300X", "mi300x-hour"),
    ],
)
def test_the_default_plan_finds_a_device_by_a_whole_word_of_its_name(device: str, resource: str) -> None:
    assert PricePlan.default().resource_of(device) == resource


def test_a_device_without_a_price_is_named() -> None:
    with pytest.raises(UserError, match="what an hour of 'RTX 4090' costs"):
        PricePlan.default().resource_of("RTX 4090")


def test_every_default_price_has_a_source_and_a_note() -> None:
    assert all(price.source and price.note for price in PricePlan.default().prices)


def test_h800_hours_cost_what_the_deepseek_v3_report_assumes() -> None:
    price = PricePlan.default().price("h800-hour", date(2024, 12, 27))
    assert (price.price_usd, price.unit) == (Decimal("2.00"), "device-hour")


def test_the_price_of_the_host_is_the_sum_that_its_note_shows() -> None:
    price = PricePlan.default().price("host-device-hour", date(2026, 1, 31))
    capital_usd_per_hour = 12_000 / (5 * 8760)
    power_usd_per_hour = 0.6 * 0.75 * 1.25 * 0.0826
    assert re.findall(r"0\.\d{5}", price.note)[:2] == [
        f"{capital_usd_per_hour:.5f}",
        f"{power_usd_per_hour:.5f}",
    ]
    assert float(price.price_usd) == round((capital_usd_per_hour + power_usd_per_hour) * 2 / 64, 4)
