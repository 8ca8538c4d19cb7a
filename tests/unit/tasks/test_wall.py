"""Functions that do their worst behind the wall: told apart, ended, and without a trace."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openbook.errors import UserError
from openbook.tasks.problem import Outcome
from openbook.tasks.wall import Reply, Wall, WallConfig, as_number
from openbook.tasks.wall import footing as footing_here

HOSTILE = """
import json, os, random, sys, time
import numpy
COUNT = 0

def reward(question, answer):
    global COUNT
    COUNT += 1
    if question == "sleep":
        time.sleep(1000)
    if question == "allocate":
        return len(bytearray(10 * 2**30))
    if question == "fork":
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
    if question == "bomb":
        for _ in range(1000):
            try:
                os.fork()
            except OSError:
                time.sleep(0.05)
        time.sleep(1000)
    if question == "raise":
        raise ValueError("cannot tell")
    if question == "exit":
        os._exit(0)
    if question == "leave":
        sys.exit(3)
    if question == "print":
        while True:
            print("x" * 100_000)
    if question == "large":
        return ["x" * 1000] * 1000
    if question == "segfault":
        import ctypes
        ctypes.string_at(1)
    if question == "kill the parent":
        os.kill(os.getppid(), 9)
    if question == "stop":
        os.kill(os.getpid(), 19)
    if question == "patch":
        json.dumps = lambda *args, **options: "{}"
        import builtins
        time.sleep = builtins.float = builtins.len = None
    if question == "write":
        open(answer, "w").write("text")
    if question == "recurse":
        return reward(question, answer)
    if question == "count":
        return COUNT
    if question == "random":
        return [random.random(), float(numpy.random.random())]
    if question == "environment":
        return sorted(os.environ)
    if question == "nested":
        value = 0.0
        for _ in range(500):
            value = [value]
        return value
    return {"none": None, "nan": math_nan(), "text": "1.0", "true": True}.get(question, 1.0)

def math_nan():
    return float("nan")
"""

VALUE, UNSCORABLE = None, Outcome.UNSCORABLE
TIMED_OUT, CRASHED = Outcome.TIMED_OUT, Outcome.CRASHED
FATES = {
    "behave": (VALUE, ""),
    "sleep": (TIMED_OUT, "no result within 1 seconds"),
    "allocate": (CRASHED, "out of memory"),
    "fork": (VALUE, ""),
    "bomb": (TIMED_OUT, "no result"),
    "raise": (UNSCORABLE, "raised ValueError: cannot tell"),
    "exit": (CRASHED, "ended with code 0 and no result"),
    "leave": (CRASHED, "no result"),
    "print": (CRASHED, "printed too much"),
    "large": (CRASHED, "too large"),
    "segfault": (CRASHED, "SIGSEGV"),
    "stop": (TIMED_OUT, "no result"),
    "patch": (CRASHED, "garbled"),
    "recurse": (UNSCORABLE, "RecursionError"),
    "none": (UNSCORABLE, "returned None"),
    "nan": (UNSCORABLE, "returned nan"),
    "text": (UNSCORABLE, "returned str"),
    "nested": (UNSCORABLE, "returned list"),
    "true": (VALUE, ""),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the hostile module lies; all workers of the test carry its name in their environment."""
    (tmp_path / "hostile.py").write_text(HOSTILE, encoding="utf-8")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def wall(folder: Path) -> Iterator[Wall]:
    wall = walled(folder)
    yield wall
    wall.close()


@pytest.fixture(params=["as it is", "without namespaces"])
def footing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What this system offers, and a system that offers no namespaces."""
    if request.param == "without namespaces":
        script = """
            from openbook.tasks import containment, wall_worker
            containment.enter_process_namespace = lambda: False
            wall_worker.main()
        """
        monkeypatch.setattr("openbook.tasks.wall._WORKER", ("-c", textwrap.dedent(script)))
    return str(request.param)


def walled(folder: Path, function: str = "hostile:reward", num_workers: int = 2) -> Wall:
    config = WallConfig(seconds=1.0, memory_mb=256, num_workers=num_workers)
    return Wall(function, config, offers=("question", "answer", "fields"), search_path=[folder])


def asked(wall: Wall, *questions: str, answer: str = "") -> list[Reply]:
    return wall.call([{"question": one, "answer": answer, "fields": {}} for one in questions])


def left_behind(folder: Path) -> list[str]:
    """The processes that were started for this test and still run."""
    mark = f"TMPDIR={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = mark in (process / "environ").read_bytes() and int(process.name) != os.getpid()
            if is_ours:
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def test_each_misdeed_has_its_own_outcome_and_no_process_outlives_it(folder: Path, footing: str) -> None:
    wall = walled(folder)
    if footing != "as it is":
        assert not wall.check().isolated
    replies = dict(zip(FATES, asked(wall, *FATES), strict=True))
    for question, (fault, reason) in FATES.items():
        found = as_number(replies[question])
        if fault is None:
            assert found == 1.0, (question, found)
        else:
            assert isinstance(found, Reply), (question, found)
            assert (found.fault, reason in found.reason) == (fault, True), (question, found)
    idle = left_behind(folder)
    assert len(idle) == 2 * wall.num_workers, f"a keeper and a server each, and nothing else: {idle}"
    wall.close()
    assert left_behind(folder) == []


def test_replies_come_in_the_order_of_the_calls_whatever_the_number_of_workers(folder: Path) -> None:
    questions = ["behave", "raise", "count", "random", "none"] * 8
    walls = [walled(folder, num_workers=number) for number in (1, 2, 5)]
    found = [asked(wall, *questions) for wall in walls]
    for wall in walls:
        wall.close()
    assert found[0] == found[1] == found[2]
    assert {reply.value for reply in found[0][2::5]} == {1}, "no call sees another"
    assert len({tuple(reply.value) for reply in found[0][3::5]}) == 1, "nor its random numbers"


def test_a_function_that_kills_its_worker_harms_no_other_call(footing: str, wall: Wall) -> None:
    replies = asked(wall, "behave", "kill the parent", "behave", "kill the parent", "behave")
    assert [replies[index].value for index in (0, 2, 4)] == [1.0, 1.0, 1.0]
    assert replies[1] == replies[3]


def test_nothing_is_written(wall: Wall, folder: Path) -> None:
    (reply,) = asked(wall, "write", answer=str(folder / "written"))
    written = folder / "written"
    assert not written.exists() or written.stat().st_size == 0
    assert wall.check().unprivileged == (reply.fault is Outcome.UNSCORABLE or os.geteuid() != 0)


def test_a_function_sees_none_of_our_secrets(wall: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_API_KEY", "secret")
    (reply,) = asked(wall, "environment")
    assert "PATH" in reply.value
    assert "SERVICE_API_KEY" not in reply.value


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("def other(): ...", "has no 'reward'"),
        ("reward = 3", "is no function"),
        ("def reward(prompts): ...", "it asks for 'prompts'"),
        ("def reward(question, /): ...", "it asks for 'question'"),
        ("raise SystemExit(1)", "SystemExit"),
        ("def reward(:", "SyntaxError"),
        ("import os; os._exit(1)", "died"),
    ],
)
def test_a_function_that_cannot_be_had_is_the_users_to_mend(folder: Path, source: str, message: str) -> None:
    (folder / "broken.py").write_text(source, encoding="utf-8")
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        walled(folder, "broken:reward").check()
    assert message in str(caught.value)
    assert left_behind(folder) == []


def test_a_function_may_lie_in_a_file_and_declare_what_it_wants(folder: Path) -> None:
    (folder / "mine.py").write_text("def f(question, **rest): return sorted(rest)\nimport hostile\n")
    wall = walled(folder, f"{folder / 'mine.py'}:f")
    assert asked(wall, "?")[0].value == ["answer", "fields"]
    wall.close()


def test_a_function_that_changes_while_it_is_used_is_refused(folder: Path) -> None:
    wall = walled(folder, num_workers=1)
    asked(wall, "behave")
    wall.close()
    (folder / "hostile.py").write_text(HOSTILE + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="has changed"):
        asked(wall, "behave", "behave")


def test_an_idle_worker_that_died_costs_no_call(folder: Path) -> None:
    wall = walled(folder, num_workers=1)
    wall.check()
    worker = wall._idle.get()
    wall._idle.put(worker)
    assert worker is not None
    os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    assert asked(wall, "behave")[0].value == 1.0
    wall.close()


def test_a_server_that_stands_still_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openbook.tasks.wall.GRACE_SECONDS", 0.2)
    wall = walled(folder, num_workers=1)
    wall.check()
    worker = wall._idle.get()
    wall._idle.put(worker)
    assert worker is not None
    children = Path(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children")
    if not children.exists():
        pytest.skip("this system does not name a process's children")
    os.kill(int(children.read_text()), signal.SIGSTOP)
    reply = asked(wall, "behave")[0]
    assert (reply.fault, "did not answer" in reply.reason) == (Outcome.TIMED_OUT, True)
    assert asked(wall, "behave")[0].value == 1.0
    wall.close()
    assert left_behind(folder) == []


def test_workers_end_with_whoever_started_them(folder: Path) -> None:
    """Killed in the midst of a call, so that nobody could clear up."""
    script = f"""
        import os, threading, time
        from pathlib import Path
        from openbook.tasks.wall import Wall, WallConfig
        wall = Wall("hostile:reward", WallConfig(seconds=60), offers=["question", "answer"],
                    search_path=[Path({str(folder)!r})])
        wall.check()
        sleep = [{{"question": "sleep", "answer": ""}}]
        threading.Thread(target=wall.call, args=[sleep], daemon=True).start()
        time.sleep(0.3)
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    deadline = time.monotonic() + 10
    while left_behind(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_behind(folder) == []


def test_without_a_namespace_a_sweep_finds_those_that_slipped_away(folder: Path) -> None:
    script = """
        import os, time
        from openbook.tasks import containment
        containment.adopt_orphans()
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(1000)
                time.sleep(0.02)
                os._exit(0)
        time.sleep(0.1)
        assert containment.sweep()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
    assert left_behind(folder) == []


def test_what_holds_on_this_machine_is_said_in_words() -> None:
    found = footing_here()
    assert ("as root" in str(found)) != found.unprivileged
    assert ("without a namespace" in str(found)) != found.isolated


def test_calls_may_come_from_several_threads(wall: Wall) -> None:
    found: list[list[Reply]] = []
    threads = [threading.Thread(target=lambda: found.append(asked(wall, *["behave"] * 10))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[reply.value for reply in replies] for replies in found] == [[1.0] * 10] * 3


@pytest.mark.parametrize("value", [math.inf, -math.inf, 10**400, "1", [1.0], {"a": 1}])
def test_what_is_no_finite_number_is_unscorable(value: object) -> None:
    found = as_number(Reply(value=value))
    assert isinstance(found, Reply)
    assert found.fault is Outcome.UNSCORABLE


@pytest.mark.parametrize(
    "limits", [{"seconds": 0}, {"seconds": math.nan}, {"memory_mb": 1}, {"num_workers": -1}]
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        WallConfig(**limits)  # type: ignore[arg-type]
