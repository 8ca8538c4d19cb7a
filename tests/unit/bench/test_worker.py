"""A peer in a process of its own: it answers, and its end is an error of the user and not of ours."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from openbook.bench.peers.worker import Worker
from openbook.errors import UserError
from openbook.runs.machine import now

ECHO = """
import os, sys, time
from openbook.bench.peers.worker import serve

def answer(question):
    print("noise of a library")
    if question["do"] == "die":
        os.kill(os.getpid(), 11)
    if question["do"] == "raise":
        raise ValueError("no such thing")
    if question["do"] == "work":
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
    return {"did": question["do"], "pid": os.getpid()}

if sys.argv[1:] == ["refuse"]:
    raise ValueError("not with this file")
serve(answer)
"""


@pytest.fixture(autouse=True)
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "echo_peer.py").write_text(ECHO)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_it_answers_question_after_question_from_another_process() -> None:
    with Worker.start("echo", "echo_peer") as worker:
        answers = [worker.ask(do=str(number)) for number in range(3)]
    assert [answer["did"] for answer in answers] == ["0", "1", "2"]
    assert len({answer["pid"] for answer in answers} | {os.getpid()}) == 2
    with pytest.raises(ProcessLookupError):
        os.kill(answers[0]["pid"], 0)


def test_one_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(UserError, match="echo ended: ValueError: not with this file"),
        Worker.start("echo", "echo_peer", "refuse"),
    ):
        pass


@pytest.mark.parametrize(
    ("deed", "error"), [("die", "echo died of signal 11"), ("raise", "echo ended: ValueError: no such thing")]
)
def test_one_that_dies_at_work_takes_only_itself_along(deed: str, error: str) -> None:
    with Worker.start("echo", "echo_peer") as worker:
        assert worker.ask(do="live")["did"] == "live"
        with pytest.raises(UserError, match=error):
            worker.ask(do=deed)
        with pytest.raises(UserError, match=error):
            worker.ask(do="more")


def test_what_it_works_counts_as_ours_and_not_as_a_disturbance() -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("the system does not tell what children work")
    with Worker.start("echo", "echo_peer") as worker:
        before, own = now(), time.process_time()
        worker.ask(do="work")
        after = now()
    assert after.own_seconds - before.own_seconds - (time.process_time() - own) >= 0.2
