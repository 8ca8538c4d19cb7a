"""Real processes, killed the hard way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from openbook.runs.journal import RunStatus
from openbook.runs.process import Life, look_for, this_process
from openbook.runs.run import Run
from openbook.runs.usage import Usage

SRC = str(Path(__file__).resolve().parents[3] / "src")
WORK = """
import sys
from pathlib import Path
from openbook.runs.run import Run
from openbook.runs.usage import Usage
run = Run.open(Path(sys.argv[1]))
run.start()
saved = len(run.metrics()) // 10 * 10
run.truncate_metrics(saved)
print("at work", flush=True)
for step in range(saved + 1, 10**9):
    run.record(Usage(trained_tokens=1, device_microseconds=1000))
    run.log(step, {"loss": 1 / step})
"""


START_ALL = """
import sys
from pathlib import Path
from openbook.errors import UserError
from openbook.runs.run import Run
runs = [Run.open(Path(folder)) for folder in sys.argv[1:]]
print("ready", flush=True)
sys.stdin.readline()
for run in runs:
    try:
        run.start()
    except UserError:
        pass
print("done", flush=True)
sys.stdin.readline()  # until all have tried: a run whose process ended may be started again
"""


def start_work(folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": SRC}
    worker = subprocess.Popen(
        [sys.executable, "-c", WORK, str(folder)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "at work\n"
    return worker


def wait_for_line(path: Path, number: int) -> None:
    for _ in range(10_000):
        if path.exists() and path.read_bytes().count(b"\n") >= number:
            return
        time.sleep(0.001)
    raise AssertionError(f"{path} never got {number} lines")


def test_kill_9_leaves_a_run_that_reads_as_killed_and_goes_on(tmp_path: Path) -> None:
    run = Run.create(tmp_path, verb="rl", stage="zero", recipe={}, seed=1)
    for attempt in range(1, 4):
        recorded = len(run.usage_lines())
        with start_work(tmp_path) as worker:
            assert run.status is RunStatus.RUNNING
            wait_for_line(tmp_path / "usage.jsonl", recorded + 60 * attempt)
            worker.send_signal(signal.SIGKILL)
            os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
            assert run.status is RunStatus.KILLED, "a dead child that was not waited for is gone too"
        num_lines = len(run.usage_lines())
        assert num_lines >= recorded + 60 * attempt
        assert run.usage() == Usage(trained_tokens=num_lines, device_microseconds=1000 * num_lines)
        steps = [row["step"] for row in run.metrics()]
        assert steps == list(range(1, len(steps) + 1))
    assert [a.status for a in run.attempts] == [RunStatus.KILLED] * 3
    assert len({a.process.pid for a in run.attempts}) == 3
    run.start()
    run.finish()
    assert run.status is RunStatus.DONE


def test_a_run_that_several_processes_start_at_once_goes_to_one_of_them(tmp_path: Path) -> None:
    folders = [tmp_path / f"run{number:02}" for number in range(20)]
    Run.create(folders[0], verb="rl", stage="zero", recipe={}, seed=1)
    for folder in folders[1:]:
        shutil.copytree(folders[0], folder)
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", START_ALL, *map(str, folders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": SRC},
        )
        for _ in range(3)
    ]
    for line in ("ready\n", "done\n"):
        for starter in starters:
            assert starter.stdout is not None and starter.stdin is not None
            assert starter.stdout.readline() == line
        for starter in starters:
            assert starter.stdin is not None
            starter.stdin.write("go on\n")
            starter.stdin.flush()
    for starter in starters:
        starter.communicate()
    assert [len(Run.open(folder).attempts) for folder in folders] == [1] * len(folders)


def test_a_process_is_not_mistaken_for_a_later_one_with_its_number() -> None:
    from dataclasses import replace

    here = this_process()
    assert look_for(here) is Life.ALIVE
    assert look_for(replace(here, started="before")) is Life.GONE
    assert look_for(replace(here, pid=2**22 + 1)) is Life.GONE
    assert look_for(replace(here, machine="elsewhere")) is Life.OUT_OF_SIGHT
