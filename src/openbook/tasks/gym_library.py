"""GymLibrary: the reasoning-gym library behind a pipe, with a time limit on every request.

    item, score --one line of JSON--> gym_worker.py --one line of JSON--> question, score

The process starts on first use and ends with its parent. A reply that is late kills it, and the
next request starts another; so a text that hangs a scorer costs its time limit and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

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
        self._workers: list[_Worker] = []  # empty until the first request and after a kill

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
            if self._workers and not self._workers[0].is_ours:
                self._workers.clear()  # a fork has copied the pipes; they belong to the parent
            if not self._workers:
                self._workers.append(_Worker())
                seconds += SECONDS_TO_START
            reply = self._workers[0].ask(request, seconds)
            if "value" in reply:
                return reply["value"]
            if reply.pop("fatal", False):
                self._drop()
        if "late" in reply:
            raise LibraryTimeout(reply["late"])
        raise LibraryFault(reply["error"])

    def _drop(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers.clear()


class _Worker:
    """One process and its pipes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-B", "-W", "ignore", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | _ENVIRONMENT,
            encoding="ascii",
        )
        self.parent_id = os.getpid()
        self.stop = weakref.finalize(self, _stop, self.process, self.parent_id)

    @property
    def is_ours(self) -> bool:
        return self.parent_id == os.getpid()

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The reply; or `late` or `error`, with `fatal` when the process is of no more use."""
        assert self.process.stdin is not None and self.process.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(seconds, kill)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if late.is_set():
            return {"late": f"no reply within {seconds:g} seconds", "fatal": True}
        if not line.endswith("\n"):
            return {"error": "the library's process died", "fatal": True}
        return cast(dict[str, Any], json.loads(line))


# A fixed hash seed, because some datasets walk through sets; one thread, because a scorer needs no more.
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def _stop(process: subprocess.Popen[str], parent_id: int) -> None:
    if os.getpid() != parent_id:
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # a request that never left
                pipe.close()


def _request(operation: str, name: str, options: Mapping[str, Any], **rest: object) -> dict[str, Any]:
    text = json.dumps(options, sort_keys=True)  # as text: the worker keeps datasets by it
    return {"operation": operation, "name": name, "options": text, **rest}
