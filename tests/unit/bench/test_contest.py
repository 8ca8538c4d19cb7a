"""A contest: whose turn it is, what is counted, and what is read off a timing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from openbook.bench.contest import WARM_UP, Line, Runner, Timing, interleave, median
from openbook.bench.measurement import Unit

RATE = Line(suffix="", unit=Unit.TOKENS_PER_SECOND, read=lambda timing: timing.whole_rate)


def timing(seconds: float = 3.0) -> Timing:
    return Timing(
        num_prompt_tokens=100, num_new_tokens=12, num_first_tokens=4, first_seconds=1.0, seconds=seconds
    )


def test_the_contestants_take_turns_and_the_first_round_is_not_counted() -> None:
    turns: list[tuple[str, int]] = []
    rounds: list[int] = []

    def runner(name: str) -> Runner:
        def run(number: int) -> Timing:
            turns.append((name, number))
            return timing(seconds=100.0 if number == WARM_UP else 2.0 + number)

        return run

    def on_round(number: int, done: Mapping[str, Timing]) -> None:
        rounds.append(number)
        assert {name: one.seconds for name, one in done.items()} == {"A": 2.0 + number, "B": 2.0 + number}

    timings = interleave({"A": runner("A"), "B": runner("B")}, repeats=3, on_round=on_round)
    assert turns == [(name, number) for number in (WARM_UP, 0, 1, 2) for name in ("A", "B")]
    assert rounds == [0, 1, 2]
    assert [one.seconds for one in timings["A"]] == [2.0, 3.0, 4.0]


def test_the_middle_round_counts() -> None:
    assert median([timing(2.0), timing(100.0), timing(3.0)], RATE) == 4.0


def test_a_timing_tells_reading_from_writing() -> None:
    one = timing()
    assert one.prefill_rate == 100.0
    assert one.decode_rate == 4.0  # 8 tokens once the prompts are read, in 2 seconds
    assert one.decode_milliseconds == 250.0
    assert one.whole_rate == pytest.approx(4.0)
