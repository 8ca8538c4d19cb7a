"""The command line as a whole: each command explains itself, at once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from openbook.cli.app import app

HEAVY = ("torch", "pydantic", "sqlalchemy", "numpy", "rich", "matplotlib", "reasoning_gym")
MOST_SECONDS = 0.3
MOST_SECONDS_OF_A_PLAN = 0.5
V3 = str(Path(__file__).resolve().parents[1] / "fixtures" / "configs" / "deepseek-v3.json")

# Runs the command in a fresh process and tells what it loaded and how long its processor time was.
PROBE = """
import contextlib, io, json, sys, time
from openbook.cli.app import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    try:
        main(sys.argv[1:])
    except SystemExit as end:
        code = end.code or 0
loaded = [name for name in %r if name in sys.modules]
print(json.dumps({"loaded": loaded, "code": code, "seconds": time.process_time(), "text": out.getvalue()}))
"""


def walk(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            yield from walk(child, (*words, name))


COMMANDS = dict(walk(get_command(app)))


def ask(words: tuple[str, ...]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE % (HEAVY,), *words], capture_output=True, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(
    "words", [(), ("run",), ("runs",), ("plan",), ("eval",), ("checkpoint", "show")], ids=str
)
def test_help_comes_at_once_and_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    answers = [ask((*words, "--help")) for _ in range(2)]
    assert all(answer["code"] == 0 and not answer["loaded"] for answer in answers)
    assert f"Usage: {' '.join(('openbook', *words))}" in answers[0]["text"]
    assert min(answer["seconds"] for answer in answers) < MOST_SECONDS


@pytest.mark.parametrize(
    "words",
    [
        (V3, "--tokens", "14.8e12", "--accelerator", "h800", "--devices", "2048", "--precision", "fp8"),
        (V3, "--tokens", "14.8e12"),
        ("plan/r1",),
    ],
    ids=["run", "defaults", "recipe"],
)
def test_a_plan_comes_at_once_and_loads_no_torch(words: tuple[str, ...]) -> None:
    answers = [ask(("plan", *words, "--json")) for _ in range(3)]
    assert all(answer["code"] == 0 for answer in answers)
    assert not {"torch", "numpy", "sqlalchemy", "matplotlib", "rich"} & set(answers[0]["loaded"])
    assert min(answer["seconds"] for answer in answers) < MOST_SECONDS_OF_A_PLAN


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "openbook")
def test_every_command_and_option_says_what_it_is_for(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    assert command.help and command.help.strip(), "a command without help"
    assert len(command.help.strip().splitlines()[0]) <= 100
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help"


@pytest.mark.parametrize(
    "words",
    [words for words in COMMANDS if words and words[-1] in ("list", "show", "verify", "check")],
    ids=str,
)
def test_every_command_that_looks_can_answer_in_json(words: tuple[str, ...]) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[words].params)


@pytest.mark.parametrize("verb", ["eval", "plan", "bill", "doctor", "generate"])
def test_every_command_that_measures_can_answer_in_json(verb: str) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[(verb,)].params)


@pytest.mark.parametrize("verb", ["run", "pretrain", "sft", "rl", "distill"])
def test_every_verb_that_computes_takes_the_same_options(verb: str) -> None:
    options = {option for parameter in COMMANDS[(verb,)].params for option in parameter.opts}
    assert {"--out", "--seed", "--set", "--resume", "--dry-run"} <= options
