"""StopSignal: Ctrl-C, SIGTERM and a spent budget become a request, looked at between steps."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType

from openbook.errors import Interrupted, OverBudget


class StopSignal:
    """`with StopSignal() as stop:` then look at `stop.requested`; a second Ctrl-C ends at once.

    `limit` says why the work may not go on ("" while it may); it is asked at every look.
    """

    def __init__(self, limit: Callable[[], str] | None = None) -> None:
        self._requested = False
        self._limit = limit
        self._reason = ""
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def requested(self) -> bool:
        """Whether the work is to stop."""
        if not self._requested and self._limit is not None:
            self._reason = self._limit()
            self._requested = bool(self._reason)
        return self._requested

    @requested.setter
    def requested(self, value: bool) -> None:
        self._requested = value

    def check(self) -> None:
        """Raise Interrupted if a stop was asked for: for work that has nothing of its own to save."""
        if self.requested:
            raise self.interruption("stopped", "what is finished is kept; the same command resumes")

    def interruption(self, what: str, mend: str) -> Interrupted:
        """What to raise once the work has stopped: OverBudget with its reason where a limit asked for it."""
        return OverBudget(f"{what}: {self._reason}", mend) if self._reason else Interrupted(what, mend)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
