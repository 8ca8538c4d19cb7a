"""The accelerators of the package: known values, prices by name, what is refused, and a user's own file."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from openbook.economics.accelerators import (
    Precision,
    QuoteKind,
    Scope,
    accelerators,
    find_accelerator,
    require_precision,
    with_file,
)
from openbook.economics.sourced import Mark
from openbook.errors import UserError
from openbook.ledger.prices import PricePlan

TODAY = date(2026, 11, 24)
NAMES = ["v100", "a100-40", "a100-80", "h800", "h100", "h200", "h20", "b200", "b300", "gb200", "gb300"]
NAMES += ["mi300x", "mi355x"]

OWN = """
[sources.mine]
title = "our lab"
date = 2026-10-01
mark = "ours"

[accelerators.h800]
title = "our H800"
peak_tflops = { bf16 = { value = 900, source = "mine", note = "throttled" } }
rent = "lab"
rentals = [{ name = "lab", usd = 0.9, date = 2026-10-01, kind = "ownership", seller = "us", source = "mine" }]

[accelerators.npu]
title = "something new"
peak_tflops = { fp8 = { value = 100, source = "mine" } }
"""


def test_every_accelerator_that_was_promised_is_known() -> None:
    assert [one.name for one in accelerators()] == NAMES


@pytest.mark.parametrize(
    ("name", "precision", "tflops"),
    [
        ("v100", Precision.FP16, 125),
        ("a100-40", Precision.BF16, 312),
        ("a100-80", Precision.FP32, 19.5),
        ("h800", Precision.BF16, 989.5),
        ("h100", Precision.FP8, 1979),
        ("h20", Precision.BF16, 148),
        ("b200", Precision.FP4, 9000),
        ("gb300", Precision.FP4, 15000),
        ("mi300x", Precision.BF16, 1307),
        ("mi355x", Precision.FP8, 5033),
    ],
)
def test_peaks_are_the_dense_ones_in_operations_a_second(
    name: str, precision: Precision, tflops: float
) -> None:
    peak = find_accelerator(name).peak(precision)
    assert peak.value == pytest.approx(tflops * 1e12) and peak.unit == "FLOP/s"


def test_memory_links_and_power_are_in_plain_units() -> None:
    h800 = find_accelerator("h800")
    assert h800.memory_bytes is not None and h800.memory_bytes.value == 80e9
    assert h800.memory_bandwidth is not None and h800.memory_bandwidth.value == pytest.approx(3.36e12)
    assert h800.link_bandwidth is not None and h800.link_bandwidth.value == 200e9
    assert h800.network_bandwidth is not None and h800.network_bandwidth.mark is Mark.PRIMARY
    h100 = find_accelerator("h100")
    assert h100.all_in_watts is not None and h100.all_in_watts.value == 1730
    assert h100.tdp_watts is not None and h100.tdp_watts.value == 700
    assert find_accelerator("gb200").devices_per_node == 72


def test_the_price_of_v3_can_be_asked_for_by_name_and_is_the_default_of_the_h800() -> None:
    h800 = find_accelerator("H800")
    quote = h800.rental("v3")
    assert (quote.price.value, quote.kind, quote.seller) == (2.00, QuoteKind.ASSUMED, "DeepSeek")
    assert h800.rent_usd_per_hour is not None and h800.rent_usd_per_hour.value == 2.00
    assert "published costs" in h800.rent_usd_per_hour.note
    assert h800.purchase("article").price.value * 2048 == pytest.approx(51e6)
    with pytest.raises(UserError, match=r"h800 has no rental price called 'cr8dl'; did you mean 'cr8dl-20"):
        h800.rental("cr8dl")
    with pytest.raises(UserError, match="h20 has no rental price called 'v3'; none is known"):
        find_accelerator("h20").rental("v3")


def test_every_default_price_says_what_it_was_and_why_it_was_chosen() -> None:
    for one in accelerators():
        for price in (one.rent_usd_per_hour, one.purchase_usd):
            if price is not None:
                kind, reason = price.note.split("; ")[:2]
                assert kind.split(",")[0] in list(QuoteKind) and len(reason) > 5, (one.name, price.note)
        assert all(quote.kind is QuoteKind.PURCHASE for quote in one.purchases)


def test_what_is_not_known_is_named_with_the_option_that_supplies_it() -> None:
    h20 = find_accelerator("h20")
    assert h20.missing() == ("rent_usd_per_hour: --rent",)
    assert h20.at_rent(1.1, today=TODAY).missing() == ()
    gb300 = find_accelerator("gb300")
    assert gb300.missing() == ("purchase_usd: --purchase",)
    own = gb300.at_purchase(60_000, today=TODAY)
    assert own.purchase_usd is not None and own.purchase_usd.date == TODAY
    assert own.purchase_scope is Scope.SERVER and own.missing() == ()


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_a_price_of_ones_own_that_is_none_is_refused(price: float) -> None:
    with pytest.raises(UserError, match=r"--rent .*not negative; give it in USD/h"):
        find_accelerator("h100").at_rent(price, today=TODAY)


@pytest.mark.parametrize(
    ("name", "precision", "reason"),
    [
        ("v100", Precision.BF16, r"cannot compute in bf16: its tensor cores have no bf16; it has fp16, fp32"),
        ("a100-80", Precision.FP8, r"no arithmetic in fp8.*it has bf16, fp16, fp32, tf32"),
        ("h100", Precision.FP4, r"no arithmetic in fp4"),
        ("gb300", Precision.FP32, r"no peak of it for fp32 is known"),
    ],
)
def test_a_precision_that_the_hardware_lacks_is_refused_with_the_reason(
    name: str, precision: Precision, reason: str
) -> None:
    one = find_accelerator(name)
    for ask in (one.peak, one.achievable_share, lambda asked: require_precision(one, asked)):
        with pytest.raises(UserError, match=reason):
            ask(precision)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no accelerator 'h900'; did you mean 'h800'"):
        find_accelerator("h900")
    for name, meant in (("a100", "'a100-40' or 'a100-80'"), ("H100-SXM", "'h100'"), ("v100-32", "'v100'")):
        with pytest.raises(UserError, match=rf"did you mean {meant}\?"):
            find_accelerator(name)
    with pytest.raises(UserError, match="no accelerator ''; known: "):
        find_accelerator("")


def test_a_share_that_was_not_measured_is_that_of_16_bits_and_marked_so() -> None:
    mi300x = find_accelerator("mi300x")
    measured, taken = mi300x.achievable_share(Precision.BF16), mi300x.achievable_share(Precision.FP8)
    assert measured is not None and (measured.value, measured.mark) == (0.514, Mark.SECOND_HAND)
    assert taken is not None and (taken.value, taken.mark) == (0.514, Mark.OURS)
    assert "measured for bf16" in taken.note
    v100 = find_accelerator("v100").achievable_share(Precision.FP32)
    assert v100 is not None and v100.value == 0.90


def test_the_planner_and_the_ledger_take_the_same_price_for_a_rented_device() -> None:
    plan = PricePlan.default()
    priced = {price.resource for price in plan.prices}
    both = [one for one in accelerators() if f"{one.name}-hour" in priced]
    assert {one.name for one in both} >= {"h800", "h100", "h200", "b200", "b300", "gb200", "mi300x"}
    for one in both:
        assert one.rent_usd_per_hour is not None
        assert float(plan.price(f"{one.name}-hour", TODAY).price_usd) == one.rent_usd_per_hour.value


def test_a_users_file_replaces_an_entry_whole_and_adds_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    known = with_file(path)
    h800 = find_accelerator("h800", known)
    assert h800.peak(Precision.BF16).value == 900e12 and Precision.FP8 not in h800.peak_flops
    assert h800.rent_usd_per_hour is not None and h800.rent_usd_per_hour.value == 0.9
    assert h800.rent_usd_per_hour.source == "our lab" and h800.memory_bytes is None
    assert "memory_bytes: --accelerators FILE" in h800.missing()
    assert find_accelerator("npu", known).title == "something new"
    assert find_accelerator("h100", known) is find_accelerator("h100")
    assert with_file(None) is with_file(None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'source = "mine", note',
            'source = "yours", note',
            r"accelerators.h800.peak_tflops.bf16: unknown source",
        ),
        ("bf16 =", "bf17 =", "unknown precision 'bf17'"),
        ('rent = "lab"', 'rent = "labs"', r"accelerators.h800.rent: no price is called 'labs'; did you mean"),
        ("usd = 0.9", "usd = -0.9", "a price is positive"),
        ("date = 2026-10-01, kind", "kind", r"rentals\[0\].date: missing"),
        ("value = 900", "value = 0", "a figure is positive"),
        ("[accelerators.npu]", "[accelerators.this]", "taken by the machine at hand"),
        ("[accelerators.npu]", "[accelerators.NPU]", "small letters; call it 'npu'"),
        ('kind = "ownership"', 'kind = "purchase"', "belongs under purchases"),
        (
            'title = "something new"',
            'title = "new"\ntdp = 3',
            r"accelerators.npu.tdp: unknown key.*tdp_watts",
        ),
        ("[sources.mine]", "[sources.mine", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_users_file_is_one_line_that_names_the_file(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "mine.toml"
    assert old in OWN
    path.write_text(OWN.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as error:
        with_file(path)
    assert "mine.toml" in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_a_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read .*; name another file"):
        with_file(tmp_path / "none.toml")
