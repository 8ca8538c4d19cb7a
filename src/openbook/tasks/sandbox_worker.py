"""The process that runs untrusted code: namespaces first, then limits, then the code.

    job on stdin -> namespaces -> fork -> [ jail: root, user, limits, filter -> the code ] -> results
                                   |                                                             |
                                   +-- watches: time, output, how it ended -> reply on stdout <--+

Started by `sandbox.py` as a script of its own, with an empty environment, and never imported. The
child is process 1 of its own process namespace: what it leaves behind ends with it. In its root lies
the standard library and nothing else. It is given inputs and hands back outputs; what the outputs
should have been is known to neither process here. If anything on the way cannot be had, nothing runs.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

NOBODY = 65534
"""The user and group of the code, inside, and outside too when this process is root."""

SECONDS_TO_PREPARE = 20.0
"""For namespaces and mounts; they take milliseconds, and longer on a machine that is busy."""

POLL_SECONDS = 0.01
MASKED = ("site-packages", "dist-packages")
"""Folders in the standard library's that hold other packages, ours maybe among them: left empty."""

# linux/sched.h
NEW_MOUNT, NEW_UTS, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = (
    *(0x00020000, 0x04000000, 0x08000000),
    *(0x10000000, 0x20000000, 0x40000000),
)
NAMESPACES = NEW_MOUNT | NEW_UTS | NEW_IPC | NEW_PID | NEW_NET
# linux/mount.h
READ_ONLY, NO_SUID, NO_DEV, NO_EXEC, REMOUNT, BIND, RECURSIVE, PRIVATE = (
    *(1, 2, 4, 8),
    *(32, 4096, 16384, 1 << 18),
)
DETACH = 2
# linux/prctl.h, linux/seccomp.h, linux/capability.h
SET_PARENT_DEATH_SIGNAL, SET_DUMPABLE, SET_SECCOMP, DROP_BOUNDING, SET_NO_NEW_PRIVILEGES = 1, 4, 22, 24, 38
FILTER_MODE = 2
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_NO_MORE = (ctypes.c_ulong(0), ctypes.c_ulong(0))


class Unavailable(Exception):
    """A part of the isolation cannot be had here; the message says which."""


def call(name: str, *arguments: Any) -> None:
    """One function of the C library by name. Raises Unavailable with the reason of the system."""
    if getattr(_libc, name)(*arguments) != 0:
        raise Unavailable(f"{name}: {os.strerror(ctypes.get_errno())}")


def prctl(option: int, value: int, pointer: Any = None) -> None:
    call("prctl", option, ctypes.c_ulong(value), ctypes.c_void_p(pointer), *_NO_MORE)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    texts = [text.encode() or None for text in (source, target, kind, options)]
    try:
        call("mount", texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])
    except Unavailable as fault:
        raise Unavailable(f"mount on {target}: {fault}") from None


def enter_namespaces() -> dict[str, str]:
    """Namespaces for the process forked next, by root's right or else inside a user namespace of its own."""
    try:
        if os.geteuid() == 0:
            call("unshare", NAMESPACES)
            return {"user": ""}  # the child gives root up once its file system stands
    except Unavailable:
        become_nobody()
    outside_user, outside_group = os.geteuid(), os.getegid()
    try:
        call("unshare", NEW_USER)
    except Unavailable as fault:
        raise Unavailable(f"no user namespace ({fault})") from None
    tell_kernel("setgroups", b"deny")
    tell_kernel("uid_map", b"%d %d 1" % (NOBODY, outside_user))
    tell_kernel("gid_map", b"%d %d 1" % (NOBODY, outside_group))
    call("unshare", NAMESPACES)
    return {"user": f"user {outside_user} in a user namespace of its own"}


def tell_kernel(name: str, text: bytes) -> None:
    with open(f"/proc/self/{name}", "wb", buffering=0) as file:  # bytes: the codecs may be out of reach
        file.write(text)


def become_nobody() -> None:
    """Give root up for good."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    prctl(SET_DUMPABLE, 1)  # else /proc/self stays root's, and no user namespace could be mapped


def enter_own_root(library: str) -> None:
    """A root of its own, read-only, in which `library` lies at its place and nothing else."""
    mount("none", "/", "", RECURSIVE | PRIVATE)
    # by descriptor, because the place of the new root may hide the folder
    descriptor = os.open(library, os.O_PATH | os.O_DIRECTORY)
    kept = os.statvfs(library).f_flag & (NO_SUID | NO_DEV | NO_EXEC)  # inherited ones may not be taken off
    mount("none", "/tmp", "tmpfs", NO_SUID | NO_DEV, "size=64k,nr_inodes=64,mode=0755")
    inside = "/tmp" + library
    os.makedirs(inside, mode=0o755)
    mount(f"/proc/self/fd/{descriptor}", inside, "", BIND | RECURSIVE)
    os.close(descriptor)
    locked = READ_ONLY | NO_SUID | NO_DEV
    mount("none", inside, "", REMOUNT | BIND | locked | kept)
    for name in MASKED:
        if os.path.isdir(os.path.join(inside, name)):
            mount("none", os.path.join(inside, name), "tmpfs", locked | NO_EXEC, "size=4k,mode=0555")
    os.chdir("/tmp")
    call("pivot_root", b".", b".")
    call("umount2", b".", DETACH)
    os.chdir("/")
    mount("none", "/", "", REMOUNT | BIND | locked | NO_EXEC)


def drop_capabilities() -> None:
    """No capability in any set, and none to be had by starting a program."""
    for capability in range(64):
        _libc.prctl(DROP_BOUNDING, ctypes.c_ulong(capability), None, *_NO_MORE)  # refused above the last
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    call("capset", header, nothing)
    prctl(SET_NO_NEW_PRIVILEGES, 1)


def limit(job: Mapping[str, Any]) -> None:
    """Limits that bind because this user has no privilege left; no file may grow, no process start."""
    for name, most in (
        ("AS", job["memory_bytes"]),
        ("CPU", job["cpu_seconds"]),
        ("FSIZE", 0),
        ("NOFILE", 32),
        ("NPROC", 0),
        ("CORE", 0),
        ("MEMLOCK", 0),
        ("MSGQUEUE", 0),
    ):
        kind = getattr(resource, "RLIMIT_" + name)
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def assure_alone() -> None:
    """Try to start a process: the limit on them binds most users, and not one that is root outside."""
    try:
        process = os.fork()
    except OSError:
        return
    if process == 0:
        os._exit(0)
    raise Unavailable("further processes could be started")


def install_filter(program: bytes) -> None:
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    whole = Program(len(program) // 8, program)
    prctl(SET_SECCOMP, FILTER_MODE, ctypes.addressof(whole))


def enter_jail(job: Mapping[str, Any], held: dict[str, str]) -> dict[str, str]:
    """All the isolation that a process puts on itself, in an order in which each step can still be taken."""
    os.setsid()  # a signal to its group must not reach the group it was started in
    tell_kernel("oom_score_adj", b"1000")  # should memory run out, this process goes first
    enter_own_root(os.path.dirname(os.__file__))
    if os.getpid() != 1:
        raise Unavailable("no process namespace of its own")
    user = held["user"]
    if not user:
        become_nobody()
        user = f"user {NOBODY}"
        if _libc.unshare(NEW_USER) == 0:
            user += " in a user namespace of its own"
    if os.geteuid() == 0:
        raise Unavailable("the user is still root")
    limit(job)
    drop_capabilities()
    prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)  # after the last change of user, which would clear it
    program = bytes.fromhex(job["filter"])
    if program:
        install_filter(program)
    assure_alone()
    return {
        "user": user,
        "mount": "the standard library, read-only, and nothing else",
        "pid": "process 1 of its own",
        "net": "no interface that is up",
        "ipc": "its own",
        "limits": "memory, processor time, processes, files, output",
        "seccomp": "only the system calls listed" if program else "",
    }


def run(job: Mapping[str, Any], results: int) -> None:
    """The code, then its function on each input: one line of JSON for each, until one fails."""
    namespace: dict[str, Any] = {"__name__": "answer"}
    try:
        exec(compile(job["code"], "answer.py", "exec"), namespace)
        function = namespace.get(job["function"])
        if not callable(function):
            raise NameError(f"there is no function {job['function']}")
        for text in job["inputs"]:
            write_all(results, json.dumps({"value": function(*json.loads(text))}))
    except MemoryError:
        write_all(results, json.dumps({"memory": True}))
    except BaseException as error:  # whatever it is, an exit among them, it is the answer's
        write_all(results, json.dumps({"error": f"{type(error).__name__}: {error}"[:300]}))


def write_all(descriptor: int, line: str) -> None:
    left = line.encode("ascii") + b"\n"
    while left:
        left = left[os.write(descriptor, left) :]


def child(job: Mapping[str, Any], held: dict[str, str], pipes: Mapping[str, int]) -> NoReturn:
    """Never returns: the jail, a line that says so, then the code.

    `pipes["life"]` is to be read from and ends when the watching process does.
    """
    try:
        nothing_read, nothing_write = os.pipe()
        os.close(nothing_write)
        for place, descriptor in enumerate((nothing_read, pipes["output"], pipes["output"])):
            os.dup2(descriptor, place)
        os.environ.clear()
        held = enter_jail(job, held)
        watched = select.poll()
        watched.register(pipes["life"], select.POLLIN)
        if watched.poll(0):
            os._exit(1)  # the parent was gone before its death could send a signal
        write_all(pipes["report"], json.dumps({"held": held}))
    except (Unavailable, OSError) as fault:
        write_all(pipes["report"], json.dumps({"refused": str(fault)}))
        os._exit(1)
    keep = pipes["results"]
    os.closerange(3, keep)
    os.closerange(keep + 1, 256)
    run(job, keep)
    os._exit(0)


class Watch:
    """The parent's side of one run: reads what comes, and ends it when it is late or says too much."""

    def __init__(self, process: int, pipes: Mapping[str, int], job: Mapping[str, Any]) -> None:
        self.process = process
        self.names = {descriptor: name for name, descriptor in pipes.items()}
        self.texts = dict.fromkeys(pipes, b"")
        self.most_bytes = job["output_bytes"]
        self.seconds_to_run = job["wall_seconds"]
        self.most_seconds = job["cpu_seconds"]
        self.seconds_used = 0.0
        self.deadline = time.monotonic() + SECONDS_TO_PREPARE
        self.poll = select.poll()
        for descriptor in self.names:
            self.poll.register(descriptor, select.POLLIN)

    def until_it_ends(self) -> dict[str, Any]:
        """How it ended: `late`, `long` (too much output) or its exit status, and all it wrote."""
        why = ""
        status = None
        while status is None:
            if not why:
                why = self._read(POLL_SECONDS)
                if time.monotonic() > self.deadline:
                    why = "late"
                if why:
                    os.kill(self.process, signal.SIGKILL)
            status = self._status(os.WNOHANG if not why else 0)
        while not why and self.names:
            why = self._read(0)
        if status == -signal.SIGKILL and not why and self.seconds_used > 0.9 * self.most_seconds:
            why = "late"  # by the limit on processor time, which the kernel counts a little differently
        return {
            "why": why,
            "status": status,
            "report": self.texts["report"].decode("ascii"),
            "results": self.texts["results"].decode("ascii", "replace"),
            "output": self.texts["output"][-1000:].decode("utf-8", "replace"),
        }

    def _status(self, options: int) -> int | None:
        process, status, used = os.wait4(self.process, options)
        if not process:
            return None
        self.seconds_used = used.ru_utime + used.ru_stime
        return os.waitstatus_to_exitcode(status)

    def _read(self, seconds: float) -> str:
        for descriptor, _ in self.poll.poll(seconds * 1000):
            name = self.names[descriptor]
            piece = os.read(descriptor, 1 << 16)
            self.texts[name] += piece
            if not piece:
                self.poll.unregister(descriptor)
                del self.names[descriptor]
            if name == "report" and piece.endswith(b"\n"):
                self.deadline = time.monotonic() + self.seconds_to_run
            if len(self.texts[name]) > self.most_bytes:
                return "long"
        return ""


def main() -> None:
    job = json.load(sys.stdin.buffer)
    prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != job["parent"]:
        sys.exit("the process that asked is gone")
    try:
        held = enter_namespaces()
        ends = {name: os.pipe() for name in ("report", "results", "output")}
        life_read, life_write = os.pipe()
        process = os.fork()
    except (Unavailable, OSError) as fault:
        reply: dict[str, Any] = {"report": json.dumps({"refused": str(fault)}) + "\n"}
    else:
        if process == 0:
            os.close(life_write)
            child(job, held, {"life": life_read, **{name: write for name, (_, write) in ends.items()}})
        for _, write in ends.values():
            os.close(write)
        reply = Watch(process, {name: read for name, (read, _) in ends.items()}, job).until_it_ends()
    sys.stdout.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
