"""Progress: how long work tells whoever watches where it is. What is shown is the watcher's matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Told about stages one after the other; calls are cheap and may come at every step."""

    def start(self, stage: str, total_steps: int) -> None:
        """A stage begins; it ends after step `total_steps`, wherever a resumed one goes on."""
        ...

    def advance(self, step: int, metrics: Mapping[str, float]) -> None:
        """Step `step` (from 1) of the stage is done; the first metrics matter most."""
        ...

    def note(self, text: str) -> None:
        """Something worth one line happened."""
        ...

    def finish(self, stage: str, summary: str) -> None:
        """The stage is done; `summary` is its result in one line."""
        ...


class Silence:
    """A Progress that nobody watches."""

    def start(self, stage: str, total_steps: int) -> None:
        return

    def advance(self, step: int, metrics: Mapping[str, float]) -> None:
        return

    def note(self, text: str) -> None:
        return

    def finish(self, stage: str, summary: str) -> None:
        return
