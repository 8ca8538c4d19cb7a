"""What holds a process and all that it starts: a namespace of process ids, limits, and a sweep at the end.

Only for worker processes, which are small and single-threaded; nothing here is called in a process that
trains. What a system does not offer is left out, and `Containment` says what holds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522

FIRST_OWN_USER = 2_000_000_000
"""User ids from here on belong to nobody; a worker of root takes the one at its process id."""

NOBODY = 65534

MAX_PROCESSES = 64
"""Processes and threads of one call, where the limit binds."""

SECONDS_TO_SWEEP = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one call may use. Memory counts on top of what the worker itself has mapped."""

    memory_bytes: int
    num_processes: int | None
    """Of the user, threads among them; None sets no limit. Does not bind root."""
    user: int | None
    """The user to become first; None stays."""


def limits_for(memory_bytes: int, user: int | None) -> Limits:
    """The limits of a call as `user`: of processes, `MAX_PROCESSES` more than that user runs already."""
    running = 0 if user is not None else _processes_of(os.getuid())
    most = None if running is None else running + MAX_PROCESSES
    return Limits(memory_bytes=memory_bytes, num_processes=most, user=user)


def enter_process_namespace() -> bool:
    """Give the next fork a namespace of process ids, in which it is 1 and whose end ends all in it.

    False where the system refuses: not Linux, or a container that forbids it.
    """
    return _unshare(_CLONE_NEWPID) or _unshare(_CLONE_NEWUSER | _CLONE_NEWPID)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent has died, so that `sweep` finds them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_memory(memory_bytes: int) -> None:
    """Cap what may be mapped, on top of what is."""
    _lower(resource.RLIMIT_AS, _mapped_bytes() + memory_bytes)


def forbid_files() -> None:
    """No byte into any file, no core dump. Pipes still work."""
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_CORE, 0)


def confine(limits: Limits) -> None:
    """Put this process, just forked, under limits that it cannot lift."""
    if limits.user is not None:
        _become(limits.user)
    limit_memory(limits.memory_bytes)
    forbid_files()
    if limits.num_processes is not None:
        _lower(resource.RLIMIT_NPROC, limits.num_processes)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    die_with_parent()  # last: a change of user clears it


def user_that_reads(paths: Sequence[Path], own: int) -> int | None:
    """A user without root's rights that root can become and that can read `paths`; None where there is none.

    Limits on processes do not bind root, and whoever is root could stop the processes that watch it.
    """
    if os.geteuid() != 0 or sys.platform != "linux":
        return None
    return next((user for user in (own, NOBODY) if _can_read(user, paths)), None)


def sweep() -> bool:
    """Kill all that this process has started, whoever started it in between; whether nothing is left.

    In a namespace of its own that is every process but this one. Elsewhere it is every descendant,
    which `adopt_orphans` has kept; where there is no /proc, the children's process groups.
    """
    deadline = time.monotonic() + SECONDS_TO_SWEEP
    while time.monotonic() < deadline:
        if os.getpid() == 1:  # nobody but the first of a namespace may say this
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        else:
            for child in list(_descendants(os.getpid())):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
        if _reaped_all():
            return True
        time.sleep(0.001)
    return False


def _reaped_all() -> bool:
    """Collect the dead; True when no child is left."""
    while True:
        try:
            child, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if child == 0:
            return False


def _descendants(process: int) -> Iterator[int]:
    for child in _children(process):
        yield from _descendants(child)
        yield child


def _children(process: int) -> list[int]:
    found: list[int] = []
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, listed.read_text().split())
    return found


def _processes_of(user: int) -> int | None:
    """How many threads a user runs, which the limit on processes is counted against; None where untold."""
    if not Path("/proc/self/status").exists():
        return None
    count = 0
    for status in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if status.stat().st_uid == user:
                count += len(list((status / "task").iterdir()))
    return count


def _mapped_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # no /proc: what the worker itself maps counts against the call
        return 0


def _lower(what: int, value: int) -> None:
    """Set both limits to `value`, or to the hard limit where that is lower."""
    _, hard = resource.getrlimit(what)
    allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses some of them
        resource.setrlimit(what, (allowed, allowed))


def _become(user: int) -> None:
    """Give up root for good, but for its right to read: Python itself may lie where only root can read."""
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    library = _libc()
    if library is not None:
        may_read = 1 << _CAP_DAC_READ_SEARCH
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        if library.capset(header, (ctypes.c_uint32 * 6)(may_read, may_read, may_read, 0, 0, 0)) != 0:
            library.capset(header, (ctypes.c_uint32 * 6)())  # a container that never had it
        library.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_READ_SEARCH, 0, 0)


def _can_read(user: int, paths: Sequence[Path]) -> bool:
    """Asked of a process that has become `user`, because only the kernel knows all the rules."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _become(user)
            for path in paths:
                path.open("rb").close()
            code = 0
        finally:  # whatever is raised means no
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def _unshare(flags: int) -> bool:
    library = _libc()
    return library is not None and hasattr(library, "unshare") and library.unshare(flags) == 0


def _prctl(option: int, value: int) -> None:
    library = _libc()
    if library is not None:
        library.prctl(option, value, 0, 0, 0)


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
