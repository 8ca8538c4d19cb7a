"""GymLibrary: the reasoning-gym library behind a pipe, with a time limit on every request.

    item, score --one line of JSON--> gym_worker.py --one line of JSON--> question, score

The process starts on first use and ends with its parent. A reply that is late kills it, and the
next request starts another; so a text that hangs a scorer costs its time limit and nothing else.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from openbook.tasks.worker_process import WorkerProcess

WORKER = Path(__file__).with_name("gym_worker.py")

SECONDS_TO_START = 120.0
"""Importing the library takes seconds; a busy machine takes longer."""


class LibraryFault(Exception):
    """The library raised, or its process died."""


class LibraryTimeout(Exception):
    """No reply within the time limit; the process was killed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GymItem:
    """One entry of a dataset. `answer` is empty where the library knows no right answer."""

    question: str
    answer: str
    facts: Mapping[str, object]


class GymLibrary:
    """A running or not yet running worker process. Safe to share between threads."""

    def __init__(self, *, seconds_to_make: float = 120.0) -> None:
        self.seconds_to_make = seconds_to_make
        self._lock = threading.Lock()
        self._workers: list[WorkerProcess] = []  # empty until the first request and after a kill

    def names(self) -> list[str]:
        """The names of all datasets. Raises LibraryFault when the library is not installed."""
        return cast(list[str], self._ask({"operation": "names"}, SECONDS_TO_START))

    def num_items(self, name: str, options: Mapping[str, Any]) -> int:
        """How many items a dataset has; 2**31 - 1 where an item can be made from any index."""
        return cast(int, self._ask(_request("num_items", name, options), self.seconds_to_make))

    def item(self, name: str, options: Mapping[str, Any], index: int) -> GymItem:
        """The item at `index`: the same on every machine, whatever its hash seed."""
        made = self._ask(_request("item", name, options, index=index), self.seconds_to_make)
        return GymItem(**cast(dict[str, Any], made))

    def score(self, name: str, options: Mapping[str, Any], index: int, answer: str, seconds: float) -> float:
        """The library's own score of `answer`, 0 to 1.

        Raises LibraryFault when the library raises, LibraryTimeout after `seconds`.
        """
        # the item is made first, under the longer limit: a restarted worker must not eat the scorer's time
        self.item(name, options, index)
        return cast(float, self._ask(_request("score", name, options, index=index, answer=answer), seconds))

    def close(self) -> None:
        """End the process; a later request starts it again."""
        with self._lock:
            self._drop()

    def _ask(self, request: Mapping[str, Any], seconds: float) -> object:
        with self._lock:
            if self._workers and not self._workers[0].is_running:
                self._workers.clear()  # it died, or a fork has copied the pipes, which belong to the parent
            if not self._workers:
                self._workers.append(WorkerProcess([str(WORKER)]))
                seconds += SECONDS_TO_START
            reply = self._workers[0].ask(request, seconds)
            if "value" in reply:
                return reply["value"]
            if reply.get("fatal", False):
                self._drop()
        if "late" in reply:
            raise LibraryTimeout(reply["late"])
        raise LibraryFault(reply["error"])

    def _drop(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers.clear()


def _request(operation: str, name: str, options: Mapping[str, Any], **rest: object) -> dict[str, Any]:
    text = json.dumps(options, sort_keys=True)  # as text: the worker keeps datasets by it
    return {"operation": operation, "name": name, "options": text, **rest}
