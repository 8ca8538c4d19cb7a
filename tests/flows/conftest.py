"""The command line, as a process of its own and inside the test, and one tiny story for all to look at."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from openbook.cli.app import main
from openbook.r1.pipeline import STAGE_NAMES
from openbook.runs.run import Run

SRC = str(Path(__file__).resolve().parents[2] / "src")
SEED = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a command printed, how it ended, and the processor time it took."""

    code: int
    out: str
    err: str
    cpu_seconds: float

    @property
    def last_line(self) -> str:
        """The last line on stderr: where a command says why it ended."""
        return self.err.rstrip("\n").rpartition("\n")[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tale:
    """A folder in which the tiny story is told, as far as it has come."""

    folder: Path

    def words(self, *more: str) -> list[str]:
        """The words after `openbook` that tell it, or go on with it."""
        return ["run", "tiny", "--out", str(self.folder), "--seed", str(SEED), *more]

    def place(self, stage: str) -> Path:
        return self.folder / f"{STAGE_NAMES.index(stage) + 1:02d}-{stage}"

    def run(self, stage: str) -> Run:
        return Run.open(self.place(stage))

    def weights(self, stage: str) -> dict[str, bytes]:
        """The weight files of a stage's checkpoint, byte by byte."""
        files = sorted((self.place(stage) / "checkpoint").glob("*.safetensors"))
        return {file.name: file.read_bytes() for file in files}


def command_line(words: tuple[str | Path, ...]) -> list[str]:
    return [sys.executable, "-m", "openbook", *map(str, words)]


def surroundings() -> dict[str, str]:
    """The environment of a process: this checkout, one thread."""
    return os.environ | {"PYTHONPATH": SRC, "OMP_NUM_THREADS": "1"}


def call(*words: str | Path) -> Answer:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command_line(words), capture_output=True, text=True, env=surroundings(), check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Answer(code=done.returncode, out=done.stdout, err=done.stderr, cpu_seconds=cpu_seconds)


def call_inside(*words: str | Path) -> Answer:
    out, err = io.StringIO(), io.StringIO()
    before = os.times()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    after = os.times()
    code = end.value.code
    return Answer(
        code=code if isinstance(code, int) else 0,
        out=out.getvalue(),
        err=err.getvalue(),
        cpu_seconds=after.user + after.system - before.user - before.system,
    )


@pytest.fixture(scope="session")
def openbook() -> Callable[..., Answer]:
    """Call the command line in a process of its own: `openbook("run", "tiny")`."""
    return call


@pytest.fixture(scope="session")
def inside() -> Callable[..., Answer]:
    """Call the command line in this process, which has torch loaded already."""
    return call_inside


@pytest.fixture
def begin() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begin a command in a process group of its own; what still runs at the end is killed."""
    begun: list[subprocess.Popen[str]] = []

    def begin_one(*words: str | Path, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command_line(words),
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env=surroundings(),
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield begin_one
    for process in begun:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tale, Answer]:
    """The tiny story, told once by a real process, and what that printed. Write only into copies of it."""
    tale = Tale(folder=tmp_path_factory.mktemp("told") / "story")
    answer = call(*tale.words())
    assert answer.code == 0, answer.err
    return tale, answer


@pytest.fixture
def tale(told: tuple[Tale, Answer]) -> Tale:
    return told[0]


@pytest.fixture
def told_until(tale: Tale, tmp_path: Path) -> Callable[[str], Tale]:
    """A copy of the story in which this stage and all later ones have not been run."""

    def copy(stage: str) -> Tale:
        number = sum(1 for _ in tmp_path.glob("until-*"))
        copied = Tale(folder=tmp_path / f"until-{stage}-{number}")
        shutil.copytree(tale.folder, copied.folder)
        for later in STAGE_NAMES[STAGE_NAMES.index(stage) :]:
            shutil.rmtree(copied.place(later))
        return copied

    return copy
