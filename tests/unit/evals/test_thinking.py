"""What counts as a step and which number is the last, by examples."""

from __future__ import annotations

import pytest

from openbook.evals.thinking import has_steps, last_number


@pytest.mark.parametrize("thinking", ["b = seven", "7 times 2", "a = 3 b = 7", "siete dos", "b = 12"])
def test_thinking_with_two_marks_has_a_step(thinking: str) -> None:
    assert has_steps(thinking)


@pytest.mark.parametrize(
    "thinking", ["", "hmm", "7", "four", "stone bones", "let me think about that", "1234"]
)
def test_thinking_without_work_has_none(thinking: str) -> None:
    assert not has_steps(thinking)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so c = 3 - 7 = -4.", "-4"),
        ("7-4", "4"),
        ("(7)-4", "4"),
        ("c is 1/2", "1/2"),
        ("it is 2.50.", "2.50"),
        ("<answer> 8 </answer>", "8"),
        ("four", ""),
        ("", ""),
    ],
)
def test_the_last_number_is_read_as_it_stands(text: str, number: str) -> None:
    assert last_number(text) == number
