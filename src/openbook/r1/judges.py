"""Judges: from attempts to verdicts and rewards, for problems that a rule can verify."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from openbook.rl.types import Attempt, Scored, Scorer
from openbook.tasks.problem import Family, Problem, Split, Submission, verify_all
from openbook.tasks.rewards import Observed, RewardConfig, verified_reward


def rule_judge(family: Family, rewards: RewardConfig) -> Scorer:
    """Accuracy by the family's verifier, format and language by rule (DeepSeek-R1 2.2.2)."""

    def judge(attempts: Sequence[Attempt]) -> list[Scored]:
        verdicts = verify_all(family, [submission(attempt) for attempt in attempts])
        return [
            Scored(verdict=verdict, reward=verified_reward(rewards, observed(attempt), verdict))
            for attempt, verdict in zip(attempts, verdicts, strict=True)
        ]

    return judge


def submission(attempt: Attempt) -> Submission:
    """What a verifier may look at."""
    return Submission(problem=attempt.problem, answer=attempt.parsed.answer, completion=attempt.text)


def observed(attempt: Attempt) -> Observed:
    """What a reward may look at besides the verdict."""
    return Observed(
        well_formed=attempt.parsed.well_formed,
        thinking=attempt.parsed.thinking,
        num_tokens=len(attempt.completion.token_ids),
    )


def training_problems(family: Family, seed: int) -> Callable[[int, int], list[Problem]]:
    """The endless stream of a family's training problems."""
    return lambda position, count: [
        family.problem(seed, Split.TRAIN, index) for index in range(position, position + count)
    ]
