from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from openbook.runs.journal import (
    SILENCE_SECONDS,
    Rewind,
    RunStatus,
    lost_lines,
    read_journal,
)
from openbook.runs.process import ProcessName

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
FAR = asdict(ProcessName(host="far", machine="another", pid=5, started="1"))
START = {"time": NOON.isoformat(), "event": "start", "attempt": 1, "device": "cpu", "process": FAR}


def status_after_silence(seconds: float) -> RunStatus:
    now = NOON + timedelta(seconds=seconds)
    return read_journal([START], last_write_at=NOON, now=now).attempts[-1].status


def test_a_process_out_of_sight_is_running_while_it_writes_and_killed_after_long_silence() -> None:
    assert status_after_silence(SILENCE_SECONDS - 1) is RunStatus.RUNNING
    assert status_after_silence(SILENCE_SECONDS + 1) is RunStatus.KILLED


def test_a_start_after_a_start_means_that_the_first_was_killed() -> None:
    later = START | {"attempt": 2, "time": (NOON + timedelta(hours=1)).isoformat()}
    end = {"time": (NOON + timedelta(hours=2)).isoformat(), "event": "done", "attempt": 2, "reason": ""}
    first, second = read_journal([START, later, end], last_write_at=NOON, now=NOON).attempts
    assert (first.status, second.status) == (RunStatus.KILLED, RunStatus.DONE)
    assert first.last_sign_at == NOON + timedelta(hours=1)


def test_lines_lost_twice_are_lost_once() -> None:
    rewinds = [Rewind(step=5, first_line=5, end_line=8), Rewind(step=4, first_line=4, end_line=10)]
    assert lost_lines(rewinds) == {4, 5, 6, 7, 8, 9}


def test_only_work_that_ended_without_a_result_is_lost() -> None:
    assert {status for status in RunStatus if status.is_lost} == {
        RunStatus.FAILED,
        RunStatus.INTERRUPTED,
        RunStatus.KILLED,
    }
