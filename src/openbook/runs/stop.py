"""StopSignal: Ctrl-C and SIGTERM become a request that long work looks at between its steps."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

from openbook.errors import Interrupted


class StopSignal:
    """`with StopSignal() as stop:` then look at `stop.requested`; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.requested = False
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

    def check(self) -> None:
        """Raise Interrupted if a stop was asked for: for work that has nothing of its own to save."""
        if self.requested:
            raise Interrupted("stopped", "what is finished is kept; the same command resumes")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
