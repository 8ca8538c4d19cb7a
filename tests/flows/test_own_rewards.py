"""A person's own problems: a reward function that does its worst, and the guide's commands."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbook.runs.run import Run

Command = Callable[..., Any]

pytestmark = pytest.mark.timeout(600)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "10-your-own-data.md"

HOSTILE = """
import json, os, signal, sys, time, zlib

def misbehave(kind):
    if kind == "sleep":
        time.sleep(1000)
    if kind == "allocate":
        return bytearray(10 * 2**30)
    if kind == "fork":
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
        raise ValueError("after leaving children behind")
    if kind == "bomb":
        for _ in range(1000):
            try:
                os.fork()
            except OSError:
                time.sleep(0.05)
        time.sleep(1000)
    if kind == "raise":
        raise KeyError("no such key")
    if kind == "nan":
        return float("nan")
    if kind == "print":
        while True:
            print("x" * 100_000)
    if kind == "exit":
        os._exit(0)
    if kind == "kill":
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "patch":
        json.dumps = lambda *args, **options: "[]"
        zlib.crc32 = time.sleep = None

def judge(completion):
    return len(completion) % 7 / 7

def is_struck(completion, kind):
    return kind != "none at all" and zlib.crc32(completion.encode("utf-8", "replace")) % 3 > 0

def hostile(completion, fields):
    if is_struck(completion, fields["kind"]):
        return misbehave(fields["kind"])
    return judge(completion)

def meek(completion, fields):
    return None if is_struck(completion, fields["kind"]) else judge(completion)
"""
KINDS = ("sleep", "allocate", "fork", "bomb", "raise", "none", "nan", "print", "exit", "kill", "patch")
LIMITS = ("wall.seconds=1", "wall.memory_mb=512", "wall.num_workers=4")
SIZES = (
    *("rl.num_steps=2", "rl.num_problems=12", "rl.num_generations=4", "rl.max_tokens=16", "rl.save_every=2"),
    *("exam.sampling.num_problems=2", "exam.sampling.num_samples=1", "exam.sampling.max_tokens=8"),
    *("machine.num_threads=1", "machine.device=cpu"),
    *(f"{family}.{limit}" for family in ("family", "exam.family") for limit in LIMITS),
)
FAULTS = ("unscored_unscorable", "unscored_timed_out", "unscored_crashed")


def changes(*texts: str) -> list[str]:
    return [word for text in texts for word in ("--set", text)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, inside: Command) -> Path:
    folder: Path = tmp_path_factory.mktemp("base") / "pretrain"
    assert inside("pretrain", "tiny", "--out", folder).code == 0
    return folder


def write_lines(path: Path, *values: Any) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def still_running(folder: Path) -> list[str]:
    """The processes that carry the mark of a test in their environment, this one excepted."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={folder}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def test_a_hostile_reward_neither_stops_nor_bends_a_run(
    base: Path, openbook: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends in the very weights of a run in which the same completions simply were not scored."""
    reward = tmp_path / "hostile.py"
    reward.write_text(HOSTILE, encoding="utf-8")
    rows = [{"question": f"b {n}?", "kind": (*KINDS, "none at all")[n % 12]} for n in range(12)]
    data = write_lines(tmp_path / "problems.jsonl", *rows)
    held = write_lines(tmp_path / "held.jsonl", *({"question": f"c {n}?", "kind": "none"} for n in range(2)))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    runs = {}
    for name in ("hostile", "meek"):
        given = ("--from", base, "--data", data, "--reward", f"{reward}:{name}", "--out", tmp_path / name)
        apart = changes(f"family.held_out_path={held}", f"exam.family.held_out_path={held}")
        answer = openbook("rl", "own", *given, *changes(*SIZES), *apart)
        assert answer.code == 0, answer.err
        runs[name] = Run.open(tmp_path / name)
    if Path("/proc").is_dir():
        assert still_running(tmp_path) == []
    weights = [(run.folder / "checkpoint" / "model.safetensors").read_bytes() for run in runs.values()]
    assert weights[0] == weights[1]
    rows_of = {name: run.metrics() for name, run in runs.items()}
    kept = ("reward", "reward_custom", "loss", "grad_norm", "unscored_share", "zero_variance_groups")
    for hostile, meek in zip(rows_of["hostile"], rows_of["meek"], strict=True):
        assert {key: hostile[key] for key in kept} == {key: meek[key] for key in kept}
        assert all(hostile[fault] > 0 for fault in FAULTS), "every kind of fault is counted apart"
        assert sum(hostile[fault] for fault in FAULTS) == pytest.approx(hostile["unscored_share"])
        assert [meek[fault] > 0 for fault in FAULTS] == [True, False, False]
    assert any(row["grad_norm"] > 0 for row in rows_of["hostile"]), "and something was learned"


@pytest.mark.parametrize(
    ("line", "options", "message"),
    [
        ('{"question": "a?"}', (), "problems.jsonl line 2: no 'answer'"),
        ("nonsense", (), "problems.jsonl line 2: not JSON"),
        ("", ("--reward", "no_such_module:reward"), "no_such_module:reward cannot be loaded"),
        ("", ("--reward", "reward"), "module:function"),
        ("", ("--set", "family.verifier=none"), "either verifier or reward judges"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_model_is_loaded_or_anything_written(
    inside: Command, tmp_path: Path, line: str, options: tuple[str, ...], message: str
) -> None:
    data = tmp_path / "problems.jsonl"
    data.write_text(f'{{"question": "1?", "answer": "1"}}\n{line}\n', encoding="utf-8")
    given = ("--from", tmp_path, "--data", data, *options, "--out", tmp_path / "out")
    answer = inside("rl", "own", *given)
    assert (answer.code, message in answer.err) == (2, True), answer.err
    assert not (tmp_path / "out").exists()


def commands_of(title: str) -> list[list[str]]:
    """The words of every `openbook` command in the shell blocks of one section of the guide's page."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("openbook ")]


def code_of(title: str) -> str:
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[0])


def test_the_commands_for_problems_run_as_the_page_gives_them(
    base: Path, inside: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(
        tmp_path / "problems.jsonl",
        *({"question": f"What is {n} + 1?", "answer": n + 1} for n in range(200)),
    )
    (tmp_path / "my_rewards.py").write_text(code_of("Reinforce on your problems"), encoding="utf-8")
    (tmp_path / "out").mkdir()
    os.symlink(base, tmp_path / "out" / "pretrain-own-0")
    quick = changes("rl.num_steps=1", "rl.num_problems=2", "rl.num_generations=2", "rl.max_tokens=12")
    quick += changes("exam.sampling.num_problems=2", "exam.sampling.max_tokens=8", "machine.num_threads=1")
    commands = commands_of("Reinforce on your problems")
    assert [words[0] for words in commands] == ["tasks", "tasks", "rl", "rl", "rl", "eval"]
    for words in commands:
        more = {"rl": quick, "eval": changes("max_tokens=8", "num_samples=1")}.get(words[0], [])
        answer = inside(*words, *more)
        assert answer.code == (1 if "verify" in words else 0), (words, answer.err)
    own = Run.open(tmp_path / "out" / "mine")
    assert "reward_custom" in own.metrics()[0]
    assert [parent.role for parent in own.manifest.parents] == ["base", "data", "reward"]
    assert [card["suite"] for card in json.loads((own.folder / "scorecards.json").read_text())] == [
        "held_out"
    ]


def test_a_run_is_not_gone_on_with_on_other_problems_or_by_another_function(
    base: Path, inside: Command, tmp_path: Path
) -> None:
    rows = [{"question": f"{n}?", "answer": n} for n in range(60)]
    data = write_lines(tmp_path / "problems.jsonl", *rows)
    (tmp_path / "mine.py").write_text("def f(given): return len(given) % 2", encoding="utf-8")
    judged = ("--data", data, "--reward", f"{tmp_path / 'mine.py'}:f")
    assert inside("rl", "own", "--from", base, *judged, "--out", tmp_path / "out", *changes(*SIZES)).code == 0
    journal = tmp_path / "out" / "journal.jsonl"
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])  # as if it was killed
    write_lines(data, *rows, {"question": "61?", "answer": 61})
    answer = inside("rl", "--resume", tmp_path / "out")
    assert (answer.code, "was begun from another data" in answer.err) == (2, True), answer.err
    write_lines(data, *rows)
    (tmp_path / "mine.py").write_text("def f(given): return len(given) % 3", encoding="utf-8")
    answer = inside("rl", "--resume", tmp_path / "out")
    assert (answer.code, "was begun from another reward" in answer.err) == (2, True), answer.err
