from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from openbook.economics.serving.price_list import PriceList, blended_usd
from openbook.errors import UserError

LISTS = PriceList.default()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def prices(model: str, text: str, vendor: str = "deepseek") -> tuple[str, str, str]:
    found = LISTS.offer(vendor, model, at(text)).prices
    return str(found.missed_usd), str(found.cached_usd), str(found.output_usd)


@pytest.mark.parametrize(
    ("moment", "output"),
    [
        ("2025-03-01T16:29:59", "2.19"),
        ("2025-03-01T16:30", "0.55"),
        ("2025-03-01T23:59:59", "0.55"),
        ("2025-03-02T00:00", "0.55"),
        ("2025-03-02T00:29:59", "0.55"),
        ("2025-03-02T00:30", "2.19"),
        ("2025-02-25T17:00", "2.19"),  # before there was a night price
    ],
)
def test_the_night_window_holds_across_midnight_and_not_on_its_last_minute(moment: str, output: str) -> None:
    assert prices("deepseek-r1", moment)[2] == output


def test_a_price_ends_before_the_day_on_which_the_next_begins() -> None:
    assert prices("deepseek-v3", "2025-02-07T23:59:59") == ("0.14", "0.14", "0.28")
    assert prices("deepseek-v3", "2025-02-08T12:00") == ("0.27", "0.07", "1.10")


@pytest.mark.parametrize(
    ("vendor", "model", "moment", "expected"),
    [
        ("deepseek", "deepseek-r1", "2025-01-27T12:00", ("0.55", "0.14", "2.19")),
        ("deepseek", "deepseek-r1", "2025-03-01T17:00", ("0.135", "0.035", "0.55")),
        ("deepseek", "deepseek-v4-flash", "2026-11-23T12:00", ("0.14", "0.028", "0.28")),
        ("deepseek", "deepseek-v4-pro", "2026-11-23T12:00", ("1.74", "0.145", "3.48")),
        ("openai", "o1", "2025-01-27T12:00", ("15", "7.50", "60")),
        ("openai", "o1-pro", "2026-01-01T12:00", ("150", "150", "600")),
        ("openai", "gpt-4o", "2026-01-01T12:00", ("2.50", "1.25", "10")),
        ("openai", "gpt-5", "2026-01-01T12:00", ("1.25", "0.125", "10")),
    ],
)
def test_the_lists_of_the_fact_sheet(
    vendor: str, model: str, moment: str, expected: tuple[str, str, str]
) -> None:
    assert prices(model, moment, vendor) == expected


def test_r1_was_sold_at_96_percent_below_o1() -> None:
    r1, o1 = (
        LISTS.offer("deepseek", "deepseek-r1", at("2025-01-27")),
        LISTS.offer("openai", "o1", at("2025-01-27")),
    )
    assert 1 - r1.input_missed / o1.input_missed == pytest.approx(Decimal("0.9633"), abs=Decimal("0.0001"))
    assert 1 - r1.output / o1.output == pytest.approx(Decimal("0.9635"), abs=Decimal("0.0001"))


def test_every_offer_says_who_says_so_and_when() -> None:
    assert all(offer.source and offer.checked and offer.mark for offer in LISTS.offers)
    stale = {offer.model for offer in LISTS.offers if offer.is_stale(date(2028, 1, 1))}
    assert stale == {"deepseek-v4-flash", "deepseek-v4-pro", "o1", "o1-pro", "gpt-4o", "gpt-5"}
    assert not any(offer.is_stale(date(2026, 11, 24)) for offer in LISTS.offers)


def test_writing_to_a_cache_is_dearer_than_missing_it_with_one_vendor() -> None:
    (rule,) = LISTS.cache_rules
    assert rule.write_usd(Decimal("3")) == Decimal("3.75")
    assert rule.write_usd(Decimal("3"), hours=1) == Decimal("6.00")
    assert rule.read_share == Decimal("0.10")


def test_the_blend_of_a_day() -> None:
    r1 = LISTS.offer("deepseek", "deepseek-r1", at("2025-02-28T12:00")).prices
    assert blended_usd(r1, input_share=608 / 776, hit_share=342 / 608) == pytest.approx(562_100 / 776_000)
    with pytest.raises(UserError, match="hit share is 56"):
        blended_usd(r1, input_share=0.8, hit_share=56)


OFFER = """
[[offers]]
vendor = "me"
model = "m"
valid_from = 2026-01-01
input_missed = 1.0
output = 2.0
checked = 2026-01-01
source = "mine"
mark = "ours"
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OFFER.replace("2.0", "-2.0"), "not negative"),
        (OFFER.replace("valid_from = 2026-01-01\n", ""), "valid_from: missing"),
        (OFFER.replace("checked = 2026-01-01\n", ""), "checked: missing"),
        (
            OFFER + OFFER.replace("2026-01-01\ninput", "2027-01-01\ninput"),
            "two prices of me m .* hold on 2027-01-01",
        ),
        (OFFER + "window_from = 16:30:00\n", "needs window_from and window_to"),
        (OFFER + "window_from = 16:30:00\nwindow_to = 16:30:00\n", "ends where it begins"),
        (OFFER + "valid_to = 2025-01-01\n", "valid_to must be after"),
        (OFFER + "colour = 1\n", "unknown key"),
        ("[[offers", "not valid TOML"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        PriceList.from_toml(text, "mine.toml")
    assert "\n" not in str(caught.value)


def test_windows_overlap_only_within_a_day_and_with_their_kind() -> None:
    night = OFFER + "window_from = 16:30:00\nwindow_to = 00:30:00\n"
    day = OFFER + "window_from = 00:30:00\nwindow_to = 16:30:00\n"
    assert len(PriceList.from_toml(OFFER + night + day, "x").offers) == 3
    late = OFFER + "window_from = 00:00:00\nwindow_to = 01:00:00\n"
    with pytest.raises(UserError, match="two prices"):
        PriceList.from_toml(night + late, "x")


def test_names_and_moments_without_a_price_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'deepseek'"):
        LISTS.offer("depseek", "deepseek-r1", at("2025-03-01"))
    with pytest.raises(UserError, match="did you mean 'deepseek-r1'"):
        LISTS.offer("deepseek", "deepsek-r1", at("2025-03-01"))
    with pytest.raises(UserError, match="no price of deepseek deepseek-r1 holds at 2024-03-01"):
        LISTS.offer("deepseek", "deepseek-r1", at("2024-03-01"))
    with pytest.raises(UserError, match="tier"):
        LISTS.offer("deepseek", "deepseek-r1", at("2025-03-01"), tier="gold")
    with pytest.raises(UserError, match="cannot be read"):
        PriceList.load(tmp_path / "none.toml")
