"""The heartbeat of an attempt: how long it has held its device since it last recorded any of that.

A step may take minutes, and usage is recorded when it is over. Beside it a thread writes a small file
every few seconds, so that what a killed process held is known up to its last beat:

    usage.jsonl      40 lines                        what was measured
    heartbeat.json   after line 40, 7.2 s held       what was held since then: estimated

A beat counts only while the usage file has exactly as many lines as it names, so it is counted once:
whatever is appended, by the process itself or when the run is resumed, makes it stale.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from openbook.errors import UserError
from openbook.runs.durable import replace_text

HEARTBEAT_FILE = "heartbeat.json"
BEAT_SECONDS = 2.0
"""Half of what a beat may be late: a busy interpreter holds the thread up, and a bill looks back 5 s."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat:
    """At `time`, attempt `attempt` had held its device `held_microseconds` since usage line `num_lines`.

    Before the first line of an attempt it is the time since its start.
    """

    attempt: int
    num_lines: int
    time: datetime
    held_microseconds: int


class Heartbeat:
    """Beats into a run's folder until it is stopped; a daemon thread, so it ends with its process."""

    def __init__(self, folder: Path, *, attempt: int, num_lines: int, seconds: float = BEAT_SECONDS) -> None:
        self._path = folder / HEARTBEAT_FILE
        self._attempt = attempt
        self._num_lines = num_lines
        self._held_since = time.monotonic()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(seconds,), name="heartbeat", daemon=True)
        self._thread.start()

    def recorded(self, num_lines: int, device_microseconds: int) -> None:
        """The usage file has so many lines now, the last of which took account of this device time."""
        with self._lock:
            self._num_lines = num_lines
            if device_microseconds:
                self._held_since = time.monotonic()

    def stop(self) -> None:
        """Beat no more; nothing is written once this returns."""
        self._stopped.set()
        self._thread.join()

    def let_go(self) -> None:
        """The same without waiting, for when nobody is left who could."""
        self._stopped.set()

    def _beat(self, seconds: float) -> None:
        while not self._stopped.wait(seconds):
            with self._lock:
                held_seconds = time.monotonic() - self._held_since
                beat = {
                    "attempt": self._attempt,
                    "usage_lines": self._num_lines,
                    "time": datetime.now(UTC).isoformat(),
                    "held_microseconds": round(held_seconds * 1e6),
                }
            with suppress(UserError, OSError):  # of a full disk the work itself will hear
                replace_text(self._path, json.dumps(beat))


def read_beat(folder: Path) -> Beat | None:
    """The last beat in a run's folder; None when there is none that can be read."""
    try:
        value = json.loads((folder / HEARTBEAT_FILE).read_text(encoding="utf-8"))
        return Beat(
            attempt=value["attempt"],
            num_lines=value["usage_lines"],
            time=datetime.fromisoformat(value["time"]),
            held_microseconds=value["held_microseconds"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # an aid, and not worth a run that cannot be booked for want of it
