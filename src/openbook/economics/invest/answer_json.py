"""An answer as plain values for JSON: figures with their errors, inputs with their provenance. No torch."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from openbook.economics.invest.answer import Answer, Row
from openbook.economics.invest.backtest import Backtest, Held, conclusion, hold, read_backtest
from openbook.economics.invest.distributions import Distribution
from openbook.economics.invest.inputs import spec_of
from openbook.economics.invest.register import inconsistencies
from openbook.economics.invest.sampling import GENERATOR, MIN_SCRAMBLES, Plan
from openbook.economics.invest.scenario import Scenario
from openbook.economics.invest.statistics import Estimate, Summary
from openbook.economics.invest.walk import SERIES, Reached

BACKTEST_PATHS = MIN_SCRAMBLES * 256
LIBRARIES = ("openbook", "numpy", "scipy")


def answer_to_json(answer: Answer) -> dict[str, Any]:
    """Everything an answer holds but its single paths, and what is needed to make it again."""
    return {
        "scenario": scenario_to_json(answer.scenario),
        "reproduce": reproduce(answer.plan, answer.positions),
        "npv_usd_billion": summary_to_json(answer.value),
        "npv_by_company_usd_billion": {key: summary_to_json(one) for key, one in answer.by_company.items()},
        "moved_usd_billion": None if answer.moved is None else summary_to_json(answer.moved),
        "reached": {name: reached_to_json(one) for name, one in answer.reached.items()},
        "write_down": {
            "probability": estimate_to_json(answer.write_down_probability),
            "mean_where_there_is_one_usd_billion": estimate_to_json(answer.write_down_mean),
        },
        "at_the_medians": {
            "flows_usd_billion": list(answer.middle.flows),
            "npv_usd_billion": answer.middle.npv,
            "irr_roots": list(answer.middle.irr_roots),
        },
        "years": list(answer.scenario.years),
        "bands": {
            name: {"unit": SERIES[name], **bands_to_json(one)} for name, one in answer.walk.bands.items()
        },
        "free_cash_flow_by_company_usd_billion": {
            key: bands_to_json(one) for key, one in answer.walk.company_bands.items()
        },
        **sensitivity_to_json(answer),
        "decisions": decisions_to_json(answer),
        "backtest": backtest_to_json(),
        "inconsistencies": register_to_json(),
        "compared": [row_to_json(row) for row in answer.rows],
        "seconds": answer.seconds,
    }


def sensitivity_to_json(answer: Answer) -> dict[str, Any]:
    """Tornado, and Sobol' indices where they were asked for."""
    return {
        "tornado": [
            {
                "input": bar.name,
                "q10": bar.low_input,
                "q90": bar.high_input,
                "npv_at_q10_usd_billion": bar.at_low,
                "npv_at_q90_usd_billion": bar.at_high,
                "npv_at_medians_usd_billion": bar.base,
            }
            for bar in answer.tornado
        ],
        "sobol_indices": [
            {
                "input": index.name,
                "first": estimate_to_json(index.first),
                "total": estimate_to_json(index.total),
            }
            for index in answer.indices
        ],
    }


def decisions_to_json(answer: Answer) -> list[dict[str, Any]]:
    return [
        {
            "who": one.who,
            "question": one.question,
            "answer": one.answer,
            "details": list(one.details),
            "assumes": one.assumes,
            "figures": dict(one.figures),
        }
        for one in answer.decisions
    ]


def register_to_json() -> list[dict[str, Any]]:
    """Where the articles clash, what is adopted, and why."""
    return [
        {"topic": one.topic, "printed": list(one.printed), "adopted": one.adopted, "why": one.why}
        for one in inconsistencies()
    ]


@cache
def backtest_to_json() -> dict[str, Any]:
    """Capex of 2026 from what was public on one day, against what was said later; always the same."""
    test, rows = held_backtest()
    return {
        "public_until": test.public_until.isoformat(),
        "rows": [
            {
                "name": row.name,
                "basis": row.basis,
                **{name: estimate_to_json(one) for name, one in row.band.items()},
                "later_usd_billion": [row.later_low, row.later_high],
                "share_of_paths_below_later": [row.share_below_low, row.share_below_high],
                "verdict": str(row.verdict),
                "reason": row.reason,
            }
            for row in rows
        ],
        "conclusion": conclusion(rows),
    }


@cache
def held_backtest() -> tuple[Backtest, tuple[Held, ...]]:
    """The back-test that comes with the package, on its own paths."""
    test = read_backtest()
    return test, hold(test, Plan(num_paths=BACKTEST_PATHS))


def reproduce(plan: Plan, positions: Mapping[str, float]) -> dict[str, Any]:
    """Seed, paths, generator and the versions that the figures hang on."""
    return {
        "seed": plan.seed,
        "num_paths": plan.num_paths,
        "num_scrambles": plan.num_scrambles,
        "generator": GENERATOR,
        "held_inputs": dict(positions),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    }


def scenario_to_json(scenario: Scenario) -> dict[str, Any]:
    """A scenario with every input, its unit, meaning and provenance."""
    return {
        "name": scenario.name,
        "title": scenario.title,
        "says": scenario.says,
        "as_of": scenario.as_of.isoformat(),
        "companies": [
            {"key": one.key, "title": one.title, "basis": str(one.basis)} for one in scenario.companies
        ],
        "notes": list(scenario.notes),
        "weight": scenario.weight,
        "correlations": [
            {"inputs": [tie.first, tie.second], "spearman_rank": tie.rho} for tie in scenario.correlations
        ],
        "inputs": {name: input_to_json(name, one) for name, one in scenario.inputs.items()},
    }


def input_to_json(name: str, given: Distribution) -> dict[str, Any]:
    return {
        "kind": str(given.kind),
        "parameters": {
            key: list(one) if isinstance(one, tuple) else one for key, one in given.parameters.items()
        },
        "median": given.median,
        "unit": given.unit,
        "meaning": spec_of(name).meaning,
        "source": given.source,
        "date": given.date.isoformat(),
        "mark": str(given.mark),
        "note": given.note,
    }


def summary_to_json(summary: Summary) -> dict[str, Any]:
    return {
        "mean": estimate_to_json(summary.mean),
        "sd": estimate_to_json(summary.sd),
        **{name: estimate_to_json(one) for name, one in summary.quantiles.items()},
        "probability_of_loss": estimate_to_json(summary.probability_of_loss),
        "expected_shortfall_5_percent": estimate_to_json(summary.expected_shortfall),
    }


def row_to_json(row: Row) -> dict[str, Any]:
    return {
        "scenario": row.scenario.name,
        "title": row.scenario.title,
        "weight": row.scenario.weight,
        "npv_usd_billion": summary_to_json(row.value),
        "less_first_usd_billion": None if row.less_main is None else summary_to_json(row.less_main),
    }


def reached_to_json(one: Reached) -> dict[str, Any]:
    return {"share_of_paths": estimate_to_json(one.share), **one.quantiles}


def estimate_to_json(one: Estimate) -> dict[str, float | None]:
    return {"value": number(one.value), "standard_error": number(one.standard_error)}


def bands_to_json(bands: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]) -> dict[str, Any]:
    return {name: [number(float(one)) for one in values] for name, values in bands.items()}


def number(value: float) -> float | None:
    """JSON has no NaN: a number that does not exist is null."""
    return value if math.isfinite(value) else None
