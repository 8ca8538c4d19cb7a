"""The journal of a run: one line for each start, end and rewind, and what follows from them.

    start (attempt 1) ... interrupted
    start (attempt 2) ...                     the process was killed: nothing is written
    start (attempt 3) rewound ... done

The journal is never rewritten; the status of a run is read from it each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from openbook.runs.process import Life, ProcessName, look_for

SILENCE_SECONDS = 900  # a process that cannot be seen and writes nothing for so long is taken for gone


class RunStatus(StrEnum):
    """How far a run has come."""

    CREATED = "created"  # no attempt has begun
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    KILLED = "killed"  # left running by a process that is gone

    @property
    def is_lost(self) -> bool:
        """Whether the work ended without a result."""
        return self in (RunStatus.FAILED, RunStatus.INTERRUPTED, RunStatus.KILLED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One process's work on a run, from its start to its end.

    `number` counts from 1, `device` names what the work ran on, `status` says how it ended and
    `reason` why. `last_sign_at` is the time of its end, or of the last thing it wrote.
    """

    number: int
    device: str
    process: ProcessName
    started_at: datetime
    last_sign_at: datetime
    status: RunStatus
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewind:
    """A resumed run went back to `step`; the usage lines in [first_line, end_line) were lost."""

    step: int
    first_line: int
    end_line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Journal:
    """Everything the journal says, oldest first."""

    attempts: tuple[Attempt, ...]
    rewinds: tuple[Rewind, ...]


def lost_lines(rewinds: Sequence[Rewind]) -> frozenset[int]:
    """The usage lines (counted from 0) whose work these rewinds threw away."""
    return frozenset(n for rewind in rewinds for n in range(rewind.first_line, rewind.end_line))


def start_event(number: int, process: ProcessName, device: str) -> dict[str, Any]:
    return {"event": "start", "attempt": number, "device": device, "process": asdict(process)}


def end_event(number: int, status: RunStatus, reason: str) -> dict[str, Any]:
    return {"event": str(status), "attempt": number, "reason": reason}


def rewind_event(number: int, rewind: Rewind) -> dict[str, Any]:
    return {"event": "rewound", "attempt": number, **asdict(rewind)}


def read_journal(events: Sequence[dict[str, Any]], *, last_write_at: datetime, now: datetime) -> Journal:
    """What the events of a journal say.

    `last_write_at` is when the run's files were last written: the sign of life of a process that
    cannot be seen from this machine.
    """
    starts = [event for event in events if event["event"] == "start"]
    ends = {event["attempt"]: event for event in events if event["event"] not in ("start", "rewound")}
    attempts = []
    for index, start in enumerate(starts):
        end = ends.get(start["attempt"])
        if end is None and index + 1 == len(starts):
            attempts.append(_open_attempt(start, last_write_at, now))
        else:
            # A later start without an end before it means that the earlier process was gone.
            until = end["time"] if end else starts[index + 1]["time"]
            status = RunStatus(end["event"]) if end else RunStatus.KILLED
            reason = end["reason"] if end else "its process was gone at the next start"
            attempts.append(_attempt(start, datetime.fromisoformat(until), status, reason))
    rewinds = [
        Rewind(step=event["step"], first_line=event["first_line"], end_line=event["end_line"])
        for event in events
        if event["event"] == "rewound"
    ]
    return Journal(attempts=tuple(attempts), rewinds=tuple(rewinds))


def _open_attempt(start: dict[str, Any], last_write_at: datetime, now: datetime) -> Attempt:
    process = ProcessName(**start["process"])
    name = f"process {process.pid} on {process.host}"
    match look_for(process):
        case Life.ALIVE:
            return _attempt(start, last_write_at, RunStatus.RUNNING, f"{name} is at work")
        case Life.GONE:
            return _attempt(start, last_write_at, RunStatus.KILLED, f"{name} is gone")
    silent_seconds = (now - last_write_at).total_seconds()
    if silent_seconds > SILENCE_SECONDS:
        reason = f"{name} cannot be seen from here and wrote nothing for {silent_seconds:.0f} s"
        return _attempt(start, last_write_at, RunStatus.KILLED, reason)
    return _attempt(start, last_write_at, RunStatus.RUNNING, f"{name} wrote {silent_seconds:.0f} s ago")


def _attempt(start: dict[str, Any], last_sign_at: datetime, status: RunStatus, reason: str) -> Attempt:
    return Attempt(
        number=start["attempt"],
        device=start["device"],
        process=ProcessName(**start["process"]),
        started_at=datetime.fromisoformat(start["time"]),
        last_sign_at=last_sign_at,
        status=status,
        reason=reason,
    )
