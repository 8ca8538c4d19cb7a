from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from openbook.runs.heartbeat import HEARTBEAT_FILE, Heartbeat, read_beat
from openbook.runs.journal import RunStatus
from openbook.runs.run import Run
from openbook.runs.usage import Usage

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def wait_for_beat(folder: Path, after_microseconds: int = 0) -> int:
    """What the first beat beyond so much says was held."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        beat = read_beat(folder)
        if beat is not None and beat.held_microseconds > after_microseconds:
            return beat.held_microseconds
        time.sleep(0.005)
    raise AssertionError("no beat came")


def started_run(folder: Path) -> Run:
    run = Run.create(folder, verb="rl", stage="zero", recipe={}, seed=1)
    run.start()
    return run


def put_beat(run: Run, *, attempt: int, num_lines: int, held_seconds: int) -> None:
    value = {
        "attempt": attempt,
        "usage_lines": num_lines,
        "time": NOON.isoformat(),
        "held_microseconds": held_seconds * 1_000_000,
    }
    (run.folder / HEARTBEAT_FILE).write_text(json.dumps(value))


def kill(run: Run) -> Run:
    """The run as it is found after its process was killed."""
    path = run.folder / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["event"] == "start":
            line["process"]["started"] = "long ago"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Run.open(run.folder)


def test_a_beat_tells_the_time_since_device_time_was_last_recorded(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path, attempt=1, num_lines=4, seconds=0.01)
    held = wait_for_beat(tmp_path, after_microseconds=100_000)
    heartbeat.recorded(5, 1_000)
    time.sleep(0.05)
    heartbeat.stop()
    beat = read_beat(tmp_path)
    assert beat is not None
    assert (beat.attempt, beat.num_lines) == (1, 5)
    assert beat.held_microseconds < held
    text = (tmp_path / HEARTBEAT_FILE).read_text()
    time.sleep(0.05)
    assert (tmp_path / HEARTBEAT_FILE).read_text() == text, "a stopped heart does not beat"


def test_usage_without_device_time_leaves_the_device_held(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path, attempt=1, num_lines=0, seconds=0.01)
    held = wait_for_beat(tmp_path, after_microseconds=50_000)
    heartbeat.recorded(1, 0)
    time.sleep(0.05)
    heartbeat.stop()
    beat = read_beat(tmp_path)
    assert beat is not None
    assert beat.num_lines == 1
    assert beat.held_microseconds > held


def test_a_killed_run_has_used_what_its_last_beat_says_and_once_when_it_is_resumed(tmp_path: Path) -> None:
    run = started_run(tmp_path)
    run.record(Usage(device_microseconds=10))
    put_beat(run, attempt=1, num_lines=1, held_seconds=7)
    assert run.usage().device_microseconds == 10, "a live process records it itself"
    run = kill(run)
    assert run.usage().device_microseconds == 7_000_010
    line = run.usage_lines()[-1]
    assert (line.attempt, line.time, line.estimated) == (1, NOON, True)
    run.start()
    assert run.usage().device_microseconds == 7_000_010
    run.record(Usage(device_microseconds=5))
    run = kill(run)
    assert run.usage().device_microseconds == 7_000_015, "the old beat is stale"
    assert [one.estimated for one in run.usage_lines()] == [False, True, False]


def test_a_kill_between_the_line_of_the_beat_and_the_start_counts_it_once(tmp_path: Path) -> None:
    run = started_run(tmp_path)
    put_beat(run, attempt=1, num_lines=0, held_seconds=7)
    run = kill(run)
    line = run.usage_lines()[0]
    run._append_usage(line.attempt, line.time, line.usage, estimated=True)
    assert Run.open(tmp_path).usage_lines() == [line]
    Run.open(tmp_path).start()
    assert Run.open(tmp_path).usage_lines() == [line]


@pytest.mark.parametrize(("attempt", "num_lines"), [(1, 0), (2, 1)])
def test_a_beat_that_does_not_belong_to_the_lines_counts_for_nothing(
    tmp_path: Path, attempt: int, num_lines: int
) -> None:
    run = started_run(tmp_path)
    run.record(Usage(device_microseconds=10))
    put_beat(run, attempt=attempt, num_lines=num_lines, held_seconds=7)
    assert kill(run).usage().device_microseconds == 10


@pytest.mark.parametrize("text", ["", "{", "[]", '{"attempt": 1}', "\x00\x00"])
def test_a_damaged_beat_counts_for_nothing(tmp_path: Path, text: str) -> None:
    run = started_run(tmp_path)
    (run.folder / HEARTBEAT_FILE).write_text(text)
    assert kill(run).usage_lines() == []


def test_the_step_in_which_a_run_failed_is_used_too(tmp_path: Path) -> None:
    run = started_run(tmp_path)
    put_beat(run, attempt=1, num_lines=0, held_seconds=7)
    run.fail("out of memory")
    assert run.usage().device_microseconds == 7_000_000
    assert not (run.folder / HEARTBEAT_FILE).exists()


@pytest.mark.parametrize("end", ["finish", "interrupt"])
def test_after_a_proper_end_nothing_is_held(tmp_path: Path, end: str) -> None:
    run = started_run(tmp_path)
    put_beat(run, attempt=1, num_lines=0, held_seconds=7)
    getattr(run, end)()
    assert run.status in (RunStatus.DONE, RunStatus.INTERRUPTED)
    assert run.usage_lines() == []
    assert not (run.folder / HEARTBEAT_FILE).exists()


def test_work_that_is_stopped_in_its_middle_is_used(tmp_path: Path) -> None:
    run = started_run(tmp_path)
    put_beat(run, attempt=1, num_lines=0, held_seconds=7)
    run.interrupt("stopped at once", cut_off=True)
    assert run.usage().device_microseconds == 7_000_000


def test_a_rewind_says_that_the_killed_piece_is_lost(tmp_path: Path) -> None:
    run = started_run(tmp_path)
    run.record(Usage(device_microseconds=10))
    run.log(1, {"loss": 1.0})
    put_beat(run, attempt=1, num_lines=1, held_seconds=7)
    run = kill(run)
    run.start()
    run.truncate_metrics(1)
    (rewind,) = run.journal.rewinds
    assert (rewind.first_line, rewind.end_line) == (1, 2)
