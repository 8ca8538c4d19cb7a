"""`openbook tasks audit`: what it prints, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from openbook.tasks.answers import correct
from openbook.tasks.chain import ChainFamily
from openbook.tasks.problem import Problem, Verdict

Command = Callable[..., Any]


def test_a_family_that_stands_ends_well(openbook: Command) -> None:
    answer = openbook("tasks", "audit", "chain", "-n", "2", "--set", "max_operations=3")
    assert answer.code == 0 and "two answer blocks" in answer.out
    assert "the honest answer of 2 problems: correct 2" in answer.out
    found = json.loads(openbook("tasks", "audit", "countdown", "-n", "1", "--json").out)
    assert found["passed"] and found["judges"] and found["findings"] == []


def test_a_family_that_no_rule_judges_says_so(openbook: Command) -> None:
    assert "no rule judges courtesy" in openbook("tasks", "audit", "courtesy", "-n", "1").out


def test_what_earns_is_named_and_ends_with_one(openbook: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def lenient(self: ChainFamily, problem: Problem, answer: str) -> Verdict:
        return correct()

    monkeypatch.setattr(ChainFamily, "verify", lenient)
    answer = openbook("tasks", "audit", "chain", "-n", "1")
    assert answer.code == 1 and "earned: format only, chain/train/0/0" in answer.out
    assert not json.loads(openbook("tasks", "audit", "chain", "-n", "1", "--json").out)["passed"]
