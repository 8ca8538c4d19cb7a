"""Diagnosis: a run's metrics to words: what is wrong, which numbers say so, what to change.

    Case (metrics, settings, reason of the end, expert loads) -> every symptom -> [Diagnosis]

Thresholds stand beside each symptom with their reason; a healthy run raises no fault and no warning.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from openbook.runs import policy_symptoms, symptoms
from openbook.runs.case import Case, Diagnosis, Severity
from openbook.runs.run import Run

SYMPTOMS: tuple[Callable[[Case], Diagnosis | None], ...] = (
    symptoms.diverged,
    policy_symptoms.rate_too_high,
    policy_symptoms.collapse,
    policy_symptoms.reward_below_start,
    policy_symptoms.reward_hacking,
    symptoms.no_gradient,
    policy_symptoms.few_teach,
    policy_symptoms.unscored,
    policy_symptoms.sampler_mismatch,
    policy_symptoms.entropy_collapse,
    policy_symptoms.entropy_explosion,
    policy_symptoms.length,
    policy_symptoms.truncation,
    policy_symptoms.dropped,
    policy_symptoms.kl_runaway,
    symptoms.loss_rising,
    symptoms.skipped_updates,
    symptoms.dead_experts,
    symptoms.router_imbalance,
    symptoms.always_clipped,
    policy_symptoms.loss_zero,
)
IMPLIED = {
    "reward_hacking": {"collapse", "reward_below_start", "all_wrong"},
    "rate_too_high": {"reward_below_start", "kl_runaway", "entropy_explosion", "length_explosion"},
    "collapse": {"reward_below_start", "all_wrong", "all_alike", "no_gradient", "length_collapse"},
    "all_wrong": {"no_gradient"},
    "all_right": {"no_gradient"},
    "all_alike": {"no_gradient"},
    "diverged": {"loss_rising", "skipped_updates"},
}
"""What follows from a diagnosis and is not said beside it; causes stand before what they cause."""

LOADS_FILE = "expert_loads.json"
LATE_SHARE = 0.25
"""The last part of a run, whose expert loads are added up."""


def diagnose(case: Case) -> list[Diagnosis]:
    """All that is found, the gravest first; nothing for a run without metrics."""
    found = [one for symptom in SYMPTOMS if (one := symptom(case)) is not None]
    names, said = {one.name for one in found}, set[str]()
    for name, implied in IMPLIED.items():
        if name in names - said:
            said |= implied
    order = list(Severity)
    return sorted((one for one in found if one.name not in said), key=lambda one: order.index(one.severity))


def case_of(run: Run) -> Case:
    """What a run's folder holds for a diagnosis. Raises UserError where a file is damaged."""
    return Case(
        rows=run.metrics(),
        settings=run.recipe,
        reason=run.reason if run.status.is_lost else "",
        expert_loads=_late_loads(run.folder / LOADS_FILE),
    )


def _late_loads(path: Path) -> list[list[int]]:
    """Tokens of each expert by layer, over the last snapshots of a run; none without a file."""
    if not path.exists():
        return []
    snapshots = json.loads(path.read_text(encoding="utf-8"))["loads"]
    late = snapshots[-max(1, int(LATE_SHARE * len(snapshots))) :]
    return [[sum(loads) for loads in zip(*layers, strict=True)] for layers in zip(*late, strict=True)]


class Watch:
    """A diagnosis while the work goes on: what is new since it last looked, each finding once.

    It keeps the first and the most recent steps only, so a look costs the same however long the run.
    """

    LOOK_EVERY = 5
    NUM_FIRST = 20
    NUM_RECENT = 200

    def __init__(self) -> None:
        self._first: list[Mapping[str, float]] = []
        self._recent: deque[Mapping[str, float]] = deque(maxlen=self.NUM_RECENT)
        self._said: set[str] = set()

    def see(self, step: int, metrics: Mapping[str, float]) -> list[Diagnosis]:
        """Take in a step; the warnings and faults that appear for the first time."""
        row = {**metrics, "step": step}
        if len(self._first) < self.NUM_FIRST:
            self._first.append(row)
        else:
            self._recent.append(row)
        if step % self.LOOK_EVERY:
            return []
        found = diagnose(Case(rows=[*self._first, *self._recent]))
        new = [one for one in found if one.severity is not Severity.NOTE and one.name not in self._said]
        self._said |= {one.name for one in new}
        return new
