"""Wall: one function that others wrote, run in worker processes with limits, many calls at once.

    calls --> N workers, a fork for each call --> in the order of the calls: a value, or which fault and why

Why a wall: a verifier may hang in spite of its own time limit, a reward function is a user's first draft, and
what they judge is text that is optimised to please them. Everything that waits has a limit. A call does not
depend on those before it, nor on how many workers there are.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from openbook.config import config
from openbook.errors import UserError
from openbook.tasks.problem import Outcome
from openbook.tasks.worker_process import WorkerProcess

SECONDS_TO_START = 120.0
"""For the import of the function's module; a busy machine takes longer than an idle one."""

GRACE_SECONDS = 20.0
"""How much later than a call's own limit its worker may answer before it is taken for dead."""

MAX_WORKERS = 64

_WORKER = ("-m", "openbook.tasks.wall_worker")
_FAULTS = {str(fault): fault for fault in (Outcome.UNSCORABLE, Outcome.TIMED_OUT, Outcome.CRASHED)}


@config
class WallConfig:
    """What one call may use, and how many run at once."""

    seconds: float = 10.0
    """Of the clock, for one call."""
    memory_mb: int = 1024
    """Mebibytes that one call may map, on top of what its module has mapped when it was imported."""
    num_workers: int = 0
    """Calls at once; 0 is one for each core."""

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= 3600:
            raise ValueError(f"seconds must be above 0 and at most 3600, not {self.seconds}")
        if self.memory_mb < 16:
            raise ValueError(f"memory_mb must be at least 16, not {self.memory_mb}")
        if not 0 <= self.num_workers <= MAX_WORKERS:
            raise ValueError(f"num_workers must be 0 to {MAX_WORKERS}, not {self.num_workers}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came of a call: a JSON value, or a fault that is no judgement, with the reason in words.

    `unscorable`: it raised; `timed_out`; `crashed`: it died, ran out of memory or said too much.
    """

    value: Any
    fault: Outcome | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footing:
    """What holds on this machine, from the first worker's own report."""

    digest: str
    """`sha256:...` of the file that the function stands in."""
    isolated: bool
    """A namespace of its own: no process escapes, and none outside can be reached."""
    unprivileged: bool
    """Not root, so that the limit on processes binds."""

    def __str__(self) -> str:
        held = "in a namespace of processes" if self.isolated else "swept, without a namespace of processes"
        return f"{held}; " + (
            "as a user without rights" if self.unprivileged else "as root, who has no limit"
        )


class Wall:
    """`function` behind the wall; workers start on first use. Safe to share between threads.

    `offers` are the names of the arguments that calls will hold; the function declares those it wants.
    """

    def __init__(
        self,
        function: str,
        config: WallConfig,
        *,
        offers: Sequence[str],
        search_path: Sequence[Path] = (),
    ) -> None:
        self.function, self.config = function, config
        self.num_workers = config.num_workers or min(os.cpu_count() or 1, MAX_WORKERS)
        self._order = {
            "function": function,
            "offers": list(offers),
            "search_path": [str(path) for path in search_path],
            "seconds": config.seconds,
            "memory_bytes": config.memory_mb * 2**20,
        }
        self._idle: SimpleQueue[WorkerProcess | None] = SimpleQueue()
        for _ in range(self.num_workers):
            self._idle.put(None)  # a place for a worker that has not been started
        self._footing: Footing | None = None
        self._lock = threading.Lock()

    def check(self) -> Footing:
        """Start a worker, and so find out whether the function can be had at all. Raises UserError."""
        with self._borrowed():
            assert self._footing is not None
            return self._footing

    def call(self, calls: Sequence[Mapping[str, Any]]) -> list[Reply]:
        """One reply for each call's arguments (JSON values), in the order of the calls.

        Raises UserError when no worker can be started, or when the function's file has changed meanwhile.
        """
        if len(calls) < 2 or self.num_workers == 1:
            return [self._call(arguments) for arguments in calls]
        with ThreadPoolExecutor(min(self.num_workers, len(calls))) as threads:
            try:
                return list(threads.map(self._call, calls))
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def close(self) -> None:
        """End the idle workers; a later call starts them again."""
        for _ in range(self._idle.qsize()):
            worker = self._idle.get()
            if worker is not None:
                worker.stop()
            self._idle.put(None)

    def _call(self, arguments: Mapping[str, Any]) -> Reply:
        with self._borrowed() as worker:
            said = worker.ask(arguments, self.config.seconds + GRACE_SECONDS)
            if "value" not in said:
                worker.stop()
        if "late" in said:
            return Reply(value=None, fault=Outcome.TIMED_OUT, reason="its worker did not answer")
        if "error" in said:
            return Reply(value=None, fault=Outcome.CRASHED, reason=said["error"])
        fault = _FAULTS[said["fault"]] if "fault" in said else None
        return Reply(value=said["value"], fault=fault, reason=said.get("reason", ""))

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[WorkerProcess]:
        """A worker for one call; a new one where there is none, or the last one is no more."""
        worker = self._idle.get()
        try:
            if worker is None or not worker.is_running:
                worker = None
                worker = self._started()
            yield worker
        finally:
            self._idle.put(worker if worker is not None and worker.is_running else None)

    def _started(self) -> WorkerProcess:
        worker = WorkerProcess(_WORKER)
        said = worker.ask(self._order, SECONDS_TO_START)
        if "value" not in said:
            worker.stop()
            raise UserError(
                f"{self.function} cannot be loaded: {said.get('error') or said['late']}",
                "it has to be importable from the working directory, as module:function or file.py:function",
            )
        footing = Footing(**said["value"])
        with self._lock:
            self._footing = self._footing or footing
        if footing.digest != self._footing.digest:
            worker.stop()
            raise UserError(
                f"the file of {self.function} has changed while it was in use",
                "go on with the file as it was, or begin a new run",
            )
        return worker


def footing() -> Footing:
    """What holds on this machine for any function. Raises UserError where no worker can be started."""
    wall = Wall("openbook.tasks.answers:quote", WallConfig(num_workers=1), offers=("text", "limit"))
    try:
        return wall.check()
    finally:
        wall.close()


def as_number(reply: Reply) -> float | Reply:
    """A finite number, or why there is none: a fault, or a value of another kind, which is unscorable."""
    if reply.fault is not None:
        return reply
    value = reply.value
    if value is None:
        return Reply(value=None, fault=Outcome.UNSCORABLE, reason="it returned None")
    if not isinstance(value, int | float) or (isinstance(value, int) and abs(value) > 2**53):
        kind = "a huge integer" if isinstance(value, int) else type(value).__name__
        return Reply(value=None, fault=Outcome.UNSCORABLE, reason=f"it returned {kind}")
    if not math.isfinite(value):
        return Reply(value=None, fault=Outcome.UNSCORABLE, reason=f"it returned {value}")
    return float(value)
