"""On what machine something ran, and what else the machine did meanwhile. No torch."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_LOAD_SLACK = 0.5
"""A load average swings: this much above what we use ourselves is no disturbance yet."""
_OTHERS_SLACK = 0.2
"""Processors that others may use beside us before it counts as a disturbance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The processor and the software."""

    processor: str
    num_cpus: int
    torch: str

    def __str__(self) -> str:
        return f"{self.processor}, {self.num_cpus} processors, torch {self.torch}"


def this_machine() -> Machine:
    """The machine that this process runs on."""
    from importlib.metadata import version

    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return Machine(processor=_processor_model(), num_cpus=len(cores), torch=version("torch"))


def _processor_model() -> str:
    import platform

    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return models[0] if models else platform.machine()


def memory_bytes() -> int | None:
    """The memory of this machine; None where the system does not tell."""
    return _pages("SC_PHYS_PAGES")


def free_memory_bytes() -> int | None:
    """The memory that nothing uses now; None where the system does not tell."""
    return _pages("SC_AVPHYS_PAGES")


def _pages(name: str) -> int | None:
    try:
        return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """The clocks at one time: seconds of the wall, of this process with its children, of all processors."""

    wall_seconds: float
    own_seconds: float
    busy_seconds: float | None
    """None where the system does not tell."""
    load: float
    """The load average over the last minute: processes that run or wait for a processor."""


def now() -> Moment:
    """Read the clocks."""
    return Moment(
        wall_seconds=time.perf_counter(),
        own_seconds=sum(os.times()[:4]) + _children_seconds(),
        busy_seconds=_busy_seconds(),
        load=os.getloadavg()[0],
    )


def _children_seconds() -> float:
    """Time that the children still alive worked; os.times counts only those that have ended."""
    seconds = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        parent, user, system = int(fields[1]), int(fields[11]), int(fields[12])
        if parent == os.getpid():
            seconds += (user + system) / _CLOCK_TICKS
    return seconds


def _busy_seconds() -> float | None:
    """Time that all processors worked, for whomever; what a hypervisor took from us (steal) included."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _iowait, interrupts, soft_interrupts, steal = map(int, fields[1:9])
    return (user + nice + system + interrupts + soft_interrupts + steal) / _CLOCK_TICKS


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadNote:
    """What else the machine did between two moments while we used `num_threads` threads."""

    num_threads: int
    load_before: float
    load_after: float
    others: float | None
    """Processors that others used on average; None where the system does not tell."""

    @classmethod
    def between(cls, before: Moment, after: Moment, *, num_threads: int) -> LoadNote:
        """The note for the time between two readings of the clocks."""
        others = None
        if before.busy_seconds is not None and after.busy_seconds is not None:
            busy = after.busy_seconds - before.busy_seconds
            own = after.own_seconds - before.own_seconds
            others = max(0.0, busy - own) / (after.wall_seconds - before.wall_seconds)
        return cls(num_threads=num_threads, load_before=before.load, load_after=after.load, others=others)

    @property
    def is_disturbed(self) -> bool:
        """Whether the load was above what we use ourselves."""
        most = self.num_threads + _LOAD_SLACK
        is_crowded = self.others is not None and self.others > _OTHERS_SLACK
        return self.load_before > most or self.load_after > most or is_crowded

    def __str__(self) -> str:
        threads = f"{self.num_threads} thread" + ("s" if self.num_threads > 1 else "")
        others = "" if self.others is None else f", others used {self.others:.1f} processors"
        text = f"{threads}, load {self.load_before:.1f} before and {self.load_after:.1f} after{others}"
        return f"disturbed: {text}" if self.is_disturbed else text
