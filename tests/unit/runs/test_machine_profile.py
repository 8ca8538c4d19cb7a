"""The profile of a machine: how rates are taken from it, where it lies, and what is no profile."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from openbook.errors import UserError
from openbook.runs.machine import Machine
from openbook.runs.machine_profile import (
    MachineProfile,
    ProductRate,
    ReadRate,
    ShapeClass,
    load_profile,
    profile_path,
    save_profile,
)


def product(
    shape_class: ShapeClass, num_threads: int, width_out: int, flops_per_second: float
) -> ProductRate:
    return ProductRate(
        dtype="fp32",
        shape_class=shape_class,
        num_threads=num_threads,
        num_rows=10,
        width_in=10,
        width_out=width_out,
        flops_per_second=flops_per_second,
    )


PROFILE = MachineProfile(
    measured_on=date(2026, 11, 24),
    processor="a processor",
    num_cpus=4,
    memory_bytes=1 << 34,
    torch="2.11",
    products=(
        product(ShapeClass.SQUARE, 1, 10, 1e11),
        product(ShapeClass.SQUARE, 4, 10, 3e11),
        product(ShapeClass.SQUARE, 4, 20, 4e11),
        product(ShapeClass.SKINNY, 4, 10, 1e11),
        product(ShapeClass.SKINNY, 4, 30, 3e11),
    ),
    reads=(ReadRate(num_threads=1, bytes_per_second=1e10), ReadRate(num_threads=4, bytes_per_second=3e10)),
    dispatch_microseconds=2.0,
    gradient_microseconds=5.0,
    load="1 thread",
    is_disturbed=False,
)


def test_the_peak_is_the_fastest_square_product_on_as_many_threads() -> None:
    assert PROFILE.product_rate("fp32", ShapeClass.SQUARE) == 4e11
    assert PROFILE.product_rate("fp32", ShapeClass.SQUARE, 1) == 1e11
    assert PROFILE.product_rate("fp32", ShapeClass.SQUARE, 3) == 1e11, "the nearest that was measured below"
    assert (PROFILE.read_rate(), PROFILE.read_rate(2), PROFILE.max_threads) == (3e10, 1e10, 4)


def test_the_rate_of_narrow_products_is_that_of_all_of_them_one_after_the_other() -> None:
    # 2,000 operations at 1e11 and 6,000 at 3e11 take 20 ns each.
    assert PROFILE.product_rate("fp32", ShapeClass.SKINNY) == pytest.approx(8000 / 40e-9)


def test_what_was_not_measured_is_an_error() -> None:
    with pytest.raises(
        UserError, match=r"no few-rows products in fp32; run `openbook doctor --measure` again"
    ):
        PROFILE.product_rate("fp32", ShapeClass.FEW_ROWS)
    with pytest.raises(UserError, match="no skinny products"):
        PROFILE.product_rate("fp32", ShapeClass.SKINNY, 1)


def test_a_profile_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = save_profile(PROFILE, tmp_path / "new" / "machine.json")
    assert load_profile(path) == PROFILE
    save_profile(replace(PROFILE, memory_bytes=None), path)
    assert load_profile(path).memory_bytes is None


def test_it_lies_in_the_data_folder_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENBOOK_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert profile_path() == tmp_path / "own" / "machine.json"
    monkeypatch.delenv("OPENBOOK_HOME")
    assert profile_path() == tmp_path / "data" / "openbook" / "machine.json"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert profile_path() == tmp_path / ".local" / "share" / "openbook" / "machine.json"
    with pytest.raises(UserError, match=r"has not been measured.*run `openbook doctor --measure`"):
        load_profile()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 2, "format 2 is of another version"),
        ("products", [], "nothing was measured"),
        ("speed", 1, "speed: unknown key"),
        ("measured_on", "yesterday", "measured_on"),
        ("reads", [{"num_threads": 1, "bytes_per_second": 0}], "bytes_per_second is positive"),
    ],
)
def test_what_is_no_profile_is_one_line(tmp_path: Path, key: str, value: object, message: str) -> None:
    path = save_profile(PROFILE, tmp_path / "machine.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(UserError, match=message) as error:
        load_profile(path)
    assert "machine.json" in str(error.value)
    path.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load_profile(path)


def test_a_profile_of_another_machine_is_recognised() -> None:
    machine = Machine(processor="a processor", num_cpus=4, torch="9")
    assert PROFILE.is_of(machine)
    assert not PROFILE.is_of(replace(machine, num_cpus=2))
    assert not PROFILE.is_of(replace(machine, processor="another"))
