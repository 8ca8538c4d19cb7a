"""The doctor's thresholds on made-up metrics: what is raised, what is not, and what cannot break it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from openbook.runs.case import Case, Diagnosis, Severity, Trend
from openbook.runs.diagnosis import SYMPTOMS, Watch, diagnose

HEALTHY: dict[str, Callable[[float], float]] = {
    "reward": lambda done: 1.1 + 0.8 * done,
    "accuracy": lambda done: 0.15 + 0.7 * done,
    "format": lambda done: 0.95,
    "mean_completion_tokens": lambda done: 20 + 15 * done,
    "truncated_share": lambda done: 0.02,
    "zero_variance_groups": lambda done: 0.3 * done,
    "unscored_share": lambda done: 0.0,
    "loss": lambda done: 1e-6 + 1e-4 * done,
    "kl": lambda done: 0.2 * done,
    "clipped_share": lambda done: 0.0,
    "entropy": lambda done: 0.45 - 0.3 * done,
    "sampler_gap": lambda done: 2e-7,
    "grad_norm": lambda done: 0.9 - 0.6 * done,
    "learning_rate": lambda done: 3e-3,
    "load_max_over_mean": lambda done: 1.2,
}


def rows(num_steps: int = 60, **changed: Callable[[float], float] | None) -> list[dict[str, float]]:
    """A run of reinforcement with some noise; each changed metric is a function of the share that is done."""
    curves = {name: curve for name, curve in {**HEALTHY, **changed}.items() if curve is not None}
    return [
        {name: curve(step / num_steps) * (1 + 0.02 * math.sin(7 * step)) for name, curve in curves.items()}
        | {"step": step}
        for step in range(1, num_steps + 1)
    ]


def supervised(loss: Callable[[float], float], num_steps: int = 120) -> list[dict[str, float]]:
    return [
        {"step": step, "loss": loss(step / num_steps), "grad_norm": 0.5, "learning_rate": 1e-3}
        for step in range(1, num_steps + 1)
    ]


def raised(case: Case) -> dict[str, Diagnosis]:
    return {one.name: one for one in diagnose(case)}


def test_a_healthy_run_raises_nothing_but_the_note_on_its_loss() -> None:
    found = diagnose(Case(rows=rows()))
    assert [(one.name, one.severity) for one in found] == [("loss_zero", Severity.NOTE)]
    assert "grad_norm" in found[0].evidence


@pytest.mark.parametrize(
    ("name", "severity", "changed"),
    [
        ("all_wrong", "fault", {"zero_variance_groups": lambda d: 1.0, "accuracy": lambda d: 0.0}),
        ("all_wrong", "warning", {"zero_variance_groups": lambda d: 0.7, "accuracy": lambda d: 0.05}),
        ("all_right", "note", {"zero_variance_groups": lambda d: 0.9, "accuracy": lambda d: 0.98}),
        ("all_alike", "warning", {"zero_variance_groups": lambda d: 0.7, "accuracy": lambda d: 0.5}),
        ("reward_below_start", "warning", {"reward": lambda d: 1.5 - 0.6 * d, "accuracy": None}),
        ("collapse", "fault", {"accuracy": lambda d: 0.6 if d < 0.7 else 0.05, "reward": lambda d: 1.5}),
        ("collapse", "fault", {"format": lambda d: 0.9 if d < 0.7 else 0.1}),
        ("entropy_collapse", "warning", {"entropy": lambda d: 0.4 * math.exp(-5 * d)}),
        ("entropy_explosion", "warning", {"entropy": lambda d: 0.4 + 2 * d}),
        ("truncation", "warning", {"truncated_share": lambda d: 0.4}),
        ("sampler_mismatch", "warning", {"sampler_gap": lambda d: 0.08}),
        ("sampler_mismatch", "fault", {"sampler_gap": lambda d: 2e-7 + 0.03 * d}),
        ("kl_runaway", "warning", {"kl": lambda d: 0.01 + 4 * d}),
        ("unscored", "warning", {"unscored_share": lambda d: 0.2}),
        ("unscored", "fault", {"unscored_share": lambda d: 0.8}),
        ("dropped", "warning", {"dropped_share": lambda d: 0.4}),
        ("no_gradient", "fault", {"grad_norm": lambda d: 0.0}),
        ("router_imbalance", "warning", {"load_max_over_mean": lambda d: 3.0}),
    ],
)
def test_each_trouble_of_reinforcement_has_its_name(
    name: str, severity: str, changed: dict[str, Any]
) -> None:
    found = raised(Case(rows=rows(**changed)))
    assert found[name].severity == severity
    assert found[name].evidence and found[name].mend
    others = {one.name for one in found.values() if one.severity is not Severity.NOTE} - {name}
    assert not others, "one trouble, one diagnosis"


def test_just_below_a_threshold_nothing_is_raised() -> None:
    below = rows(
        zero_variance_groups=lambda d: 0.48,
        truncated_share=lambda d: 0.24,
        sampler_gap=lambda d: 0.045,
        kl=lambda d: 0.9 * d,
        unscored_share=lambda d: 0.045,
        dropped_share=lambda d: 0.24,
        entropy=lambda d: 0.4 + 0.45 * d,
        load_max_over_mean=lambda d: 1.9,
    )
    assert [one.name for one in diagnose(Case(rows=below))] == ["loss_zero"]


def test_a_collapse_says_that_entropy_did_not_tell_and_what_came_before_it() -> None:
    fallen = rows(
        reward=lambda d: 1.8 if d < 0.7 else 0.2,
        entropy=lambda d: 0.4,
        grad_norm=lambda d: 0.5 if d < 0.7 else 6.0,
    )
    found = diagnose(Case(rows=fallen))
    assert [one.name for one in found] == ["rate_too_high", "collapse", "loss_zero"]
    assert "grad_norm up to 6.1" in found[0].evidence and "0.003" in found[0].mend
    assert "looks healthy and did not tell" in found[1].evidence


def test_a_collapse_without_large_steps_sends_to_the_problems() -> None:
    found = raised(Case(rows=rows(accuracy=lambda d: 0.6 if d < 0.7 else 0.05, reward=lambda d: 1.5)))
    assert "problems" in found["collapse"].mend and "rate_too_high" not in found


def test_noise_is_no_fall() -> None:
    noisy = rows(reward=lambda d: 1.0 + 0.3 * math.sin(40 * d), accuracy=None)
    assert "reward_below_start" not in raised(Case(rows=noisy))


def test_length_that_pays_is_no_explosion_and_length_that_does_not_is() -> None:
    longer: dict[str, Any] = {"mean_completion_tokens": lambda d: 10 + 30 * d}
    assert "length_explosion" not in raised(Case(rows=rows(**longer)))
    assert "length_explosion" in raised(Case(rows=rows(**longer, accuracy=lambda d: 0.4)))
    shorter = rows(mean_completion_tokens=lambda d: 30 - 25 * d, accuracy=lambda d: 0.4)
    assert "length_collapse" in raised(Case(rows=shorter))


def test_several_updates_a_rollout_may_differ_from_the_sampler() -> None:
    drifting = rows(sampler_gap=lambda d: 2e-7 + 0.03 * d)
    settings = {"settings": {"rl": {"num_minibatches": 4}}}
    assert "sampler_mismatch" not in raised(Case(rows=drifting, settings=settings))


def test_what_was_not_scored_is_told_apart() -> None:
    parts = {"unscored_timed_out": 0.18, "unscored_crashed": 0.02, "unscored_unscorable": 0.0}
    unscored = [{**row, **parts, "unscored_share": 0.2} for row in rows()]
    found = raised(Case(rows=unscored))["unscored"]
    assert "timed_out 18%" in found.evidence and "crashed 2%" in found.evidence and "time limit" in found.mend


def test_a_reward_that_rises_while_accuracy_falls_is_hacked() -> None:
    hacked = rows(reward=lambda d: 1 + d, reward_length=lambda d: d, accuracy=lambda d: 0.6 - 0.5 * d)
    found = raised(Case(rows=hacked))
    assert (
        found["reward_hacking"].severity == "fault"
        and "reward_length rises" in found["reward_hacking"].evidence
    )
    assert "collapse" not in found, "it follows from the other"


def test_a_supervised_loss_may_fall_but_not_rise() -> None:
    assert diagnose(Case(rows=supervised(lambda d: 6 * math.exp(-4 * d) + 0.3))) == []
    rising = raised(Case(rows=supervised(lambda d: 1.0 if d < 0.5 else 0.5 + d)))
    assert rising["loss_rising"].severity == "warning"
    ruined = raised(Case(rows=supervised(lambda d: 0.3 if d < 0.02 else 5.8)))
    assert ruined["loss_rising"].severity == "fault"


def test_divergence_is_read_from_the_metrics_or_from_the_reason_of_the_end() -> None:
    good = supervised(lambda d: 1.0)
    assert "diverged" in raised(Case(rows=[*good, {"step": 121, "loss": math.nan, "grad_norm": 1.0}]))
    found = raised(Case(rows=good, reason="loss became nan at step 121"))["diverged"]
    assert "step 121" in found.evidence and found.severity == "fault"


def test_skipped_updates_are_counted() -> None:
    skipped = [{**row, "skipped_updates": float(row["step"] == 30)} for row in rows()]
    assert raised(Case(rows=skipped))["skipped_updates"].severity == "warning"
    often = [{**row, "skipped_updates": float(row["step"] % 3 == 0)} for row in rows()]
    assert raised(Case(rows=often))["skipped_updates"].severity == "fault"


def test_experts_without_tokens_are_named_by_layer() -> None:
    loads = [[500, 480, 510, 505], [700, 3, 640, 660]]
    found = raised(Case(rows=rows(), expert_loads=loads))["dead_experts"]
    assert found.evidence == "MoE layer 1: 1 of 4"
    assert "dead_experts" not in raised(Case(rows=rows(), expert_loads=[[9, 0, 8, 9]])), (
        "too few tokens to tell"
    )


def test_always_clipped_is_a_note_and_needs_the_setting() -> None:
    clipped = rows(grad_norm=lambda d: 4.0)
    settings = {"settings": {"rl": {"optim": {"max_grad_norm": 1.0}}}}
    assert raised(Case(rows=clipped, settings=settings))["always_clipped"].severity == "note"
    assert "always_clipped" not in raised(Case(rows=clipped))


@pytest.mark.parametrize("num_steps", [0, 1, 2, 7])
def test_a_run_that_has_hardly_begun_is_not_judged(num_steps: int) -> None:
    assert not [one for one in diagnose(Case(rows=rows(num_steps))) if one.severity is not Severity.NOTE]


def test_no_missing_metric_breaks_it_and_no_value_that_is_no_number() -> None:
    strange: list[Any] = [None, lambda d: math.nan if d > 0.5 else 1.0, lambda d: 0.0, lambda d: -1.0]
    for name in HEALTHY:
        for curve in strange:
            diagnose(Case(rows=rows(**{name: curve})))
    diagnose(Case(rows=[{"step": 0, "kept_traces": 378.0}, *supervised(lambda d: 1.0)]))


def test_every_symptom_can_be_silent() -> None:
    assert [symptom(Case(rows=[])) for symptom in SYMPTOMS] == [None] * len(SYMPTOMS)


def test_a_trend_knows_its_best_stretch_and_its_noise() -> None:
    trend = Trend(name="x", steps=tuple(range(20)), values=(0.0,) * 5 + (4.0,) * 10 + (1.0,) * 5)
    assert (trend.begin, trend.best, trend.now, trend.peak) == (0.0, 4.0, 1.0, 15)
    assert trend.margin == 0.0 and trend.has_risen


def test_a_watch_says_each_thing_once_and_notes_never() -> None:
    watch = Watch()
    said = [
        (int(row["step"]), one.name)
        for row in rows(truncated_share=lambda d: 0.0 if d < 0.5 else 0.6)
        for one in watch.see(int(row["step"]), {name: value for name, value in row.items() if name != "step"})
    ]
    assert said == [(35, "truncation")]


def test_a_watch_keeps_little_of_a_long_run() -> None:
    watch = Watch()
    for row in supervised(lambda d: 2 - d, num_steps=3000):
        assert watch.see(int(row["step"]), {"loss": row["loss"]}) == []
    assert len(watch._first) + len(watch._recent) == Watch.NUM_FIRST + Watch.NUM_RECENT
