"""What flows from a problem to a gradient: Rollout, Group, RewardedGroup. No field is filled in later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openbook.engine.types import Completion
from openbook.tasks.problem import Problem, Verdict
from openbook.tasks.rewards import RewardParts
from openbook.tokens.template import Parsed


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """A problem and one completion of it, as text and taken apart: what a scorer sees."""

    problem: Problem
    completion: Completion
    text: str
    parsed: Parsed


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """What a scorer found: the verifier's verdict and the reward with its parts."""

    verdict: Verdict
    reward: RewardParts


Scorer = Callable[[Sequence[Attempt]], list[Scored]]
"""Judges attempts, one result each; the policy loss does not know how."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """An attempt with its judgement."""

    attempt: Attempt
    scored: Scored


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The rollouts of one problem, which are compared with each other."""

    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardedGroup:
    """A group with one advantage for each of its rollouts."""

    group: Group
    advantages: tuple[float, ...]

    def __post_init__(self) -> None:
        assert len(self.advantages) == len(self.group.rollouts)
