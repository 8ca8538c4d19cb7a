from __future__ import annotations

import pytest

from openbook.errors import UserError
from openbook.ledger.cap import Cap, Meter, parse_cap


@pytest.mark.parametrize(
    ("text", "meter", "most"),
    [
        ("$0.01", Meter.USD, 10_000_000),
        ("0.01 USD", Meter.USD, 10_000_000),
        ("$1,250.50", Meter.USD, 1_250_500_000_000),
        (".5 dollars", Meter.USD, 500_000_000),
        ("2h", Meter.DEVICE_TIME, 7_200_000_000),
        ("90 min", Meter.DEVICE_TIME, 5_400_000_000),
        ("1.5 s", Meter.DEVICE_TIME, 1_500_000),
        ("3 device-hours", Meter.DEVICE_TIME, 10_800_000_000),
        ("3 device hours", Meter.DEVICE_TIME, 10_800_000_000),
        ("1e6 tokens", Meter.TOKENS, 1_000_000),
        ("1.5M tokens", Meter.TOKENS, 1_500_000),
        ("200K tokens", Meter.TOKENS, 200_000),
        ("1 token", Meter.TOKENS, 1),
    ],
)
def test_a_cap_is_read_as_it_is_typed(text: str, meter: Meter, most: int) -> None:
    assert parse_cap(text) == Cap(meter=meter, most=most)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no amount"),
        ("plenty", "is no amount"),
        ("10", "has no unit"),
        ("$0", "is not above zero"),
        ("-5h", "is not above zero"),
        ("$1e-12", "out of reach"),
        ("$1e12", "out of reach"),
        ("\u20ac5", "is in 'EUR'"),
        ("5 GBP", "is in 'GBP'"),
        ("5 bananas", "cannot be counted in 'bananas'"),
        ("0.4 tokens", "out of reach"),
    ],
)
def test_what_is_no_cap_is_one_line_with_the_mend(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        parse_cap(text)
    assert "\n" not in str(raised.value) and raised.value.mend


def test_a_cap_and_an_amount_are_shown_in_its_unit() -> None:
    assert parse_cap("$0.01").show() == "$0.0100"
    assert parse_cap("2h").show(60_000_000) == "1 min 00 s of device time"
    assert parse_cap("2M tokens").show() == "2.0M tokens"
