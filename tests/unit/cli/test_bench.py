"""`openbook bench engine`: its cases, what it prints where, and how it ends when one could not run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from openbook.bench import engine
from openbook.bench.case import Case, Contest, Peer
from openbook.bench.contest import Line, Timing
from openbook.bench.measurement import Unit
from openbook.errors import UserError

Command = Callable[..., Any]
KEYS = ["name", "unit", "ours", "peer_name", "peer", "limit", "ratio", "fraction_of_limit"]


def run(number: int) -> Timing:
    return Timing(num_prompt_tokens=1, num_new_tokens=3, num_first_tokens=1, first_seconds=1.0, seconds=2.0)


def prepare(*_: object) -> Contest:
    line = Line(suffix="", unit=Unit.TOKENS_PER_SECOND, read=lambda timing: timing.decode_rate)
    gone = Peer(name="nobody", modules=("no_such_module",), open=lambda stack: run)
    return Contest(ours=run, peers=(gone,), lines=(line,))


def refuse(*_: object) -> Contest:
    raise UserError("smollm2 is not installed", "install it")


@pytest.fixture
def two_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Case(name="sound", about="two tokens", num_threads=1, prepare=prepare)
    broken = Case(name="broken", about="none", num_threads=1, prepare=refuse)
    monkeypatch.setattr(engine, "CASES", (sound, broken))


def test_the_cases_of_the_engine_are_listed(openbook: Command) -> None:
    listed = json.loads(openbook("bench", "engine", "--list", "--json").out)
    assert [one["name"] for one in listed] == [
        "smollm2-decode-bf16",
        "smollm2-decode-int8",
        "smollm2-decode-int4",
        "smollm2-prefill-512",
        "smollm2-batch-64",
        "mla-decode-64",
        "mla-decode-1024",
        "mla-decode-4096",
        "nano-rollouts",
        "speculation",
    ]
    assert {one["threads"] for one in listed} == {1, 2}
    text = openbook("bench", "engine", "--list", "--case", "mla-decode").out
    assert [line.split()[0] for line in text.splitlines()[2:]] == [
        "mla-decode-64",
        "mla-decode-1024",
        "mla-decode-4096",
    ]


@pytest.mark.usefixtures("two_cases")
def test_results_go_to_stdout_and_everything_else_to_stderr(openbook: Command) -> None:
    answer = openbook("bench", "engine", "--case", "sound", "--repeats", "2", "--json")
    assert answer.code == 0
    (line,) = json.loads(answer.out)
    assert list(line) == KEYS
    assert (line["ours"], line["peer_name"], line["peer"], line["ratio"]) == (2.0, "nobody", None, None)
    told = answer.err.splitlines()
    assert told[0].startswith("machine: ") and "torch" in told[0] and "load" in told[0]
    assert "sound: nobody is missing: no no_such_module; pip install 'openbook[bench]'" in told
    assert any(line.startswith("sound: 2 of 2: openbook 2.00 tok/s") for line in told)
    table = openbook("bench", "engine", "--case", "sound", "--repeats", "1").out
    assert "missing" in table and "nobody is missing" in table


@pytest.mark.usefixtures("two_cases")
def test_a_case_that_cannot_run_is_told_and_ends_the_command_with_an_error(openbook: Command) -> None:
    answer = openbook("bench", "engine", "--repeats", "1", "--json")
    assert answer.code == 2
    assert [line["name"] for line in json.loads(answer.out)] == ["sound"]
    assert answer.err.splitlines()[-1] == (
        "openbook: broken could not be measured: smollm2 is not installed; install it"
    )


def test_an_unknown_case_is_refused_with_the_nearest(openbook: Command) -> None:
    answer = openbook("bench", "engine", "--case", "smolm2-decode-int8")
    assert answer.code == 2 and "did you mean 'smollm2-decode-int8'?" in answer.err
