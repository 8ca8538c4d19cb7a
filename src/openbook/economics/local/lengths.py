"""How long prompts, completions and examples will be: as in the most similar past run, or as guessed.

A run on other problems says nothing; of those on the same, one of the same stage says most, and the latest of
those. What a policy writes grows with its steps, so its curve is followed as far as it goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from openbook.economics.local.history import PastRun
from openbook.economics.local.stage_work import Lengths
from openbook.economics.local.stages import Learning, Sampled, StagePlan

SAME_STAGE_SPREAD = 0.08
"""Relative standard deviation of a mean length, between runs of one stage."""
OTHER_STAGE_SPREAD = 0.25
RESIZED_SPREAD = 0.05
"""More for each doubling of steps, examples of a step, or parameters."""
COARSE, FAR = 0.2, 9.0
STEPS_TO_LEARN = 20
"""After so many steps a policy is two thirds of the way to the length it ends at; nano's zero took 16."""
SHORTEST = 2.0
"""A mean completion is no shorter: a token and the end."""
SIGMAS_IN_GUESS = 3.0
"""Standard deviations between the shortest and the longest mean length of a guess."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """Lengths with the relative standard deviation of the completions', and where they come from."""

    lengths: Lengths
    spread: float
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    value: float
    spread: float
    run_id: str


def expect(plan: StagePlan, past: Sequence[PastRun]) -> Expected:
    """The lengths of a stage that is still to run; `past` is oldest first."""
    prompt: dict[str, float] = {}
    found: dict[str, _Found] = {}
    for one in _occasions(plan):
        prompt[one.label] = _prompt(one, past)
        found[one.label] = _completion(plan, one, past)
    curve = _rollout(plan, past)
    if curve and plan.learned is not None:
        _follow(plan, found, curve, plan.learned.num_steps)
    completion = {label: one.value for label, one in found.items()}
    lengths = Lengths(example=0.0, prompt=prompt, completion=completion, rollout=curve)
    lengths = replace(lengths, example=_example(plan, lengths, past))
    spread = max((one.spread for one in found.values()), default=0.0)
    runs = sorted({one.run_id for one in found.values() if one.run_id})
    source = f"as in {', '.join(runs)}" if runs else "guessed from the recipe" if found else ""
    return Expected(lengths=lengths, spread=spread, source=source)


def scaled(lengths: Lengths, factor: float, plan: StagePlan) -> Lengths:
    """The same with completions longer or shorter, within the token limits of the plan."""
    most = {one.label: float(one.max_tokens) for one in _occasions(plan)}
    completion = {
        label: min(most.get(label, math.inf), value * factor) for label, value in lengths.completion.items()
    }
    limit = math.inf if plan.rollout is None else plan.rollout.max_tokens
    rollout = tuple(min(limit, value * factor) for value in lengths.rollout)
    example = lengths.example
    if plan.harvest is not None:
        label = plan.harvest.label
        example += completion[label] - lengths.completion[label]
    return replace(lengths, completion=completion, rollout=rollout, example=example)


def _occasions(plan: StagePlan) -> list[Sampled]:
    return [one for one in (plan.rollout, plan.harvest, plan.probe, *plan.exams) if one is not None]


def _same(plan: StagePlan, past: Sequence[PastRun], fits: Callable[[PastRun], bool]) -> list[PastRun]:
    """The runs that fit, the most telling last: started as good, from the same base, of the same stage."""
    fitting = [one for one in past if fits(one)]

    def telling(one: PastRun) -> tuple[float, bool, bool, bool]:
        same_base = bool(plan.base) and one.base == plan.base
        return -_apart(plan, one), same_base, one.plan.name == plan.name, one.plan.verb == plan.verb

    return sorted(fitting, key=telling)


def _apart(plan: StagePlan, one: PastRun) -> float:
    """By what factor a policy started better or worse, as a logarithm in coarse steps; 0 if it is not known.

    What a policy makes of its reward, and so how long it writes, depends on what it can do at first.
    """
    if plan.rollout is None or not plan.starts_right:
        return 0.0
    if not one.starts_right:
        return FAR
    return round(abs(math.log(plan.starts_right / one.starts_right)) / COARSE) * COARSE


def _spread_of(plan: StagePlan, best: PastRun) -> float:
    """Between runs of one stage, or of stages that are alike; more where what it does differs in size."""
    alike = best.plan.name == plan.name or (plan.base and best.base == plan.base)
    ours, theirs = plan.settings, best.plan.settings
    doubled = max(
        (abs(math.log2(ours[name] / theirs[name])) for name in ours if theirs.get(name)), default=0.0
    )
    return math.hypot(SAME_STAGE_SPREAD if alike else OTHER_STAGE_SPREAD, RESIZED_SPREAD * doubled)


def _asked(run: PastRun, wanted: Sampled) -> list[Sampled]:
    return [one for one in _occasions(run.plan) if one.problems == wanted.problems]


def _prompt(wanted: Sampled, past: Sequence[PastRun]) -> float:
    """Of the same problems in any run; else the guess, set right by how wrong it was on others."""
    for run in reversed(past):
        for one in _asked(run, wanted):
            if one.label in run.lengths.prompt:
                return run.lengths.prompt[one.label]
    factors = [
        run.lengths.prompt[one.label] / one.guess.prompt
        for run in past
        for one in _occasions(run.plan)
        if run.lengths.prompt.get(one.label)
    ]
    return wanted.guess.prompt * (factors[-1] if factors else 1.0)


def _completion(plan: StagePlan, wanted: Sampled, past: Sequence[PastRun]) -> _Found:
    def fits(run: PastRun) -> bool:
        return any(
            one.label == wanted.label and one.label in run.lengths.completion for one in _asked(run, wanted)
        )

    similar = _same(plan, past, fits)
    if similar:
        best = similar[-1]
        spread = _spread_of(plan, best)
        value = min(best.lengths.completion[wanted.label], wanted.max_tokens)
        return _Found(value=value, spread=spread, run_id=best.run_id)
    guess = wanted.guess
    spread = math.log(max(1.0, guess.high) / max(1.0, guess.low)) / SIGMAS_IN_GUESS
    return _Found(value=guess.completion, spread=spread, run_id="")


def _rollout(plan: StagePlan, past: Sequence[PastRun]) -> tuple[float, ...]:
    """The lengths of a policy's completions, step by step; empty where a stage has none.

    They are those of the most telling run on the same problems, moved to where this one starts.
    """
    rollout = plan.rollout
    if rollout is None or plan.learned is None:
        return ()
    similar = _same(plan, past, lambda run: _has_curve(run, rollout))
    if similar:
        curve = similar[-1].lengths.rollout
        moved = 0.0 if plan.starts_at is None else plan.starts_at - curve[0]
        return tuple(min(max(SHORTEST, value + moved), rollout.max_tokens) for value in curve)
    start = rollout.guess.completion if plan.starts_at is None else plan.starts_at
    end = max(start, rollout.guess.high)
    return tuple(
        min(rollout.max_tokens, end - (end - start) * math.exp(-step / STEPS_TO_LEARN))
        for step in range(plan.learned.num_steps)
    )


def _has_curve(run: PastRun, rollout: Sampled) -> bool:
    theirs = run.plan.rollout
    return theirs is not None and theirs.problems == rollout.problems and bool(run.lengths.rollout)


def _follow(plan: StagePlan, found: dict[str, _Found], curve: tuple[float, ...], num_steps: int) -> None:
    """What is sampled by a policy is as long as its curve says: probes on the way, exams at its end."""
    shown = [curve[min(step, len(curve) - 1)] for step in range(num_steps)]
    end = sum(shown[-3:]) / len(shown[-3:])
    mean = sum(shown) / len(shown)
    assert plan.rollout is not None, "only a policy has a curve"
    source = found[plan.rollout.label]
    found[plan.rollout.label] = replace(source, value=mean)
    if plan.probe is not None:
        found[plan.probe.label] = replace(found[plan.probe.label], value=mean, spread=source.spread)
    past_end = sum(curve[-3:]) / len(curve[-3:])
    for exam in plan.exams:
        known = found[exam.label]
        # An exam of a run of other length is as much longer or shorter as the policy was when it stopped.
        value = known.value * end / past_end if known.run_id else end
        found[exam.label] = replace(known, value=min(exam.max_tokens, value))


def _example(plan: StagePlan, lengths: Lengths, past: Sequence[PastRun]) -> float:
    learned = plan.learned
    if learned is None or learned.learning is Learning.REWARD:
        return 0.0
    similar = _same(
        plan,
        past,
        lambda run: (
            run.plan.learned is not None and run.plan.learned.data == learned.data and run.lengths.example > 0
        ),
    )
    if similar and (plan.harvest is None or similar[-1].plan.name == plan.name):
        return similar[-1].lengths.example
    if plan.harvest is not None:
        label = plan.harvest.label
        return lengths.prompt[label] + lengths.completion[label]
    # The same kind of data with other dials: the guess, set right by how wrong it was there.
    others = [
        run.lengths.example / run.plan.learned.guess_example_tokens
        for run in past
        if run.plan.learned is not None
        and run.plan.learned.learning is learned.learning
        and run.plan.harvest is None
        and run.lengths.example > 0
        and run.plan.learned.guess_example_tokens > 0
    ]
    return learned.guess_example_tokens * (others[-1] if others else 1.0)
