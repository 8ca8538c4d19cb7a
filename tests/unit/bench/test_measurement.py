"""A measurement: its keys, its ratio in either direction, and how a table shows it."""

from __future__ import annotations

import json

import pytest

from openbook.bench.measurement import Measurement, Unit, measurement_table

KEYS = ["name", "unit", "ours", "peer_name", "peer", "limit", "ratio", "fraction_of_limit"]


def measured(
    *,
    unit: Unit = Unit.TOKENS_PER_SECOND,
    peer: float | None = 50.0,
    limit: float | None = 200.0,
    notes: tuple[str, ...] = (),
) -> Measurement:
    return Measurement(
        name="decode", unit=unit, ours=100.0, peer_name="llama.cpp", peer=peer, limit=limit, notes=notes
    )


def test_the_json_has_exactly_the_eight_keys() -> None:
    printed = json.loads(json.dumps(measured(notes=("a note",)).to_json()))
    assert list(printed) == KEYS
    assert printed == {
        "name": "decode",
        "unit": "tok/s",
        "ours": 100.0,
        "peer_name": "llama.cpp",
        "peer": 50.0,
        "limit": 200.0,
        "ratio": 2.0,
        "fraction_of_limit": 0.5,
    }


def test_above_one_is_better_for_rates_and_for_times() -> None:
    rate = measured(unit=Unit.TOKENS_PER_SECOND, peer=50.0, limit=200.0)
    time = measured(unit=Unit.MILLISECONDS_PER_TOKEN, peer=400.0, limit=80.0)
    assert (rate.ratio, rate.fraction_of_limit) == (2.0, 0.5)
    assert (time.ratio, time.fraction_of_limit) == (4.0, 0.8)


def test_a_missing_peer_keeps_its_name_and_has_no_figure() -> None:
    printed = measured(peer=None).to_json()
    assert (printed["peer_name"], printed["peer"], printed["ratio"]) == ("llama.cpp", None, None)
    assert printed["fraction_of_limit"] == 0.5


def test_without_a_limit_there_is_no_fraction() -> None:
    printed = measured(limit=None).to_json()
    assert (printed["limit"], printed["fraction_of_limit"], printed["ratio"]) == (None, None, 2.0)


@pytest.mark.parametrize("unit", Unit)
def test_every_unit_has_a_direction(unit: Unit) -> None:
    assert unit.larger_is_better == unit.startswith("tok/")


def test_the_table_says_all_in_plain_text_and_each_note_once() -> None:
    lines = measurement_table(
        [
            measured(notes=("limit: 20 GB/s",)),
            measured(peer=None, notes=("limit: 20 GB/s", "llama.cpp is missing")),
        ]
    ).splitlines()
    assert lines[0].split() == ["work", "unit", "ours", "peer", "limit", "ratio", "of", "limit", "against"]
    assert lines[2].split() == ["decode", "tok/s", "100", "50.0", "200", "2.00", "x", "50", "%", "llama.cpp"]
    assert lines[3].split() == ["decode", "tok/s", "100", "missing", "200", "-", "50", "%", "llama.cpp"]
    assert lines[4:] == ["", "decode: limit: 20 GB/s", "decode: llama.cpp is missing"]
    assert "\033" not in "".join(lines)
