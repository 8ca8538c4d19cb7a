"""The machine at hand as an accelerator: measured peaks, and the price by which the ledger books."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from openbook.economics.accelerators import Precision, find_accelerator
from openbook.economics.facility import load_facility
from openbook.economics.host import host_usd_per_hour, this_machine
from openbook.economics.sourced import Mark
from openbook.errors import UserError
from openbook.ledger.prices import PricePlan
from openbook.runs.machine_profile import (
    DtypeName,
    MachineProfile,
    ProductRate,
    ReadRate,
    ShapeClass,
    save_profile,
)

TODAY = date(2026, 11, 24)


def square(dtype: DtypeName, flops_per_second: float) -> ProductRate:
    return ProductRate(
        dtype=dtype,
        shape_class=ShapeClass.SQUARE,
        num_threads=2,
        num_rows=1024,
        width_in=1024,
        width_out=1024,
        flops_per_second=flops_per_second,
    )


PROFILE = MachineProfile(
    measured_on=date(2026, 11, 20),
    processor="a processor",
    num_cpus=2,
    memory_bytes=24_000_000_000,
    torch="2.11",
    products=(square("fp32", 3e11), square("bf16", 2e12)),
    reads=(ReadRate(num_threads=2, bytes_per_second=3e10),),
    dispatch_microseconds=2.0,
    gradient_microseconds=5.0,
    load="2 threads",
    is_disturbed=False,
)


def test_what_the_machine_can_do_is_what_was_measured() -> None:
    this = this_machine(PROFILE, today=TODAY)
    assert this.name == "this" and this.devices_per_node == 1
    assert this.peak(Precision.BF16).value == 2e12 and this.peak(Precision.FP32).value == 3e11
    assert this.peak(Precision.FP32).date == PROFILE.measured_on
    share = this.achievable_share(Precision.FP32)
    assert share is not None and share.value == 1.0
    assert this.memory_bytes is not None and this.memory_bytes.value == 24e9
    assert this.memory_bandwidth is not None and this.memory_bandwidth.value == 3e10
    assert this.missing() == ()
    with pytest.raises(UserError, match="cannot compute in fp8"):
        this.peak(Precision.FP8)


def test_an_hour_costs_what_the_ledger_books_for_it() -> None:
    rent = this_machine(PROFILE, today=TODAY).rent_usd_per_hour
    booked = PricePlan.default().price("host-device-hour", TODAY)
    assert rent is not None and rent.value == float(booked.price_usd) and rent.mark is Mark.OURS
    dearer = replace(booked, price_usd=Decimal("0.25"), valid_from=date(2026, 1, 1), source="our accountant")
    plan = PricePlan(prices=(dearer,), devices={"cpu": "host-device-hour"})
    own = this_machine(PROFILE, today=TODAY, prices=plan).rent_usd_per_hour
    assert own is not None and (own.value, own.source) == (0.25, "our accountant")
    assert own.date == date(2026, 1, 1) and own.mark is Mark.SECOND_HAND


def test_that_price_is_purchase_over_life_plus_power_for_two_cores_of_the_server() -> None:
    reckoned = host_usd_per_hour(load_facility(), num_cpus=2, year=2025)
    assert reckoned == pytest.approx((12_000 / 5 / 8760 + 0.6 * 0.75 * 1.25 * 0.0826) * 2 / 64)
    booked = PricePlan.default().price("host-device-hour", TODAY)
    assert round(reckoned, 4) == float(booked.price_usd)


def test_purchase_and_power_are_the_machines_share_of_the_server() -> None:
    this = this_machine(replace(PROFILE, num_cpus=16), today=TODAY)
    assert this.purchase_usd is not None and this.purchase_usd.value == 3000
    assert this.server_watts is not None and this.server_watts.value == 150
    assert this.all_in_watts is not None and this.all_in_watts.value == 187.5


def test_a_measuring_that_was_disturbed_says_so() -> None:
    this = this_machine(replace(PROFILE, is_disturbed=True), today=TODAY)
    assert "disturbed" in this.peak(Precision.FP32).note


def test_it_is_found_by_name_once_it_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENBOOK_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"not been measured .*; run `openbook doctor --measure`$"):
        find_accelerator("this")
    save_profile(PROFILE)
    assert find_accelerator("This", today=TODAY) == this_machine(PROFILE, today=TODAY)
