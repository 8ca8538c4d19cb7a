"""WorkerProcess: a Python process of our own behind a pipe, asked line by line, each with a time limit.

A reply that is late kills the process and all of its session. The process has an environment without our
secrets, and ends when the pipe to it closes, so it outlives nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

KEPT_ENVIRONMENT = frozenset(
    [
        *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT"),
        *("PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
    ]
)
"""All that a worker gets of our environment: no tokens, no keys, no proxies."""

# A fixed hash seed, because some code walks through sets; one thread, because a verifier needs no more.
_FIXED_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

MAX_LINE_CHARS = 64 * 2**20
_SECONDS_TO_END = 2.0


class WorkerProcess:
    """One process and its pipes, from the arguments of its interpreter. Not to be shared between threads."""

    def __init__(self, arguments: Sequence[str]) -> None:
        kept = {name: value for name, value in os.environ.items() if name in KEPT_ENVIRONMENT}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-B", "-W", "ignore", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | _FIXED_ENVIRONMENT,
            encoding="ascii",
            start_new_session=True,  # an interrupt from the keyboard is ours to handle, not the worker's
        )
        self.parent_id = os.getpid()
        self.stop = weakref.finalize(self, _stop, self.process, self.parent_id)

    @property
    def is_running(self) -> bool:
        """Whether it can be asked: it runs, and is ours and not that of a process we were forked from."""
        return self.parent_id == os.getpid() and self.stop.alive and self.process.poll() is None

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The reply; or `late` or `error`, with `fatal` when the process is of no more use."""
        assert self.process.stdin is not None and self.process.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            _kill(self.process)

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline(MAX_LINE_CHARS)
        except (BrokenPipeError, UnicodeDecodeError):
            line = ""
        finally:
            timer.cancel()
        if late.is_set():
            return {"late": f"no reply within {seconds:g} seconds", "fatal": True}
        try:
            reply: dict[str, Any] = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "the worker process died" if not line else "garbled reply", "fatal": True}
        return reply


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill the whole session: a child that holds the pipe open would keep the reader waiting."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _stop(process: subprocess.Popen[str], parent_id: int) -> None:
    """End the process: by closing its pipe, so that it can clear up, and by force where that is too slow."""
    if os.getpid() != parent_id:
        return
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # a request that never left
        process.stdin.close()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.wait()
    process.stdout.close()
