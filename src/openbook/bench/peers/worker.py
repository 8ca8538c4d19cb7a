"""A peer in a process of its own, which answers JSON lines.

Two libraries that set up the AMX tiles of a processor undo each other in one process, and a miscompiled
peer that dies takes only itself along. A process that waits for its turn costs nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from openbook.errors import UserError

_SECONDS_TO_END = 10


class Worker:
    """The parent's end: each question is answered by one call in the other process."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str], name: str) -> None:
        self._process, self._errors, self._name = process, errors, name

    @classmethod
    @contextmanager
    def start(cls, name: str, module: str, *arguments: str) -> Iterator[Worker]:
        """Run `python -m module arguments` for as long as the block lasts; `name` is for errors.

        Raises UserError, with the last line it wrote, if it ends before it is ready.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            with process:
                worker = cls(process, errors, name)
                try:
                    worker._answer()
                    yield worker
                finally:
                    worker._end()

    def ask(self, **question: Any) -> dict[str, Any]:
        """Send a question and wait for its answer. UserError if the process has died."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died, which reading its answer finds out
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = self._process.wait()
        if code < 0:
            raise UserError(
                f"{self._name} died of signal {-code}", "docs/guide/8-benchmarks.md says why it may"
            )
        self._errors.seek(0)
        last = self._errors.read().strip().splitlines()[-1:]
        raise UserError(f"{self._name} ended: {last[0] if last else f'code {code}'}")

    def _end(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(_SECONDS_TO_END)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()


class Questions:
    """The other end: what is asked, one after the other, and the way back."""

    def __init__(self, answers: IO[str]) -> None:
        self._answers = answers

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Questions]:
        """For as long as the block lasts, what a library prints goes to stderr."""
        with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
            os.dup2(2, 1)
            yield cls(answers)

    def ready(self) -> None:
        """Say that questions can come."""
        self.answer({"ready": True})

    def next(self) -> dict[str, Any] | None:
        """Wait for a question; None when there are no more."""
        line = sys.stdin.readline()
        question: dict[str, Any] | None = json.loads(line) if line else None
        return question

    def answer(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Say that it is ready, then answer every question until there are no more."""
    with Questions.open() as questions:
        questions.ready()
        while (question := questions.next()) is not None:
            questions.answer(answer(question))
