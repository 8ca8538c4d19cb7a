"""What counts as a step by examples."""

from __future__ import annotations

import pytest

from openbook.evals.thinking import has_steps


@pytest.mark.parametrize("thinking", ["b = seven", "7 times 2", "a = 3 b = 7", "siete dos", "b = 12"])
def test_thinking_with_two_marks_has_a_step(thinking: str) -> None:
    assert has_steps(thinking)


@pytest.mark.parametrize(
    "thinking", ["", "hmm", "7", "four", "stone bones", "let me think about that", "1234"]
)
def test_thinking_without_work_has_none(thinking: str) -> None:
    assert not has_steps(thinking)
