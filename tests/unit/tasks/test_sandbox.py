"""Attacks on the sandbox: each is tried with the filter of system calls and without it."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openbook.tasks import sandbox
from openbook.tasks.sandbox import (
    CodeTest,
    Ending,
    SandboxBroke,
    SandboxLimits,
    SandboxUnavailable,
    TestRun,
    probe,
    run_tests,
    same,
)

ISOLATION = probe()
isolated = pytest.mark.skipif(not ISOLATION.may_run, reason=ISOLATION.refused)
filters = pytest.mark.parametrize("syscall_filter", [None, b""], ids=["filtered", "unfiltered"])

TESTS = [CodeTest(arguments=[n], expected=n + 1) for n in (1, 2, 3)]
LIMITS = SandboxLimits()
SHORT = SandboxLimits(wall_seconds=0.5)
SMALL = SandboxLimits(memory_mib=96)


def run(code: str, limits: SandboxLimits = LIMITS, syscall_filter: bytes | None = None) -> TestRun:
    return run_tests(code, "f", TESTS, limits, syscall_filter)


def told_by(expression: str, syscall_filter: bytes | None = None) -> str:
    """What untrusted code finds out: its value travels in the reason of a failed test."""
    code = f"import ctypes, os, socket, sys\ndef f(n): return {expression}"
    return run(code, syscall_filter=syscall_filter).reason


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Workers that other tests keep at hand are none of these tests' children."""
    before = children()
    yield
    assert children() <= before


def children() -> set[str]:
    tasks = Path("/proc/self/task")
    return {pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()}


@isolated
def test_endings_are_told_apart() -> None:
    assert run("def f(n): return n + 1").ending is Ending.PASSED
    failed = run("def f(n): return n + 1 if n < 2 else 0")
    assert (failed.ending, failed.num_passed) == (Ending.FAILED, 1)
    assert "f(2)" in failed.reason and "not '3'" in failed.reason
    late = run("while True: pass")
    assert late.ending is Ending.TIMED_OUT and "processor time" in late.reason
    assert run("import time; time.sleep(60)", SHORT).ending is Ending.TIMED_OUT
    assert run("x = bytearray(10**10)").ending is Ending.OUT_OF_MEMORY
    assert run("x = []\nwhile True: x.append(bytearray(10**6))", SMALL).ending is Ending.OUT_OF_MEMORY
    assert run("while True: print('x' * 1000)").ending is Ending.TOO_MUCH_OUTPUT
    assert run("def f(n): return 'x' * 10**6").ending is Ending.TOO_MUCH_OUTPUT
    crashed = run("import ctypes; ctypes.string_at(0)")
    assert crashed.ending is Ending.CRASHED and f"signal {signal.SIGSEGV.value}" in crashed.reason
    assert run("import os; os._exit(7)").reason == "ended with exit status 7 before it returned"


@isolated
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "no function f"),
        ("f = 3", "no function f"),
        ("def f(:", "SyntaxError"),
        ("def f(n): return n + 1\x00", "null bytes"),
        ("def f(n): return '\ud800'.encode()", "Unicode"),
        ("def f(n): raise ValueError('sorry')", "ValueError: sorry"),
        ("def f(n): return f(n)", "RecursionError"),
        ("def f(n): return {1, 2}", "TypeError"),
        ("def f(n): return 9**9**9", "TIMED_OUT"),
        ("def f(n): return 10**10**4", "ValueError"),
        ("x = " + "(" * 10**4 + ")" * 10**4, ""),
    ],
)
def test_an_answer_that_breaks_is_failed_with_what_it_raised(code: str, reason: str) -> None:
    found = run(code)
    assert found.ending is not Ending.PASSED and found.num_passed == 0
    assert reason in found.reason or found.ending.name == reason


@isolated
@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "raise SystemExit",
        "print('all 3 tests passed'); print('passed')",
        "def f(n): print('{\"value\": %d}' % (n + 1))",
        "class Any:\n    def __eq__(self, other): return True\ndef f(n): return Any()",
        "class Any(int):\n    def __eq__(self, other): return True\ndef f(n): return Any(77)",
        "class Any(list):\n    def __eq__(self, other): return True\ndef f(n): return Any()",
        "import json; json.dumps = lambda *a, **k: '{\"passed\": true}'\ndef f(n): return 0",
        "import json; json.loads = lambda text: [0]\ndef f(n): return n + 1",
        "import atexit; atexit.register(print, 'passed'); raise SystemExit",
        "import builtins; builtins.compile = builtins.exec = print\ndef f(n): return 0",
        "import sys; sys.modules['__main__'].write_all = lambda *a: None\ndef f(n): return 0",
        "import __main__; __main__.run = print\ndef f(n): return 0",
        "import unittest; unittest.TestCase.assertEqual = print\ndef f(n): return 0",
        "import os\nfor d in range(3, 9):\n  try: os.write(d, b'{}\\n' * 3)\n  except OSError: pass",
        "import os\nfor d in range(32):\n  try: os.close(d)\n  except OSError: pass\ndef f(n): return n + 1",
        "def f(n): return True",
        "def f(n): return float(n + 1)",
        "def f(n): return str(n + 1)",
        "def f(n): return [n + 1]",
        "def f(n): return float('nan')",
        "def f(n): return 2",
    ],
)
def test_a_verdict_cannot_be_forged(code: str) -> None:
    assert run(code).ending in (Ending.FAILED, Ending.CRASHED)


@isolated
def test_results_written_beside_the_calls_spoil_right_ones() -> None:
    code = "import os\nfor d in range(3, 32):\n  try: os.write(d, b'{}\\n')\n  except OSError: pass\n"
    assert run(code + "def f(n): return n + 1").ending is Ending.FAILED


def test_what_is_expected_never_enters_the_process_of_the_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    telling = tmp_path / "worker.py"
    telling.write_text(
        "import json, sys\nprint(json.dumps({'report': json.dumps({'refused': sys.stdin.read()})}))"
    )
    monkeypatch.setattr(sandbox, "WORKER", telling)
    with pytest.raises(SandboxUnavailable) as told:
        run_tests("def f(n): pass", "f", [CodeTest(arguments=["an input"], expected="a secret")])
    assert "an input" in str(told.value) and "secret" not in str(told.value)


LIBRARY = os.path.dirname(os.__file__)
READING = [
    *(f"open({path!r}).read(10)" for path in ("/etc/shadow", "/etc/passwd", "/proc/self/environ", __file__)),
    *(f"os.stat({path!r})" for path in ("/proc", "/dev/null", "/sys", "/tmp", "/etc", "/usr/bin", __file__)),
    f"os.listdir({LIBRARY + '/site-packages'!r})[0]",
    "__import__('openbook')",
]
WRITING = [
    "open('/written', 'w')",
    "open(os.__file__, 'a')",
    "os.mkdir('/tmp')",
    f"os.mkdir({LIBRARY + '/site-packages/x'!r})",
    "os.symlink('/etc/shadow', '/link')",
    f"os.symlink('/proc/1/root', {LIBRARY + '/link'!r})",
    "os.link(os.__file__, '/link')",
    "os.unlink(os.__file__)",
    "os.chmod(os.__file__, 0o777)",
    "os.utime(os.__file__)",
    "os.mknod('/node')",
    "__import__('tempfile').TemporaryFile()",
]
RISING = [
    "os.setuid(0)",
    "os.setgroups([0])",
    "os.chroot('/')",
    "os.kill(-1, 9)",
    "limits.setrlimit(limits.RLIMIT_NPROC, (9, 9))",
    "limits.setrlimit(limits.RLIMIT_AS, (1 << 40, 1 << 40))",
    *(f"1 / (1 + libc.unshare({namespace}))" for namespace in (0x10000000, 0x20000, 0x40000000)),
    "1 / (1 + libc.mount(b'none', b'/', b'tmpfs', 0, 0))",
    "1 / (1 + libc.ptrace(16, 1, 0, 0))",
]
STARTING = [
    "os.fork()",
    "os.execv('/bin/sh', ['sh', '-c', 'true'])",
    "os.posix_spawn('/bin/true', ['true'], {})",
    "subprocess.run(['true'])",
    "threading.Thread(target=print).start()",
]
CONNECTING = [
    "socket.create_connection(('1.1.1.1', 53), 1)",
    "socket.create_connection(('127.0.0.1', 22), 1)",
    "socket.socket(socket.AF_UNIX).connect('/run/docker.sock')",
    "socket.socket(socket.AF_UNIX).connect(chr(0) + 'abstract')",
    "socket.getaddrinfo('example.org', 80)",
]


@isolated
@filters
@pytest.mark.parametrize("attacks", [READING, WRITING, RISING, STARTING, CONNECTING])
def test_no_attack_gets_anywhere(attacks: list[str], syscall_filter: bytes | None) -> None:
    code = (
        "import ctypes, os, resource as limits, socket, subprocess, threading\n"
        "libc = ctypes.CDLL(None)\n"
        "def f(attack):\n"
        "  try: return f'got {eval(attack)!r}'\n"
        "  except (OSError, ImportError, IndexError, RuntimeError, ValueError, ZeroDivisionError): return 0"
    )
    tests = [CodeTest(arguments=[attack], expected=0) for attack in attacks]
    found = run_tests(code, "f", tests, LIMITS, syscall_filter)
    assert found.ending is Ending.PASSED, found


@isolated
@filters
def test_the_root_holds_the_way_to_the_library_and_nothing_else(syscall_filter: bytes | None) -> None:
    steps = Path(LIBRARY).parts
    tests = [
        CodeTest(arguments=[os.path.join(*steps[:depth])], expected=[steps[depth]])
        for depth in range(1, len(steps))
    ]
    code = "import os\nf = os.listdir"
    assert run_tests(code, "f", tests, LIMITS, syscall_filter).ending is Ending.PASSED


@isolated
@filters
def test_a_fork_bomb_starts_nothing(syscall_filter: bytes | None) -> None:
    bomb = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    assert run(bomb, syscall_filter=syscall_filter).ending is Ending.TIMED_OUT


@isolated
@filters
def test_signals_reach_neither_the_parent_nor_the_group_it_was_started_in(
    syscall_filter: bytes | None,
) -> None:
    attack = (
        "import os\n"
        "for process in (os.getppid(), 0, -1, 1, 2, os.getpid()):\n"
        "  try: os.kill(process, 9)\n"
        "  except OSError: pass\n"
        "def f(n): return n + 1"
    )
    assert run(attack, syscall_filter=syscall_filter).ending is Ending.PASSED  # and this test still runs


@isolated
def test_the_environment_is_empty_and_input_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_PARENT", "1")
    assert "is '{}'" in told_by("dict(os.environ)")
    assert "is \"''\"" in told_by("sys.stdin.read()")
    assert "is '65534'" in told_by("os.getuid()")


@isolated
def test_a_network_of_this_machine_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        for syscall_filter in (None, b""):
            assert "raised" in told_by(f"socket.create_connection(('127.0.0.1', {port}), 1)", syscall_filter)
        with pytest.raises(TimeoutError):
            server.accept()


@isolated
def test_several_run_at_once() -> None:
    codes = [f"def f(n): return n + {step}" for step in (1, 2) * 6]
    with ThreadPoolExecutor(4) as pool:
        endings = [found.ending for found in pool.map(run, codes)]
    assert endings == [Ending.PASSED, Ending.FAILED] * 6


@isolated
def test_a_run_ends_when_its_parent_is_killed() -> None:
    code = (
        "from openbook.tasks.sandbox import *; print('ready', flush=True);"
        "run_tests('import time; time.sleep(600)', 'f', [], SandboxLimits(wall_seconds=600))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "ready\n"
    children = wait_for(lambda: descendants(parent.pid), 2)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: [0] * (not any(map(runs, children))), 1)


def runs(process: int) -> bool:
    """Whether a process is there and no zombie that nobody has fetched yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def descendants(process: int) -> list[int]:
    found: list[int] = []
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        found += [int(child), *descendants(int(child))]
    return found


def wait_for(look: Callable[[], list[int]], count: int) -> list[int]:
    for _ in range(500):
        found = look()
        if len(found) >= count:
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


@isolated
def test_the_probe_says_by_name_what_holds() -> None:
    assert {"user", "mount", "pid", "net", "ipc", "limits", "seccomp"} == set(ISOLATION.held)
    known = platform.machine() in ("x86_64", "aarch64")
    assert all(ISOLATION.held[name] for name in ISOLATION.held if name != "seccomp" or known)


@isolated
def test_a_probe_that_breaks_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_ATTACKS", "def attacks(): return ['opens a file']")
    found = probe()
    assert not found.may_run and "opens a file" in found.refused


def test_without_isolation_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusing = tmp_path / "worker.py"
    refusing.write_text("""print('{"report": "{\\\\"refused\\\\": \\\\"no user namespace\\\\"}"}')""")
    monkeypatch.setattr(sandbox, "WORKER", refusing)
    with pytest.raises(SandboxUnavailable, match="no user namespace"):
        run("def f(n): return n + 1")
    assert probe().refused == "code cannot run isolated here: no user namespace"


def test_a_worker_that_dies_is_no_judgement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dying = tmp_path / "worker.py"
    dying.write_text("raise SystemExit('out of ideas')")
    monkeypatch.setattr(sandbox, "WORKER", dying)
    with pytest.raises(SandboxBroke, match="out of ideas"):
        run("def f(n): return n + 1")


def test_other_systems_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxUnavailable, match="Linux only"):
        run("def f(n): return n + 1")


def test_values_are_the_same_only_with_their_types() -> None:
    assert same([1, "a", [None, {"k": True}]], [1, "a", [None, {"k": True}]])
    pairs: list[tuple[object, object]] = [
        (1, True),
        (0, False),
        (1, 1.0),
        ([1], [1, 1]),
        ("1", 1),
        ({"a": 1}, {"b": 1}),
    ]
    assert not any(same(expected, given) or same(given, expected) for expected, given in pairs)
