"""The system calls that untrusted code may make, as a seccomp program in BPF.

    filter_program("x86_64") -> bytes: allowed calls pass, every other one fails with EPERM

The list is what the interpreter needs to compute, to import a module of the standard library, to ask
the time and to end. Not in it: sockets, new processes and threads, other programs, shared memory,
mounts, namespaces, tracing, io_uring, and whatever a later kernel brings. One call is looked into:
open may read and never write, so that read-only does not rest on the mounts alone.
"""

from __future__ import annotations

import os
import platform
import struct
from collections.abc import Mapping

# name -> (number on x86_64, number on aarch64); -1 where that machine has none (Linux uapi, unistd.h)
ALLOWED: Mapping[str, tuple[int, int]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "stat": (4, -1),
    "fstat": (5, 80),
    "lstat": (6, -1),
    "poll": (7, -1),
    "ppoll": (271, 73),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "ioctl": (16, 29),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "access": (21, -1),
    "faccessat": (269, 48),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "dup": (32, 23),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "getpid": (39, 172),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "uname": (63, 160),
    "fcntl": (72, 25),
    "getcwd": (79, 17),
    "readlink": (89, -1),
    "readlinkat": (267, 78),
    "gettimeofday": (96, 169),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "times": (100, 153),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "geteuid": (107, 175),
    "getegid": (108, 177),
    "getppid": (110, 173),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "time": (201, -1),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "getdents64": (217, 61),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "tgkill": (234, 131),
    "newfstatat": (262, 79),
    "getrandom": (318, 278),
    "statx": (332, 291),
    "rseq": (334, 293),
}
OPEN: Mapping[str, tuple[int, int]] = {"open": (2, -1), "openat": (257, 56)}
_FLAGS_ARGUMENT = {"open": 1, "openat": 2}

_MACHINES = ("x86_64", "aarch64")
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# linux/bpf_common.h, linux/seccomp.h
_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER_OFFSET, _ARCH_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_EPERM = 1


def filter_program(machine: str = "") -> bytes:
    """The filter as an array of `struct sock_filter`; empty for a machine that has no table here.

    `machine` is a name such as `platform.machine()` gives, which is also the default.
    """
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        return b""
    column = _MACHINES.index(machine)
    program = [
        _instruction(_LOAD, value=_ARCH_OFFSET),
        _instruction(_JUMP_EQUAL, value=_AUDIT_ARCH[machine], when_true=1),
        _instruction(_RETURN, value=_KILL),  # another calling convention has other numbers
        _instruction(_LOAD, value=_NUMBER_OFFSET),
    ]
    for name, numbers in OPEN.items():
        if numbers[column] >= 0:
            program += _read_only_open(numbers[column], _FLAGS_ARGUMENT[name])
    for numbers in ALLOWED.values():
        if numbers[column] >= 0:
            program.append(_instruction(_JUMP_EQUAL, value=numbers[column], when_false=1))
            program.append(_instruction(_RETURN, value=_ALLOW))
    program.append(_instruction(_RETURN, value=_FAIL | _EPERM))
    return b"".join(program)


def _read_only_open(number: int, flags_argument: int) -> list[bytes]:
    """If the call is `number`, decide by its flags; else go on. All are little-endian machines."""
    return [
        _instruction(_JUMP_EQUAL, value=number, when_false=4),
        _instruction(_LOAD, value=_ARGUMENTS_OFFSET + 8 * flags_argument),
        _instruction(_JUMP_ANY_BIT, value=_WRITING, when_false=1),
        _instruction(_RETURN, value=_FAIL | _EPERM),
        _instruction(_RETURN, value=_ALLOW),
    ]


def _instruction(code: int, *, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)
