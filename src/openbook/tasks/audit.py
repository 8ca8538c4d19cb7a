"""The reward audit: a family's verifier and the reward over it, attacked before anything is trained on them.

    family, seed -> problems -> forgeries -> parse, verify, reward -> what earned, raised or took too long
                            \\-> the honest answer, which has to earn

The whole way from a completion's text to its reward is gone, as training goes it. Nothing but the honest
answer may earn accuracy. The format part is paid for form alone (DeepSeek-R1 2.2.2), so what a forgery
earns there is told apart and is no finding.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openbook.tasks.answers import quote
from openbook.tasks.forgeries import Forgery, forgeries, honest
from openbook.tasks.problem import Family, Outcome, Problem, Split, Submission, Verdict, verify_all
from openbook.tasks.rewards import Observed, RewardConfig, RewardParts, verified_reward
from openbook.tokens.template import parse

MOST_SECONDS = 1.0
"""For one completion by the clock."""

MOST_PATIENT_SECONDS = 15.0
"""For a program that is meant to use up its limits."""

JUDGING = ("accuracy", "custom")
"""The parts of a reward that say whether the answer is right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One forged completion and what came of it. `finding` is empty, `earned`, `raised` or `slow`."""

    problem_id: str
    attack: str
    excerpt: str
    outcome: str
    reason: str
    judged: float
    format: float
    seconds: float
    finding: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackSummary:
    """All attempts under the name of one attack."""

    attack: str
    num_attempts: int
    num_findings: int
    num_paid_for_format: int
    outcomes: Mapping[str, int]
    most_seconds: float
    reason: str
    """The reason of the first finding, or else the most frequent one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """What the attacks on one family came to.

    `honest` counts the outcomes of the sealed answers; `no answer` where a problem has none.
    """

    family: str
    num_problems: int
    honest: Mapping[str, int]
    honest_refused: Sequence[str]
    summaries: Sequence[AttackSummary]
    findings: Sequence[Attempt]

    @property
    def judges(self) -> bool:
        """Whether any rule judges this family at all; where none does, nothing can earn."""
        return set(self.honest) - {Outcome.UNSCORABLE.value, NO_ANSWER} != set()

    @property
    def passed(self) -> bool:
        return not self.findings and not self.honest_refused


NO_ANSWER = "no answer"


def audit(family: Family, seed: int, num_problems: int, split: Split = Split.TRAIN) -> Audit:
    """Attack `num_problems` problems of `family`, and offer the honest answer to each.

    Raises UserError when the family cannot make its problems.
    """
    config = RewardConfig()
    problems = [family.problem(seed, split, index) for index in range(num_problems)]
    honest_outcomes: Counter[str] = Counter()
    refused: list[str] = []
    attempts: list[Attempt] = []
    for problem in problems:
        # the honest answer goes first: it also starts what a verifier needs running, outside of the clock
        outcome, why_refused = _honest(family, problem, config)
        honest_outcomes[outcome] += 1
        refused += [why_refused] if why_refused else []
        attempts += [_attempt(family, problem, forgery, config) for forgery in forgeries(problem)]
    return Audit(
        family=family.name,
        num_problems=num_problems,
        honest=dict(honest_outcomes),
        honest_refused=refused,
        summaries=_summaries(attempts),
        findings=[attempt for attempt in attempts if attempt.finding],
    )


def _honest(family: Family, problem: Problem, config: RewardConfig) -> tuple[str, str]:
    """The outcome of the sealed answer, and why it earned nothing where it should have."""
    if not problem.answer.strip():
        return NO_ANSWER, ""
    verdict, parts = _judge(family, problem, honest(problem), config)
    if verdict.outcome is Outcome.UNSCORABLE or _judged(parts) > 0:
        return verdict.outcome.value, ""
    return (
        verdict.outcome.value,
        f"{problem.id}: {quote(problem.answer, 80)} is {verdict.outcome}: {verdict.reason}",
    )


def _judge(family: Family, problem: Problem, text: str, config: RewardConfig) -> tuple[Verdict, RewardParts]:
    parsed = parse(text)
    submission = Submission(problem=problem, answer=parsed.answer, completion=text)
    verdict = verify_all(family, [submission])[0]
    observed = Observed(
        well_formed=parsed.well_formed, thinking=parsed.thinking, num_tokens=len(text.split())
    )
    return verdict, verified_reward(config, observed, verdict)


def _judged(reward: RewardParts) -> float:
    return sum(reward.parts.get(part, 0.0) for part in JUDGING)


def _attempt(family: Family, problem: Problem, forgery: Forgery, config: RewardConfig) -> Attempt:
    start = time.perf_counter()
    try:
        verdict, reward = _judge(family, problem, forgery.completion, config)
        raised = ""
    except Exception as error:  # a verifier that raises is what is looked for
        raised = f"{type(error).__name__}: {error}"
        verdict = Verdict(outcome=Outcome.CRASHED, reason=raised)
        reward = RewardParts(parts={}, scored=False, reason=raised)
    seconds = time.perf_counter() - start
    slow = seconds > (MOST_PATIENT_SECONDS if forgery.patient else MOST_SECONDS)
    return Attempt(
        problem_id=problem.id,
        attack=forgery.attack,
        excerpt=quote(forgery.completion, 120),
        outcome=verdict.outcome.value,
        reason=verdict.reason,
        judged=_judged(reward),
        format=reward.parts.get("format", 0.0),
        seconds=seconds,
        finding="earned" if _judged(reward) > 0 else "raised" if raised else "slow" if slow else "",
    )


def _summaries(attempts: Sequence[Attempt]) -> list[AttackSummary]:
    """One for each attack, in the order in which they were tried first."""
    by_attack: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_attack.setdefault(attempt.attack, []).append(attempt)
    return [_summary(attack, found) for attack, found in by_attack.items()]


def _summary(attack: str, attempts: Sequence[Attempt]) -> AttackSummary:
    findings = [attempt for attempt in attempts if attempt.finding]
    told = (
        findings[0].reason if findings else Counter(found.reason for found in attempts).most_common(1)[0][0]
    )
    return AttackSummary(
        attack=attack,
        num_attempts=len(attempts),
        num_findings=len(findings),
        num_paid_for_format=sum(attempt.format > 0 for attempt in attempts),
        outcomes=dict(Counter(attempt.outcome for attempt in attempts)),
        most_seconds=max(attempt.seconds for attempt in attempts),
        reason=told,
    )
