"""How a command ends: results on stdout, a mistake in one line on stderr, a traceback when asked for."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbook.errors import Diverged, Interrupted, UserError

Command = Callable[..., Any]


def break_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `openbook runs list` raise `error` from deep inside."""

    def find_runs(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("openbook.runs.store.find_runs", find_runs)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("rnu",), "openbook: No such command 'rnu'. Did you mean 'run'?; see openbook --help"),
        (("runs", "lst"), "openbook: No such command 'lst'. Did you mean 'list'?; see openbook runs --help"),
        (("run",), "openbook: no recipe was named; `openbook recipe list` shows those for `openbook run`"),
        (("plan",), "openbook: Missing argument 'RECIPE|CONFIG'; see openbook plan --help"),
        (("tasks", "show", "chian"), "openbook: there is no family 'chian'; did you mean 'chain'?"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    openbook: Command, words: tuple[str, ...], line: str
) -> None:
    answer = openbook(*words)
    assert (answer.code, answer.out, answer.err) == (2, "", line + "\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("what", "mend"), 2), (Interrupted("what", "mend"), 130), (Diverged("what", "mend"), 3)],
)
def test_the_exit_code_is_that_of_the_error(
    openbook: Command, monkeypatch: pytest.MonkeyPatch, error: UserError, code: int
) -> None:
    break_with(monkeypatch, error)
    answer = openbook("runs", "list")
    assert (answer.code, answer.err) == (code, "openbook: what; mend\n")


def test_an_error_of_several_lines_is_shown_as_one(
    openbook: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_with(monkeypatch, UserError("one\ntwo"))
    assert openbook("runs", "list").err == "openbook: one two\n"


def test_a_defect_is_one_line_that_says_where_the_traceback_is(
    openbook: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OPENBOOK_DEBUG", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    break_with(monkeypatch, ZeroDivisionError("by nothing"))
    answer = openbook("runs", "list")
    assert answer.code == 1 and len(answer.err.splitlines()) == 1
    found = re.search(r"ZeroDivisionError: by nothing .*traceback is in (.*)\)", answer.err)
    assert found
    assert "in find_runs" in Path(found[1]).read_text()


def test_debugging_keeps_the_traceback(openbook: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBOOK_DEBUG", "1")
    break_with(monkeypatch, ZeroDivisionError("by nothing"))
    with pytest.raises(ZeroDivisionError):
        openbook("runs", "list")


def test_a_full_disk_says_so(openbook: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    break_with(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    answer = openbook("runs", "list")
    assert answer.code == 1 and answer.err.startswith("openbook: the disk is full;")


def test_a_second_ctrl_c_ends_without_a_traceback(openbook: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    break_with(monkeypatch, KeyboardInterrupt())
    answer = openbook("runs", "list")
    assert answer.code == 130 and "Traceback" not in answer.err


def test_no_words_show_the_help_by_section(openbook: Command) -> None:
    answer = openbook()
    assert answer.code == 2
    assert re.findall(r"^(\w+):$", answer.err, re.MULTILINE) == ["Options", "Make", "Use", "Measure", "Look"]


def test_the_version_goes_to_stdout(openbook: Command) -> None:
    answer = openbook("--version")
    assert answer.code == 0 and re.fullmatch(r"openbook \d+\.\d+\.\d+\n", answer.out)
