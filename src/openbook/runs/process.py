"""Which process works on a run, and whether it still lives.

A process number alone is not a name, because numbers are used again; number, start time and
machine together are.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Life(StrEnum):
    """What can be said from here about a process."""

    ALIVE = "alive"
    GONE = "gone"
    OUT_OF_SIGHT = "out of sight"  # another machine, or another container on this one


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessName:
    """A process, named so that no later process is mistaken for it.

    `machine` names one boot of one machine and, inside containers, the container's own list of
    processes; `started` is the system's own mark of the start, to be compared, not read.
    """

    host: str
    machine: str
    pid: int
    started: str


def this_process() -> ProcessName:
    """The name of the calling process."""
    pid = os.getpid()
    return ProcessName(
        host=platform.node(), machine=_machine(), pid=pid, started=_start_mark(pid) or "unknown"
    )


def look_for(process: ProcessName) -> Life:
    """Whether a process lives. A dead child that nobody has waited for counts as gone."""
    if process.machine != _machine():
        return Life.OUT_OF_SIGHT
    return Life.ALIVE if _start_mark(process.pid) == process.started else Life.GONE


def _machine() -> str:
    if not Path("/proc/self/ns/pid").exists():
        return platform.node()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{os.readlink('/proc/self/ns/pid')}"


def _start_mark(pid: int) -> str | None:
    """The start time of a living process, in whatever form the system gives; None when it is gone."""
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The second field is the program's name in brackets and may hold anything.
        fields = stat[stat.rindex(")") + 2 :].split()
        return None if fields[0] in "ZX" else fields[19]
    if os.name != "posix":
        return None
    shown = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return None if len(shown) < 2 or shown[0].startswith("Z") else shown[1].strip()
