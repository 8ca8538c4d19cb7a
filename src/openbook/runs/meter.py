"""Counting what work consumes, from any number of threads."""

from __future__ import annotations

import threading

from openbook.runs.usage import Usage


class Meter:
    """Adds usage up."""

    def __init__(self) -> None:
        self._total = Usage()
        self._lock = threading.Lock()

    def record(self, usage: Usage) -> None:
        """Count one piece of work."""
        with self._lock:
            self._total += usage

    @property
    def total(self) -> Usage:
        """Everything counted so far."""
        return self._total
