"""Symptoms of any training: divergence, a rising loss, no gradient, lost updates, experts that idle.

Each function looks for one and returns None where it finds nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from statistics import fmean, median

from openbook.runs.case import Case, Diagnosis, Severity, Trend, percent, show

LOWER_THE_RATE = (
    "lower optim.muon_learning_rate and optim.adamw_learning_rate 3 to 10 times{now}; "
    "raise schedule.warmup_steps"
)

RISE_OF_LOSS, ABOVE_START = 1.2, 1.5
LOSS_WINDOW = 20
"""Batches differ by more than rollouts do, and steps are cheap: 20 of them are one stretch. Healthy stages
end within 10 % of their best one."""
SPIKE = 5.0
"""A gradient so many times the median before it: healthy steps stay below 3 (but for a run's first ones)."""
CLIPPED_SHARE = 0.95
CLIPPED_STEPS = 20
LOST_UPDATES = 0.1
"""Now and then a bad batch is skipped and nothing is lost; one in ten is a state that does not pass."""
DEAD_LOAD = 0.01
"""Of an even share. The bias moves a neglected expert up within hundreds of steps; this one was left out."""
MIN_TOKENS_AN_EXPERT = 100
"""An even share of fewer tokens than that says little about who got none."""
UNEVEN_LOAD = 2.0
"""Busiest over mean: 1.05 to 1.3 in healthy runs; at 2 half of the experts' matrices wait for one."""
ROUTER_STEPS = 50
"""A fresh router is uneven (up to 3 in the first steps) and is given time to settle."""


def diverged(case: Case) -> Diagnosis | None:
    """A loss or gradient that is no number in the last step, or as the reason of the run's end."""
    bad = [
        f"{name} {case.rows[-1][name]} at step {int(case.rows[-1]['step'])}"
        for name in ("loss", "grad_norm")
        if case.rows and not math.isfinite(case.rows[-1].get(name, 0.0))
    ]
    if re.search(r"became (nan|-?inf)", case.reason):
        bad.append(case.reason)
    if not bad:
        return None
    return Diagnosis(
        name="diverged",
        severity=Severity.FAULT,
        what="the numbers ran away: a loss or a gradient is not finite",
        evidence="; ".join(bad),
        mend=f"{lower_the_rate(case)}; then begin again from the last good state",
    )


def loss_rising(case: Case) -> Diagnosis | None:
    """Supervised only: the loss stands well above its best (a policy's loss says nothing)."""
    loss = case.long_trend("loss")
    if loss is None or case.learns_by_reward:
        return None
    at_first, loss = loss.values[0], replace(loss, window=LOSS_WINDOW)
    # The first step is looked at by itself: what ruins a trained model does so before the first stretch ends.
    above_start = loss.now > ABOVE_START * at_first + loss.margin
    if loss.now <= 0 or not (above_start or loss.now > RISE_OF_LOSS * loss.lowest + loss.margin):
        return None
    grad = case.long_trend("grad_norm")
    signs = f"; {grad.show()}" if grad is not None else ""
    return Diagnosis(
        name="loss_rising",
        severity=Severity.FAULT if above_start else Severity.WARNING,
        what="the loss rises" + (" and is above where it began" if above_start else ""),
        evidence=f"loss {show(at_first)} at first, {show(loss.lowest)} in its best stretch, "
        f"{show(loss.now)} now{signs}",
        mend=f"{lower_the_rate(case)}; if the gradient is calm, look whether the data changed at that step",
    )


def no_gradient(case: Case) -> Diagnosis | None:
    """No gradient at all: nothing is being learned, whatever else the metrics show."""
    grad = case.trend("grad_norm")
    if grad is None or len(grad.values) < grad.width + 1 or max(grad.values[-grad.width :]) > 1e-9:
        return None
    why = (
        "no group has a difference in reward"
        if case.now("zero_variance_groups") == 1
        else "nothing reaches it"
    )
    return Diagnosis(
        name="no_gradient",
        severity=Severity.FAULT,
        what=f"there is no gradient: {why}, and the weights stand still",
        evidence=f"grad_norm 0 in the last {grad.width} steps",
        mend="see all_wrong or all_right if they are named too; else look whether any weight may learn",
    )


def always_clipped(case: Case) -> Diagnosis | None:
    """The clip decides the length of every step: harmless in itself, worth knowing."""
    grad, bound = case.trend("grad_norm"), case.setting("max_grad_norm")
    if grad is None or not bound or len(grad.values) < CLIPPED_STEPS:
        return None
    late = grad.values[len(grad.values) // 2 :]
    share = fmean(value > bound for value in late)
    if share < CLIPPED_SHARE:
        return None
    return Diagnosis(
        name="always_clipped",
        severity=Severity.NOTE,
        what="nearly every gradient is clipped, so max_grad_norm sets the steps and not the gradient",
        evidence=f"{percent(share)} of the later steps above {show(bound)}; median {show(median(late))}",
        mend="nothing while it learns well; else lower the learning rate or raise optim.max_grad_norm",
    )


def skipped_updates(case: Case) -> Diagnosis | None:
    """Updates left out because a gradient was not finite."""
    steps = [
        int(row["step"])
        for row in case.rows
        if row.get("skipped_updates") or not math.isfinite(row.get("loss", 0.0) + row.get("grad_norm", 0.0))
    ]
    if not steps:
        return None
    often = len(steps) > LOST_UPDATES * len(case.rows)
    return Diagnosis(
        name="skipped_updates",
        severity=Severity.FAULT if often else Severity.WARNING,
        what="updates were skipped because their gradient was not finite",
        evidence=f"in {len(steps)} of {len(case.rows)} steps, the last one step {steps[-1]}",
        mend=f"{lower_the_rate(case)}; a reward or a log-probability that is not finite does it too",
    )


def dead_experts(case: Case) -> Diagnosis | None:
    """Experts that the router passes by."""
    dead = []
    for layer, loads in enumerate(case.expert_loads):
        even = sum(loads) / max(1, len(loads))
        if even < MIN_TOKENS_AN_EXPERT:
            continue
        idle = [number for number, load in enumerate(loads) if load < DEAD_LOAD * even]
        if idle:
            dead.append(f"MoE layer {layer}: {', '.join(map(str, idle))} of {len(loads)}")
    if not dead:
        return None
    return Diagnosis(
        name="dead_experts",
        severity=Severity.WARNING,
        what="some experts get hardly any token: their weights are paid for and learn nothing",
        evidence="; ".join(dead[:4]) + (f"; {len(dead) - 4} more layers" if len(dead) > 4 else ""),
        mend="raise bias_update_rate (0.001), and balance_weight if that is not enough; in a checkpoint that "
        "comes so, look at the gate's e_score_correction_bias",
    )


def router_imbalance(case: Case) -> Diagnosis | None:
    """One expert does the work of several, and it is not getting better."""
    load = case.trend("load_max_over_mean")
    if load is None or len(load.values) < ROUTER_STEPS:
        return None
    if load.now < UNEVEN_LOAD or load.now < 0.9 * load.begin:
        return None
    return Diagnosis(
        name="router_imbalance",
        severity=Severity.WARNING,
        what="the router sends far more to one expert than to the others, and does not settle",
        evidence=f"{load.show()} (1 is even)",
        mend="raise bias_update_rate (0.001) or balance_weight; a learning rate that is too high does it too",
    )


def lower_the_rate(case: Case) -> str:
    """The mend of most that goes wrong, with the rate as it is."""
    rate = case.trend("learning_rate")
    return LOWER_THE_RATE.format(now="" if rate is None else f" (at its highest {show(max(rate.values))})")


def spike_after(trend: Trend | None, peak: int) -> tuple[float, float] | None:
    """The median up to a place and the largest value after it, if that is a spike."""
    if trend is None or not 1 <= peak < len(trend.values):
        return None
    before, after = median(trend.values[:peak]), max(trend.values[peak:])
    return (before, after) if after > SPIKE * before else None
