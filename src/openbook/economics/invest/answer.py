"""The answer: a scenario on many paths, beside others on the same paths, and what matters in it. No torch.

    study = prepare(scenario, others=(...), plan=Plan(num_paths=8192, seed=0))
    answer(study)                          Answer
    answer(study, {"utilisation": 0.5})    the same with an input held, paired with the one before

All scenarios of a study are drawn with one sampler, so inputs of one name take the same latent numbers in
each of them and differences are paired.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from openbook.economics.invest.assumptions import NAMES, load_scenario
from openbook.economics.invest.decisions import Decision, decisions
from openbook.economics.invest.dials import held
from openbook.economics.invest.distributions import Floats
from openbook.economics.invest.finance import irr_roots
from openbook.economics.invest.model import simulate
from openbook.economics.invest.sampling import MIN_SCRAMBLES, Plan, Sampler, columns_of, over_scrambles
from openbook.economics.invest.scenario import Scenario
from openbook.economics.invest.sensitivity import SobolIndex, TornadoBar, sobol_indices, tornado
from openbook.economics.invest.statistics import (
    Estimate,
    Summary,
    mean_if_positive,
    probability_above,
    summarise,
)
from openbook.economics.invest.walk import Reached, Walk, correlations_of, reached, total_npv, walk

DEFAULT_PATHS = MIN_SCRAMBLES * 256
INDEX_PATHS = MIN_SCRAMBLES * 32
"""Points of Sobol' indices, each of which costs as many paths as there are inputs and two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """What answers are given about: one scenario, others to compare it with, and their paths."""

    scenario: Scenario
    others: tuple[Scenario, ...]
    sampler: Sampler
    index_plan: Plan
    npv_of: Mapping[str, Floats] = field(repr=False)
    """The companies' NPV together by path, for the scenario as given and for each of the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One scenario among those compared; `less_main` is its NPV less the main one's, path by path."""

    scenario: Scenario
    value: Summary
    less_main: Summary | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Middle:
    """The one path with every input at its median: its flows, year 0 first, and every rate of return."""

    flows: tuple[float, ...]
    npv: float
    irr_roots: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What `openbook invest` says of a scenario. Money is in USD billion."""

    scenario: Scenario
    plan: Plan
    positions: Mapping[str, float]
    value: Summary
    by_company: Mapping[str, Summary]
    reached: Mapping[str, Reached]
    """Of numbers that a path may not have: rates of return, paybacks, break-even utilisation."""
    write_down_probability: Estimate
    write_down_mean: Estimate
    """Where there is one."""
    middle: Middle
    walk: Walk = field(repr=False)
    tornado: tuple[TornadoBar, ...]
    indices: tuple[SobolIndex, ...]
    rows: tuple[Row, ...]
    decisions: tuple[Decision, ...]
    moved: Summary | None
    """With inputs held: how far that moves the NPV, path by path."""
    seconds: float


def prepare(
    scenario: Scenario, *, others: tuple[Scenario, ...] = (), plan: Plan, movable: bool = False
) -> Study:
    """Draw all scenarios on the same paths; a `movable` one is to be answered with inputs held.

    Raises UserError for correlations that cannot be.
    """
    everyone = (scenario, *others)
    assert len({one.name for one in everyone}) == len(everyone), [one.name for one in everyone]
    sampler = Sampler(plan=plan, columns=_columns(scenario, others))
    return Study(
        scenario=scenario,
        others=others,
        sampler=sampler,
        index_plan=Plan(num_paths=min(INDEX_PATHS, plan.num_paths), seed=plan.seed),
        npv_of={one.name: _npv(one, sampler) for one in (everyone if movable else others)},
    )


def answer(
    study: Study, positions: Mapping[str, float] | None = None, *, with_indices: bool = True
) -> Answer:
    """The answer with some inputs held at values. Raises UserError for those that cannot be.

    Sobol' indices take a third of the time, and who shows none can leave them out.
    """
    begun = time.perf_counter()
    given = dict(sorted((positions or {}).items()))
    scenario = held(study.scenario, given)
    num_scrambles = study.sampler.plan.num_scrambles
    walked = walk(scenario, study.sampler)
    varies = np.ptp(walked.total_npv) > 0
    evaluate, ties = functools.partial(total_npv, scenario), correlations_of(scenario)
    wanted = with_indices and varies
    return Answer(
        scenario=scenario,
        plan=study.sampler.plan,
        positions=given,
        value=summarise(walked.total_npv, num_scrambles),
        by_company={
            company.key: summarise(walked.npv[place], num_scrambles)
            for place, company in enumerate(scenario.companies)
        },
        reached={
            name: reached(values, num_scrambles)
            for name, values in walked.of_paths.items()
            if name != "written_down"
        },
        write_down_probability=probability_above(walked.of_paths["written_down"], 0.0, num_scrambles),
        write_down_mean=mean_if_positive(walked.of_paths["written_down"], num_scrambles),
        middle=_middle(scenario),
        walk=walked,
        tornado=tornado(scenario.inputs, evaluate) if varies else (),
        indices=sobol_indices(scenario.inputs, evaluate, study.index_plan, ties) if wanted else (),
        rows=_rows(study, scenario, walked),
        decisions=decisions(scenario),
        moved=summarise(walked.total_npv - study.npv_of[scenario.name], num_scrambles) if given else None,
        seconds=time.perf_counter() - begun,
    )


def _columns(scenario: Scenario, others: tuple[Scenario, ...]) -> tuple[str, ...]:
    """Columns by name: first those of the package's scenarios, then this one's, then the others'.

    So a scenario's figures hang on its file and the seed, and not on what it is compared with.
    """
    given = {one.name: one for one in (scenario, *others)}
    package = columns_of(*((given.get(name) or load_scenario(name)).inputs for name in NAMES))
    return columns_of(*(one.inputs for one in others), first=columns_of(scenario.inputs, first=package))


def _npv(scenario: Scenario, sampler: Sampler) -> Floats:
    ties = correlations_of(scenario)

    def of(scramble: int) -> Floats:
        return total_npv(scenario, sampler.draw(scenario.inputs, ties, scramble))

    return np.concatenate(over_scrambles(of, sampler.plan.num_scrambles))


def _middle(scenario: Scenario) -> Middle:
    outcome = simulate(scenario, scenario.medians())
    flows = outcome.flows.sum(axis=0)[:, 0]
    return Middle(
        flows=tuple(float(one) for one in flows),
        npv=float(outcome.npv.sum(axis=0)[0]),
        irr_roots=irr_roots(flows),
    )


def _rows(study: Study, scenario: Scenario, walked: Walk) -> tuple[Row, ...]:
    num_scrambles = study.sampler.plan.num_scrambles
    main = walked.total_npv
    first = Row(scenario=scenario, value=summarise(main, num_scrambles), less_main=None)
    return (
        first,
        *(
            Row(
                scenario=other,
                value=summarise(study.npv_of[other.name], num_scrambles),
                less_main=summarise(study.npv_of[other.name] - main, num_scrambles),
            )
            for other in study.others
        ),
    )
