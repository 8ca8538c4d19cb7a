"""What stands around accelerators: published values, and the arithmetic that puts them on a device."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from openbook.economics.accelerators import Scope, find_accelerator
from openbook.economics.facility import load_facility, read_facility
from openbook.economics.sourced import Mark
from openbook.errors import UserError

TEXT = resources.files("openbook.economics").joinpath("data/facility.toml").read_text(encoding="utf-8")
FACILITY = load_facility()


@pytest.mark.parametrize(
    ("year", "usd"), [(2023, 0.0806), (2024, 0.0771), (2025, 0.0826), (2027, 0.0826), (2019, 0.0806)]
)
def test_electricity_is_that_of_the_year_or_of_the_nearest(year: int, usd: float) -> None:
    price = FACILITY.electricity(year)
    assert price.value == usd
    assert ("Of 20" in price.note) is (year not in (2023, 2024, 2025))


@pytest.mark.parametrize(("year", "life"), [(2012, 3), (2020, 3), (2021, 4), (2022, 4), (2023, 5), (2026, 5)])
def test_servers_last_longer_the_later_they_were_bought(year: int, life: int) -> None:
    assert FACILITY.server_life_years(year).value == life


def test_a_bare_device_costs_more_with_its_server_and_a_server_is_taken_as_it_is() -> None:
    a100 = find_accelerator("a100-80")
    owned = FACILITY.owned_usd(a100)
    assert owned is not None and a100.purchase_usd is not None and a100.purchase_scope is Scope.DEVICE
    assert owned.value == pytest.approx(1.66 * a100.purchase_usd.value) and owned.mark is Mark.OURS
    h800 = find_accelerator("h800")
    assert h800.purchase_scope is Scope.SERVER and FACILITY.owned_usd(h800) is h800.purchase_usd
    assert FACILITY.owned_usd(find_accelerator("gb300")) is None


def test_power_is_the_servers_at_its_mean_draw_and_the_building() -> None:
    h100 = find_accelerator("h100")
    drawn = FACILITY.watts_drawn(h100)
    assert drawn is not None and drawn.value == pytest.approx(1370 * 0.75 * 1.25)
    hyperscaler = FACILITY.watts_drawn(h100, is_hyperscaler=True)
    assert hyperscaler is not None and hyperscaler.value == pytest.approx(1370 * 0.75 * 1.10)
    bare = FACILITY.watts_drawn(replace(h100, server_watts=None))
    assert bare is not None and bare.value == pytest.approx(700 * 1.8 * 0.75 * 1.25)
    assert "W of the chip" in bare.note
    assert FACILITY.watts_drawn(replace(h100, server_watts=None, tdp_watts=None)) is None


def test_other_figures_are_those_that_were_published() -> None:
    assert FACILITY.interconnect_share.value == 0.19
    assert FACILITY.default_server_cost_factor.value == 1.64
    assert FACILITY.server_cost_factor(find_accelerator("v100")).value == 1.69
    assert 1 - 10**-FACILITY.value_decline_per_year.value == pytest.approx(0.276, abs=5e-4)
    assert FACILITY.device_hours_between_failures.value == 50_700
    assert FACILITY.book_lives["meta"].value == 5.5
    assert FACILITY.capital_rate.mark is Mark.OURS


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pue = {", "pues = {", r"power.pues: unknown key; did you mean 'pue'"),
        ("value = 0.75", "value = -0.75", "a figure is positive"),
        ("[host]", "[hosts]", "hosts: unknown key"),
        (
            'watts = { value = 600, source = "ours"',
            'watts = { value = 600, source = "our"',
            "unknown source 'our'",
        ),
    ],
)
def test_a_mistake_in_a_facility_is_one_line_that_names_the_file(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in TEXT
    path = tmp_path / "hall.toml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as error:
        load_facility(path)
    assert "hall.toml" in str(error.value)


def test_a_facility_of_ones_own_takes_the_place_of_the_packages() -> None:
    own = read_facility(TEXT.replace("value = 1.25", "value = 1.4", 1), where="own")
    assert own.pue.value == 1.4 and FACILITY.pue.value == 1.25
