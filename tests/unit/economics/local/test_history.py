"""Runs on disk as work and seconds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from openbook.economics.local.history import evidence_of, read_past_run
from openbook.economics.local.stage_work import Part
from openbook.economics.local.stages import StagePlan
from openbook.economics.local.work import Term
from openbook.runs.run import Run


def test_lines_are_told_apart_by_what_they_were_for(
    make_run: Callable[[str], Run], policy_plan: StagePlan
) -> None:
    past = read_past_run(make_run("zero"), policy_plan)
    assert [line.part for line in past.lines] == [Part.LEARNING] * 10 + [Part.EXAMS] * 2
    assert past.num_steps == 10 and past.is_done and past.device == "cpu" and past.num_threads == 1
    assert past.cpu_seconds == pytest.approx(10 * 0.5 + 2 * 0.1)
    assert past.tokens.completion == 32 * sum(range(11, 21)) + 2 * 8 * 18


def test_lengths_are_those_that_the_lines_show(
    make_run: Callable[[str], Run], policy_plan: StagePlan
) -> None:
    lengths = read_past_run(make_run("zero"), policy_plan).lengths
    assert lengths.rollout == tuple(float(10 + step) for step in range(1, 11))
    assert lengths.prompt["rollout"] == 640 / 32, "what was found in the cache is part of a prompt"
    assert lengths.completion["held_out"] == 18
    assert lengths.completion["probe"] == pytest.approx(10 + 6)


def test_a_probe_and_a_saved_state_are_on_the_line_of_the_next_step(
    make_run: Callable[[str], Run], policy_plan: StagePlan
) -> None:
    lines = read_past_run(make_run("zero"), policy_plan).lines
    probed = [line.work.by_term()[Term.SEQUENCES] for line in lines[:10]]
    assert probed == [32, 32, 40, 32, 40, 32, 40, 32, 40, 32]
    saved = [line.work.by_term()[Term.SAVED] > 0 for line in lines[:10]]
    assert [number for number, one in enumerate(saved) if one] == [4, 8]


def test_work_that_was_thrown_away_is_lost_and_no_evidence(
    make_run: Callable[[str], Run], policy_plan: StagePlan
) -> None:
    run = make_run("zero")
    whole = read_past_run(run, policy_plan)
    again = Run.create(run.folder.parent / "rewound", verb="rl", stage="zero", recipe={}, seed=0)
    again.start(device="cpu")
    for line in run.usage_lines()[:3]:
        again.record(line.usage)
        again.log(1, {})
    again.interrupt()
    again = Run.open(again.folder)
    again.start(device="cpu")
    again.truncate_metrics(after_step=0)
    for line in run.usage_lines():
        again.record(line.usage)
    again.finish()
    rewound = read_past_run(again, policy_plan)
    assert rewound.lost_device_seconds == pytest.approx(3 * 0.5)
    assert rewound.cpu_seconds == pytest.approx(whole.cpu_seconds)


def test_all_steps_weigh_as_much_as_all_calls(make_run: Callable[[str], Run], policy_plan: StagePlan) -> None:
    past = read_past_run(make_run("zero"), policy_plan)
    evidence = evidence_of(past)
    assert sum(one.weight for one in evidence) == pytest.approx(2)
    assert sum(one.seconds for one in evidence) == pytest.approx(past.cpu_seconds)
