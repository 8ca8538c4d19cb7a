"""Rewards: named parts of one completion's reward, and their weighted sum.

    verdict, parsed text -> accuracy 1, format 1, language 0.75 -> weights -> RewardParts, total

DeepSeek-R1-Zero's reward is accuracy plus format with equal weight; R1 adds language consistency
(DeepSeek-R1 2.2.2, 2.3.2). Every function here is pure and takes text that was parsed already.
A completion without a judgement is *not scored*. That is no reward of 0, which would teach
that it was wrong, so `RewardParts.total` refuses to give a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from openbook.config import config
from openbook.tasks.problem import Outcome, Verdict
from openbook.tasks.words import Language, language_shares


@config
class RewardConfig:
    """The weight of each part; a part of weight 0 is not computed and not listed."""

    accuracy: float = 1.0
    """Weight of the verifier's judgement, 1 or 0."""
    custom: float = 1.0
    """Weight of your own reward function's value, which takes the place of accuracy where there is one."""
    format: float = 1.0
    """Weight of well-formed thinking and answer tags, 1 or 0."""
    language: float = 0.0
    """Weight of the share of number words in `language_target`."""
    language_target: Language = Language.ENGLISH
    """The language the thinking should be in."""
    preference: float = 1.0
    """Weight of a learned reward model's score, where there is one."""
    length: float = 0.0
    """Weight of the penalty for running into the token limit, 0 to -1 (DAPO, equation 13)."""
    length_limit_tokens: int = 1024
    """Completions of this many tokens or more get the whole length penalty."""
    length_buffer_tokens: int = 256
    """The penalty grows linearly over this many tokens before the limit."""

    def __post_init__(self) -> None:
        if not 0 < self.length_buffer_tokens <= self.length_limit_tokens:
            raise ValueError("length_buffer_tokens must be above 0 and at most length_limit_tokens")


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """What a reward may depend on besides the judgement: the parsed completion."""

    well_formed: bool
    thinking: str
    num_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardParts:
    """A reward with its parts kept, weighted.

    Example: `parts={"accuracy": 1.0, "format": 1.0, "language": 0.075}, scored=True` has the
    total 2.075. When `scored` is false, `reason` says why and the parts that could be computed
    are still there to be looked at; ask `scored` before `total`.
    """

    parts: Mapping[str, float]
    scored: bool
    reason: str

    @property
    def total(self) -> float:
        assert self.scored, f"a completion that was not scored has no total: {self.reason}"
        return math.fsum(self.parts.values())


def accuracy_reward(verdict: Verdict) -> float:
    """1 for a correct answer, 0 for a wrong one; other outcomes have no accuracy."""
    assert is_judged(verdict), f"{verdict.outcome} is no judgement of the answer"
    return 1.0 if verdict.correct else 0.0


def format_reward(well_formed: bool) -> float:
    """1 when thinking and answer stand in their tags, 0 otherwise."""
    return 1.0 if well_formed else 0.0


def language_reward(thinking: str, target: Language) -> float:
    """Number words of `thinking` in `target` / all its number words (DeepSeek-R1 2.3.2).

    Thinking without number words earns 0: else silence would be the surest way to this reward.
    """
    return language_shares(thinking)[target]


def length_reward(num_tokens: int, limit_tokens: int, buffer_tokens: int) -> float:
    """DAPO's soft penalty (equation 13): 0 up to limit - buffer, then falling linearly to -1 at the limit."""
    return -min(1.0, max(0.0, (num_tokens - (limit_tokens - buffer_tokens)) / buffer_tokens))


def is_judged(verdict: Verdict) -> bool:
    """Whether a verdict says anything about the answer; unscorable, timed out and crashed do not."""
    return verdict.outcome in (Outcome.CORRECT, Outcome.WRONG)


def verified_reward(config: RewardConfig, observed: Observed, verdict: Verdict) -> RewardParts:
    """The reward where a rule judges the answer; not scored when the rule came to no judgement."""
    common = _common_parts(config, observed)
    if not is_judged(verdict):
        return RewardParts(parts=common, scored=False, reason=f"{verdict.outcome}: {verdict.reason}")
    return RewardParts(parts=_judged_part(config, verdict) | common, scored=True, reason=verdict.reason)


def preference_reward(config: RewardConfig, observed: Observed, score: float) -> RewardParts:
    """The reward where a learned model scores the answer (DeepSeek-R1 2.3.4); a NaN score is not scored."""
    common = _common_parts(config, observed)
    if not math.isfinite(score):
        return RewardParts(parts=common, scored=False, reason=f"the reward model's score is {score}")
    preference = {"preference": config.preference * score} if config.preference else {}
    return RewardParts(parts=preference | common, scored=True, reason="scored by a reward model")


def _judged_part(config: RewardConfig, verdict: Verdict) -> dict[str, float]:
    """Accuracy, or a function's own value: never both, which would count one judgement twice."""
    if verdict.value is not None:
        return {"custom": config.custom * verdict.value} if config.custom else {}
    return {"accuracy": config.accuracy * accuracy_reward(verdict)} if config.accuracy else {}


def _common_parts(config: RewardConfig, observed: Observed) -> dict[str, float]:
    parts: dict[str, float] = {}
    if config.format:
        parts["format"] = config.format * format_reward(observed.well_formed)
    if config.language:
        parts["language"] = config.language * language_reward(observed.thinking, config.language_target)
    if config.length:
        penalty = length_reward(observed.num_tokens, config.length_limit_tokens, config.length_buffer_tokens)
        parts["length"] = config.length * penalty
    return parts
