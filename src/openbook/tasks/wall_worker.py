"""The process behind the wall: it imports one function once, and answers each call in a fork of its own.

    keeper --forks--> server (process 1 of a namespace of its own) --forks for each call--> call

Started by `wall.Wall` as a module and never imported by another. One JSON line says which function; then each
line is one call, answered by one line. A fork for each call makes calls independent: what one patches, leaks
or breaks is gone with it, whichever worker ran it. Standard library only; the call's process alone runs what
others wrote, and nothing it does is trusted: its time, its memory, what it prints, what it answers.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from openbook.tasks import containment

MAX_REPLY_BYTES = 64 * 1024
MAX_PRINTED_BYTES = 1024 * 1024
_POLL_SECONDS = 0.02
_REASON_CHARS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """The function, the arguments of a call that it declares, and the limits of a call."""

    function: Callable[..., Any]
    accepts: frozenset[str]
    seconds: float
    limits: containment.Limits


def main() -> None:
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    keeper = os.getpid()
    containment.adopt_orphans()
    isolated = containment.enter_process_namespace()
    server = os.fork()
    if server:
        requests.close()
        replies.close()
        os.waitpid(server, 0)
        containment.sweep()
        return
    containment.adopt_orphans()
    containment.die_with_parent()
    serve(requests, replies, isolated=isolated, own_user=containment.FIRST_OWN_USER + keeper)


def serve(requests: BinaryIO, replies: BinaryIO, *, isolated: bool, own_user: int) -> None:
    """Load the function, then answer call after call until the requests end."""
    lines = Lines(requests)
    first = lines.next()
    if first is None:
        return
    try:
        job, said = load(json.loads(first), own_user)
    except BaseException as error:  # a module may exit as well as raise
        _send(replies, {"error": _reason(error)})
        return
    _send(replies, {"value": {**said, "isolated": isolated}})
    while (line := lines.next()) is not None:
        reply = answer(job, json.loads(line), requests.fileno(), replies.fileno())
        if not containment.sweep():
            _send(replies, {"error": "processes of the call would not end"})
            return
        _send(replies, reply)


class Lines:
    """Lines of a raw pipe. Nothing is read ahead: a call asks whether the other end still stands."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._rest = b""

    def next(self) -> bytes | None:
        while b"\n" not in self._rest:
            chunk = self._pipe.read(1 << 16)
            if not chunk:
                return None
            self._rest += chunk
        line, self._rest = self._rest.split(b"\n", 1)
        return line


def load(order: Mapping[str, Any], own_user: int) -> tuple[Job, dict[str, Any]]:
    """The job of an order, and what the other side is told of it."""
    sys.path[:0] = order["search_path"]
    function, source = find_function(order["function"])
    accepts = _accepted(function, order["offers"])
    needed = [Path(os.__file__), Path(containment.__file__), source]
    user = containment.user_that_reads(needed, own_user)
    limits = containment.limits_for(order["memory_bytes"], user)
    job = Job(function=function, accepts=accepts, seconds=order["seconds"], limits=limits)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    return job, {"digest": f"sha256:{digest}", "unprivileged": user is not None or os.geteuid() != 0}


def find_function(name: str) -> tuple[Callable[..., Any], Path]:
    """`module:function` or `path/to/file.py:function`, and the file that it stands in."""
    place, _, attribute = name.rpartition(":")
    if place.endswith(".py"):
        path = Path(place).resolve()
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise ModuleNotFoundError(f"there is no file {place}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    if not hasattr(module, attribute):
        raise AttributeError(f"{place} has no {attribute!r}")
    function = getattr(module, attribute)
    if not callable(function):
        raise TypeError(f"{name} is no function")
    return function, Path(module.__file__ or os.__file__)


def _accepted(function: Callable[..., Any], offers: list[str]) -> frozenset[str]:
    """Which of the offered arguments a function declares. TypeError where it needs another."""
    parameters = inspect.signature(function).parameters.values()
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return frozenset(offers)
    named = [one for one in parameters if one.kind is not inspect.Parameter.VAR_POSITIONAL]
    for one in named:
        required = one.default is inspect.Parameter.empty
        if one.kind is inspect.Parameter.POSITIONAL_ONLY or (required and one.name not in offers):
            raise TypeError(f"it asks for {one.name!r}; it can be given, by name: {', '.join(offers)}")
    return frozenset(one.name for one in named) & frozenset(offers)


def answer(job: Job, arguments: Mapping[str, Any], requests: int, replies: int) -> dict[str, Any]:
    """Run one call in a fork and watch it: a value, or a fault with its reason."""
    result, result_in = os.pipe()
    printed, printed_in = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            for stream in (1, 2):
                os.dup2(printed_in, stream)
            for other in (requests, replies, result, printed, printed_in):
                os.close(other)
            containment.confine(job.limits)
            _run(job, arguments, result_in)
        finally:
            os._exit(0)
    os.close(result_in)
    os.close(printed_in)
    try:
        return _watched(child, job.seconds, result, printed, requests)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        os.close(result)
        os.close(printed)


def _run(job: Job, arguments: Mapping[str, Any], result_in: int) -> None:
    """In the call's process: the function, and its result as one line."""
    given = {name: value for name, value in arguments.items() if name in job.accepts}
    try:
        _seed(json.dumps(arguments, sort_keys=True))
        reply: dict[str, Any] = {"value": job.function(**given)}
        text = json.dumps(reply, default=_plain)
    except MemoryError:
        given.clear()
        text = '{"fault": "crashed", "reason": "out of memory"}'
    except Exception as error:
        text = json.dumps({"fault": "unscorable", "reason": "raised " + _reason(error)})
    data = text.encode("ascii") + b"\n"
    while data:  # a reply that is too long is cut off by whoever reads
        data = data[os.write(result_in, data) :]


def _seed(text: str) -> None:
    """Random numbers that depend on the call alone, not on the worker or its start."""
    random.seed(text)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(random.getrandbits(32))
        random.seed(text)


def _plain(value: object) -> object:
    """A number of another library as our own. TypeError for anything else."""
    return float(value)  # type: ignore[arg-type]


def _watched(child: int, seconds: float, result: int, printed: int, requests: int) -> dict[str, Any]:
    """What comes first: a line, the end of the child, the end of its time, or too much output."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    for pipe, event in ((result, select.POLLIN), (printed, select.POLLIN), (requests, 0)):
        poll.register(pipe, event)
    said, num_printed, ended = b"", 0, -1
    while b"\n" not in said and ended < 0:
        left = deadline - time.monotonic()
        if left <= 0:
            return _fault("timed_out", f"no result within {seconds:g} seconds")
        ready = dict(poll.poll(1000 * min(left, _POLL_SECONDS)))
        if ready.get(requests, 0) & (select.POLLHUP | select.POLLERR):
            containment.sweep()  # whoever asked is gone
            os._exit(0)
        if not ready and (ended := _status(child)) >= 0:
            ready = dict(poll.poll(0))  # what it said between the two questions
        for pipe in (result, printed):
            chunk = os.read(pipe, 1 << 16) if pipe in ready else b""
            if pipe in ready and not chunk:
                poll.unregister(pipe)
            said += chunk if pipe == result else b""
            num_printed += len(chunk) if pipe == printed else 0
        if len(said) > MAX_REPLY_BYTES:
            return _fault("crashed", f"its result is too large: more than {MAX_REPLY_BYTES} bytes")
        if num_printed > MAX_PRINTED_BYTES:
            return _fault("crashed", f"it printed too much: more than {MAX_PRINTED_BYTES} bytes")
    return _read(said) if b"\n" in said else _fault("crashed", _why(ended))


def _status(child: int) -> int:
    """The wait status of a child that has ended; -1 while it runs."""
    ended, status = os.waitpid(child, os.WNOHANG)
    return status if ended else -1


def _read(said: bytes) -> dict[str, Any]:
    """The first line of what a call's process wrote; it could have written anything."""
    try:
        reply = json.loads(said.split(b"\n", 1)[0])
        if "value" in reply:
            return {"value": reply["value"]}
        if reply["fault"] in ("unscorable", "crashed"):
            return _fault(reply["fault"], str(reply["reason"])[:_REASON_CHARS])
        raise ValueError(reply["fault"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return _fault("crashed", "its result is garbled")


def _why(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"it was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"its process ended with code {os.WEXITSTATUS(status)} and no result"


def _fault(fault: str, reason: str) -> dict[str, Any]:
    return {"value": None, "fault": fault, "reason": reason}


def _reason(error: BaseException) -> str:
    """The kind and text of an error; its text may raise or be endless too."""
    try:
        text = str(error)[:_REASON_CHARS]
    except Exception:
        text = ""
    return ascii(f"{type(error).__name__}: {text}")[1:-1]


def _send(replies: BinaryIO, reply: Mapping[str, Any]) -> None:
    data = json.dumps(reply).encode("ascii") + b"\n"
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[replies.write(data) :]


if __name__ == "__main__":
    main()
