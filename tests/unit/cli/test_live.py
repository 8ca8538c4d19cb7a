"""Progress as people see it: plain lines in a log, a bar on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from openbook.cli.live import Bar, Lines, Pace, show_metrics, watched


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines_of(clock: Clock) -> tuple[Lines, io.StringIO]:
    stream = io.StringIO()
    return Lines(stream, lambda: "$0.0012", clock), stream


def test_plain_lines_come_every_ten_seconds_and_hold_what_matters() -> None:
    clock = Clock()
    lines, stream = lines_of(clock)
    lines.start("zero", 100)
    for step in range(1, 31):
        clock.now += 0.5
        lines.advance(step, {"grad_norm": 1.0, "loss": 2.3456})
    lines.finish("zero", "accuracy 0.71")
    assert stream.getvalue().splitlines() == [
        "zero: 100 steps",
        "zero 20/100  2.0/s  40 s left  $0.0012  loss 2.346  grad_norm 1",
        "zero              15 s  $0.0012  accuracy 0.71",
    ]


def test_a_resumed_stage_is_timed_from_where_it_goes_on() -> None:
    clock = Clock()
    pace = Pace(1000, clock)
    assert pace.show() == ""
    pace.reach(900)
    clock.now += 10
    pace.reach(910)
    assert pace.show() == "1.0/s  1 min 30 s left"


def test_slow_steps_are_shown_by_their_length() -> None:
    clock = Clock()
    pace = Pace(10, clock)
    pace.reach(1)
    clock.now += 5
    pace.reach(2)
    assert pace.show() == "5.0 s/step  40 s left"


def test_the_metrics_that_matter_come_first_and_are_few() -> None:
    metrics = {"grad_norm": 0.123456, "kl": 0.01, "reward": 0.5, "loss": 1.0, "tokens": 1e6}
    assert show_metrics(metrics) == "reward 0.5  loss 1"
    assert show_metrics({"tokens": 1_234_567.0, "loss": float("nan")}) == "loss nan  tokens 1.2M"


def test_without_a_terminal_there_are_no_control_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with watched(lambda: "") as progress:
        progress.start("zero", 2)
        progress.note("a note")
        progress.finish("zero", "fine")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "\033" not in printed.err and "\r" not in printed.err
    assert "a note\n" in printed.err


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar_and_finished_stages_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    clock = Clock()
    bar = Bar(lambda: "$0.0012", clock)
    bar.start("zero", 4)
    bar.advance(1, {"loss": 2.0})
    clock.now += 1
    bar.advance(2, {"loss": 1.0})
    bar.note("half way [1/2]")
    bar.finish("zero", "accuracy 0.71")
    bar.start("cold_start", 4)
    bar.close()
    shown = terminal.getvalue()
    assert "half way [1/2]" in shown
    assert "zero              1.00 s  $0.0012  accuracy 0.71" in shown
    assert shown.count("\033[?25l") == shown.count("\033[?25h") == 1, "the cursor comes back"


def test_a_bar_gives_the_terminal_back_when_the_work_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(ZeroDivisionError), watched(lambda: "") as progress:
        progress.start("zero", 4)
        raise ZeroDivisionError
    assert terminal.getvalue().count("\033[?25l") == terminal.getvalue().count("\033[?25h") == 1
