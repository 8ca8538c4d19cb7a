from __future__ import annotations

from pathlib import Path

import pytest

from openbook.runs.energy import EnergyMeter, find_meter


def zone(root: Path, number: str, name: str, microjoules: int, most: int = 1000) -> Path:
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder / "energy_uj"


def test_packages_and_their_memory_are_added_up_and_parts_of_them_are_not(tmp_path: Path) -> None:
    package, memory = zone(tmp_path, "0", "package-0", 100), zone(tmp_path, "0:1", "dram", 10)
    core, board = zone(tmp_path, "0:0", "core", 50), zone(tmp_path, "1", "psys", 500)
    meter = find_meter(powercap=tmp_path)
    assert meter is not None
    assert meter.read_microjoules() == 0
    for path, microjoules in ((package, 130), (memory, 14), (core, 90), (board, 900)):
        path.write_text(str(microjoules))
    assert meter.read_microjoules() == 34


def test_a_counter_that_begins_again_goes_on(tmp_path: Path) -> None:
    counter = zone(tmp_path, "0", "package-0", 990, most=1000)
    meter = find_meter(powercap=tmp_path)
    assert meter is not None
    counter.write_text("4")
    assert meter.read_microjoules() == 15  # 990 to 1000, one more to 0, and 4
    counter.write_text("6")
    assert meter.read_microjoules() == 17


def test_a_counter_that_cannot_be_read_any_more_stands_still(tmp_path: Path) -> None:
    counter = zone(tmp_path, "0", "package-0", 100)
    meter = find_meter(powercap=tmp_path)
    assert meter is not None
    counter.write_text("150")
    assert meter.read_microjoules() == 50
    counter.unlink()
    assert meter.read_microjoules() == 50


def test_where_there_is_no_meter_there_is_none(tmp_path: Path) -> None:
    assert find_meter(powercap=tmp_path / "missing") is None
    zone(tmp_path, "0", "package-0", 100).write_text("not for you")
    assert find_meter(powercap=tmp_path) is None


def test_a_counter_without_a_range_never_counts_down() -> None:
    values = iter([5_000, 9_000, 1_000, 3_000])
    meter = EnergyMeter.over("NVML", [(lambda: next(values), 0)])
    assert [meter.read_microjoules() for _ in range(3)] == [4_000, 4_000, 6_000]


@pytest.mark.gpu
def test_a_gpu_tells_its_energy() -> None:
    import torch

    meter = find_meter(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
    assert meter is not None
    matrix = torch.randn(8192, 8192, device="cuda")
    for _ in range(100):
        matrix = torch.tanh(matrix @ matrix)
    torch.cuda.synchronize()
    assert meter.read_microjoules() > 1_000_000
