"""Run untrusted Python against tests, where it can do no harm and cannot forge the verdict.

    code, tests -> inputs --> sandbox_worker.py --> [ jail: the code ] --> outputs -> compared here -> TestRun

Each run is a fresh process (tens of milliseconds) that isolates itself before it looks at the code:
namespaces, an unprivileged user, a root that holds the standard library only, limits, a filter of
system calls. The code sees inputs and hands back plain data; what is expected stays in this process,
which alone compares. So an exit, a patched comparison or a printed mark of success earns nothing.
Without isolation nothing runs: SandboxUnavailable says what is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from openbook.config import config
from openbook.tasks.answers import quote
from openbook.tasks.syscall_filter import filter_program

WORKER = Path(__file__).with_name("sandbox_worker.py")

SECONDS_OF_GRACE = 40.0
"""Beyond the time limit, until the worker counts as broken: a busy machine starts processes slowly."""


class SandboxUnavailable(Exception):
    """This machine does not give the isolation; nothing was run."""


class SandboxBroke(Exception):
    """The worker itself died or gave no reply: no judgement of the code."""


@config
class SandboxLimits:
    """What one run of untrusted code may use."""

    cpu_seconds: int = 1
    """Processor time, which is fair on a busy machine."""
    wall_seconds: float = 4.0
    """Time by the clock, for code that sleeps."""
    memory_mib: int = 512
    """Address space, the interpreter's own 30 MiB included."""
    output_bytes: int = 65536
    """Most that may be returned, and most that may be printed."""

    def __post_init__(self) -> None:
        if self.cpu_seconds < 1 or self.wall_seconds <= 0:
            raise ValueError("cpu_seconds must be at least 1 and wall_seconds positive")
        if self.memory_mib < 64 or self.output_bytes < 1:
            raise ValueError("memory_mib must be at least 64 and output_bytes positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeTest:
    """A call and what it has to return, as JSON values. Example: `arguments=[[1, 2]], expected=3`."""

    arguments: Sequence[object]
    expected: object


class Ending(StrEnum):
    """How a run ended."""

    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    TOO_MUCH_OUTPUT = "too_much_output"


@dataclass(frozen=True, kw_only=True, slots=True)
class TestRun:
    """How a run ended, and why in words. The test that it failed or died in is number `num_passed`."""

    __test__ = False  # no test of pytest's

    ending: Ending
    num_passed: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Isolation:
    """What holds on this machine, by name: `user`, `mount`, `pid`, `net`, `ipc`, `limits`, `seccomp`.

    A value says in words what holds and is empty where nothing does. `refused` is empty when code
    may run, and says otherwise why not.
    """

    held: Mapping[str, str]
    refused: str

    @property
    def may_run(self) -> bool:
        return not self.refused


def run_tests(
    code: str,
    function: str,
    tests: Sequence[CodeTest],
    limits: SandboxLimits = SandboxLimits(),  # noqa: B008  (frozen)
    syscall_filter: bytes | None = None,
) -> TestRun:
    """Call `function` of `code` on the arguments of every test, in one process, up to the first that fails.

    `syscall_filter` replaces the filter of this machine (empty: none). Safe to call from several
    threads at once. Raises SandboxUnavailable or SandboxBroke, both without a judgement.
    """
    reply = _ask(code, function, tests, limits, syscall_filter)
    lines = cast(str, reply["results"]).split("\n")[:-1]  # what follows the last newline was cut off
    for num_passed, test in enumerate(tests):
        if num_passed == len(lines):
            return _ended_early(reply, num_passed, limits)
        ending, reason = _judge(lines[num_passed], test)
        if ending is not Ending.PASSED:
            called = f"{function}({', '.join(map(repr, test.arguments))})"
            return TestRun(ending=ending, num_passed=num_passed, reason=f"{quote(called, 80)} {reason}")
    if len(lines) > len(tests):
        return TestRun(
            ending=Ending.FAILED, num_passed=len(tests), reason="more results than there were calls"
        )
    if reply["why"] or reply["status"]:
        return _ended_early(reply, len(tests), limits)
    return TestRun(ending=Ending.PASSED, num_passed=len(tests), reason=f"all {len(tests)} tests passed")


def probe() -> Isolation:
    """Try it: isolate, then attack from inside. Takes about as long as one run."""
    try:
        reply = _ask(_ATTACKS, "attacks", [CodeTest(arguments=(), expected=[])], SandboxLimits(), None)
    except (SandboxUnavailable, SandboxBroke) as fault:
        return Isolation(held={}, refused=str(fault))
    held = cast(dict[str, str], json.loads(reply["report"])["held"])
    ending, reason = _judge(
        cast(str, reply["results"]).partition("\n")[0], CodeTest(arguments=(), expected=[])
    )
    return Isolation(held=held, refused="" if ending is Ending.PASSED else f"an attack from inside {reason}")


_ATTACKS = """
import os, socket

def attacks():
    tries = {
        "opens a file": lambda: open("/etc/passwd"),
        "sees processes": lambda: os.listdir("/proc/self"),
        "sees devices": lambda: os.listdir("/dev"),
        "writes": lambda: open("/written", "w"),
        "writes to the library": lambda: open(os.__file__, "r+"),
        "reaches the network": lambda: socket.socket(type=socket.SOCK_DGRAM).connect(("192.0.2.1", 9)),
        "starts a process": os.fork,
        "becomes root": lambda: os.setuid(0),
    }
    done = [name for name, attack in tries.items() if succeeds(attack)]
    return done + ["is not alone"] * (os.getpid() != 1) + ["is root"] * (os.getuid() == 0)

def succeeds(attack):
    try:
        attack()
    except OSError:
        return False
    return True
"""


def _ask(
    code: str,
    function: str,
    tests: Sequence[CodeTest],
    limits: SandboxLimits,
    syscall_filter: bytes | None,
) -> dict[str, Any]:
    """The worker's reply to one job."""
    if sys.platform != "linux":
        raise SandboxUnavailable(f"code runs isolated on Linux only, and this is {sys.platform}")
    job = {
        "parent": os.getpid(),
        "code": code,
        "function": function,
        "inputs": [json.dumps(test.arguments) for test in tests],
        "filter": (filter_program() if syscall_filter is None else syscall_filter).hex(),
        "memory_bytes": limits.memory_mib * 2**20,
        "cpu_seconds": limits.cpu_seconds,
        "wall_seconds": limits.wall_seconds,
        "output_bytes": limits.output_bytes,
    }
    environment = {"PYTHONHASHSEED": "0"}  # sets in the same order every time: a verdict can be repeated
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]  # some interpreters need it to start
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-s", "-S", "-B", str(WORKER)],
            input=json.dumps(job).encode("ascii"),
            capture_output=True,
            timeout=limits.wall_seconds + SECONDS_OF_GRACE,
            check=False,
            env=environment,
            cwd="/",
        )
    except subprocess.TimeoutExpired as late:
        raise SandboxBroke(f"the sandbox gave no reply within {late.timeout:g} seconds") from late
    except OSError as fault:
        raise SandboxBroke(f"the sandbox could not be started: {fault}") from fault
    try:
        reply = cast(dict[str, Any], json.loads(done.stdout))
        report = json.loads(reply["report"])
    except ValueError as fault:
        told = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise SandboxBroke(f"the sandbox died ({done.returncode}): {quote(told, 200)}") from fault
    if "refused" in report:
        raise SandboxUnavailable(f"code cannot run isolated here: {report['refused']}")
    return reply


def _ended_early(reply: Mapping[str, Any], num_passed: int, limits: SandboxLimits) -> TestRun:
    """A run that ended before its results were complete, by what the worker saw of its end."""
    status = cast(int, reply["status"])
    if reply["why"] == "late":
        seconds = f"{limits.cpu_seconds} s of processor time or {limits.wall_seconds:g} s by the clock"
        ending, reason = Ending.TIMED_OUT, f"timed out: used up {seconds}"
    elif reply["why"] == "long":
        ending, reason = Ending.TOO_MUCH_OUTPUT, f"wrote more than {limits.output_bytes} bytes"
    elif status == -9:
        ending, reason = Ending.OUT_OF_MEMORY, "killed: the machine had no memory left for it"
    else:
        how = f"by signal {-status}" if status < 0 else f"with exit status {status}"
        ending, reason = Ending.CRASHED, f"ended {how} before it returned"
    return TestRun(ending=ending, num_passed=num_passed, reason=reason)


def _judge(line: str, test: CodeTest) -> tuple[Ending, str]:
    """One line of the code's process, which may hold anything, against what was expected."""
    try:
        result = json.loads(line)
    except (ValueError, RecursionError):
        return Ending.FAILED, "gave a result that cannot be read"
    if not isinstance(result, dict):
        return Ending.FAILED, "gave a result that cannot be read"
    if "memory" in result:
        return Ending.OUT_OF_MEMORY, "ran out of memory"
    if "value" not in result:
        return Ending.FAILED, f"raised {quote(str(result.get('error')), 120)}"
    if not same(test.expected, result["value"]):
        return Ending.FAILED, f"is {quote(repr(result['value']), 60)}, not {quote(repr(test.expected), 60)}"
    return Ending.PASSED, ""


def same(expected: object, given: object) -> bool:
    """Equal in value and in type, all the way down: 1 is neither True nor 1.0 here. Tuples came as lists."""
    if type(expected) is not type(given):
        return False
    if isinstance(expected, list):
        assert isinstance(given, list)
        return len(expected) == len(given) and all(map(same, expected, given))
    if isinstance(expected, dict):
        assert isinstance(given, dict)
        return expected.keys() == given.keys() and all(same(expected[key], given[key]) for key in expected)
    return expected == given
