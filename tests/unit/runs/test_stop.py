from __future__ import annotations

import os
import signal

import pytest

from openbook.errors import Interrupted
from openbook.runs.stop import StopSignal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_is_a_request_and_a_second_ends_at_once(number: signal.Signals) -> None:
    with StopSignal() as stop:
        assert not stop.requested
        stop.check()
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(Interrupted, match="the same command resumes"):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_afterwards_signals_mean_what_they_meant_before() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with pytest.raises(ValueError, match="work failed"), StopSignal() as stop:
            raise ValueError("work failed")
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        assert not stop.requested
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_exit_code_of_an_interruption_is_that_of_ctrl_c() -> None:
    assert Interrupted.exit_code == 130
