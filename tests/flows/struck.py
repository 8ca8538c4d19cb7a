"""The command line in a process that writes down what it does and kills itself at a given event.

    python struck.py TRACE NUMBER WORDS...

Each call of a watched function is one line of the file TRACE, written before it runs; at line NUMBER (from 1)
the process sends itself SIGKILL instead, at 0 never. A run does the same things in the same order every time,
so that a number out of one trace names one moment of any other run.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from openbook.cli.app import main

WATCHED = {
    "roll out": "openbook.rl.step:roll_out",
    "sample": "openbook.engine.engine:Engine.step",
    "update": "openbook.rl.update:optimizer_step",
    "write": "openbook.train.state:save_file",
    "sync": "openbook.train.state:_sync",
    "list states": "openbook.train.state:_saved",
    "log": "openbook.runs.run:Run.log",
}


def watch(trace: int, fatal: int) -> None:
    """Put a witness before every watched function."""
    num_events = 0

    def witness(event: str) -> None:
        nonlocal num_events
        num_events += 1
        if num_events == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(trace, f"{event}\n".encode())

    for event, place in WATCHED.items():
        module, _, path = place.partition(":")
        *owners, name = path.split(".")
        owner = functools.reduce(getattr, owners, importlib.import_module(module))
        setattr(owner, name, watched(event, getattr(owner, name), witness))


def watched(event: str, function: Callable[..., Any], witness: Callable[[str], None]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        witness(event)
        return function(*args, **named)

    return call


if __name__ == "__main__":
    watch(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), int(sys.argv[2]))
    main(sys.argv[3:])
