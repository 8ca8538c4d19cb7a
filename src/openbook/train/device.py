"""Which device a stage runs on, and in which precision: `auto` takes one GPU when there is one."""

from __future__ import annotations

import ctypes
import gc
import resource
import time
from dataclasses import dataclass, field

import torch

from openbook.errors import UserError
from openbook.runs.energy import EnergyMeter, find_meter
from openbook.runs.usage import Usage

DEVICES = ("auto", "cpu", "cuda")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of mallopt (glibc, malloc.h)."""
_LARGEST = (1 << 31) - 1


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda`; raises UserError when a GPU is asked for and there is none."""
    if name not in DEVICES:
        raise UserError(f"device is {name!r}", f"use one of {', '.join(DEVICES)}")
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise UserError(
            "device is 'cuda' and torch sees no GPU", "use device = 'auto' or install a CUDA build of torch"
        )
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


def keep_freed_memory() -> None:
    """Have the allocator keep what is freed for what comes next, in this process from now on (glibc).

    By default all but small arrays go back to the system and come again as pages to be cleared: of a step of
    a model of 135M parameters that is a tenth of the time. The largest still do, lest memory be scattered.
    """
    libc = _libc()
    if libc is not None:
        for option, value in ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, _LARGEST)):
            libc.mallopt(ctypes.c_int(option), ctypes.c_int(value))


def give_back_memory() -> None:
    """Return to the system what was kept; for between two stages."""
    gc.collect()
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(ctypes.c_size_t(0))


def _libc() -> ctypes.CDLL | None:
    """glibc; None for another C library, with ways of its own."""
    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
    except OSError:
        return None


@dataclass(slots=True)
class Stopwatch:
    """What the device and the processor spent since the last lap."""

    device: torch.device
    _wall: float = field(default_factory=time.perf_counter)
    _cpu: float = field(default_factory=time.process_time)
    _meter: EnergyMeter | None = field(init=False)
    _energy: int = 0

    def __post_init__(self) -> None:
        self._meter = find_meter(_uuid(self.device))

    def lap(self, *, trained_tokens: int = 0) -> Usage:
        """Usage since the last lap (or the start), with the memory peak so far."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            peak = int(torch.cuda.max_memory_allocated(self.device))
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        wall, cpu = time.perf_counter(), time.process_time()
        energy = self._meter.read_microjoules() if self._meter else 0
        usage = Usage(
            trained_tokens=trained_tokens,
            device_microseconds=round((wall - self._wall) * 1e6),
            cpu_microseconds=round((cpu - self._cpu) * 1e6),
            peak_memory_bytes=peak,
            energy_microjoules=energy - self._energy,
        )
        self._wall, self._cpu, self._energy = wall, cpu, energy
        return usage


def _uuid(device: torch.device) -> str:
    """The name of a GPU that its energy meter knows it by; "" for the host."""
    if device.type != "cuda":
        return ""
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", "")  # not in every build of torch
    return f"GPU-{uuid}" if uuid else "unknown"
