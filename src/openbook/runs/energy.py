"""Energy meters: joules of the processor packages (RAPL) or of a GPU (NVML), where there is a meter.

    meter = find_meter(gpu_uuid)     None where nothing measures
    meter.read_microjoules()         since it was found; of the whole package or board, whoever used it

Sources: the kernel's powercap interface (Documentation/power/powercap), NVML's
nvmlDeviceGetTotalEnergyConsumption (millijoules since the driver was loaded).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
_MICROJOULES_PER_MILLIJOULE = 1000


@dataclass(slots=True)
class EnergyMeter:
    """Counters that only go up, some of which begin again at zero beyond their `range` (0: never)."""

    name: str
    _counters: Sequence[tuple[Callable[[], int], int]]
    _last: list[int]
    _sum: int = 0

    @classmethod
    def over(cls, name: str, counters: Sequence[tuple[Callable[[], int], int]]) -> EnergyMeter:
        """A meter that adds up counters, each with its range in microjoules."""
        return cls(name, counters, [read() for read, _ in counters])

    def read_microjoules(self) -> int:
        """Energy since the meter was found; call it more often than a counter wraps, in minutes.

        A counter that cannot be read any more stands still.
        """
        for place, (read, range_microjoules) in enumerate(self._counters):
            try:
                now = read()
            except (OSError, ValueError):
                continue
            used = now - self._last[place]
            self._sum += used if used >= 0 else used + range_microjoules + 1 if range_microjoules else 0
            self._last[place] = now
        return self._sum


def find_meter(gpu_uuid: str = "", powercap: Path = POWERCAP) -> EnergyMeter | None:
    """The meter of a GPU, or of the processors when none is named; None where there is no such meter."""
    return _gpu_meter(gpu_uuid) if gpu_uuid else _package_meter(powercap)


def _package_meter(powercap: Path) -> EnergyMeter | None:
    """Packages and their memory; cores and uncore are parts of a package, `psys` is the whole board."""
    counters = []
    for zone in sorted(powercap.glob("*rapl:*")):
        try:
            name = (zone / "name").read_text(encoding="utf-8").strip()
            if not (name.startswith("package") or name == "dram"):
                continue
            read = _file_reader(zone / "energy_uj")
            read()  # only root may, on most systems
            counters.append((read, int((zone / "max_energy_range_uj").read_text(encoding="utf-8"))))
        except (OSError, ValueError):
            continue
    return EnergyMeter.over("RAPL", counters) if counters else None


def _file_reader(path: Path) -> Callable[[], int]:
    return lambda: int(path.read_text(encoding="utf-8"))


def _gpu_meter(uuid: str) -> EnergyMeter | None:
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    handle = ctypes.c_void_p()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)):
        return None

    def read() -> int:
        millijoules = ctypes.c_ulonglong()
        code = nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        if code:
            raise OSError(code, "NVML does not tell the energy of this GPU")
        return millijoules.value * _MICROJOULES_PER_MILLIJOULE

    try:
        return EnergyMeter.over("NVML", [(read, 0)])
    except OSError:
        return None
