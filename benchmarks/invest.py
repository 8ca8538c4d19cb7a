"""How `openbook invest` converges and how long it takes -> Markdown.

    python benchmarks/invest.py                 # all of it
    python benchmarks/invest.py convergence     # error against points, quasi-random and random
    python benchmarks/invest.py speed           # paths, seconds and memory; the command as people run it

Errors are root mean squares over seeds of how far the mean over paths misses the truth. The closed form is
the mean of a product of six lognormals; the scenario's truth is its own mean over 2^21 paths. Random draws
use the same inputs with numpy's PCG64. Each speed is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from openbook.economics.invest.correlation import RankCorrelation, correlated_groups
from openbook.economics.invest.distributions import Distribution, Kind
from openbook.economics.invest.sampling import Draws, Plan, Sampler, columns_of, over_scrambles, values_at
from openbook.economics.invest.scenario import Scenario
from openbook.economics.invest.walk import correlations_of, total_npv, walk
from openbook.economics.sourced import Mark

Floats = npt.NDArray[np.float64]

SCENARIO = "article"
SIZES = tuple(2**power for power in range(9, 19, 2))
NUM_SEEDS = 16
LOG_SD = 0.3
TRUTH_PATHS = 2**21
SPEEDS = (65_536, 2**20)


def lognormals(count: int) -> dict[str, Distribution]:
    """Independent inputs of median 1."""
    one = Distribution(
        kind=Kind.LOGNORMAL,
        parameters={"median": 1.0, "log_sd": LOG_SD},
        unit="1",
        source="this benchmark",
        date=date(2026, 1, 29),
        mark=Mark.OURS,
    )
    return {f"x{number}": one for number in range(count)}


def product(draws: Draws) -> Floats:
    """The closed form: its mean is exp(count x LOG_SD^2 / 2)."""
    return np.asarray(np.prod(np.stack(list(draws.values())), axis=0))


def scenario() -> Scenario:
    """The scenario that speed and convergence are measured on."""
    from openbook.economics.invest.assumptions import load_scenario

    return load_scenario(SCENARIO)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A figure of uncertain inputs whose mean is asked for."""

    title: str
    inputs: Mapping[str, Distribution]
    ties: tuple[RankCorrelation, ...]
    figure: Callable[[Draws], Floats]

    def quasi_mean(self, plan: Plan) -> float:
        """The mean over scrambled Sobol' points."""
        sampler = Sampler(plan=plan, columns=columns_of(self.inputs))
        means = [
            self.figure(sampler.draw(self.inputs, self.ties, scramble)).mean()
            for scramble in range(plan.num_scrambles)
        ]
        return float(np.mean(means))

    def random_mean(self, plan: Plan) -> float:
        """The mean over as many random points."""
        stream = np.random.Generator(np.random.PCG64(plan.seed))
        names = columns_of(self.inputs)
        levels = {name: stream.random(plan.num_paths) for name in names}
        groups = correlated_groups(names, self.ties)
        return float(self.figure(values_at(self.inputs, levels, groups, plan.num_paths)).mean())


def convergence() -> str:
    """Both tables and their slopes."""
    given = scenario()
    closed = Question(title="product of six lognormals", inputs=lognormals(6), ties=(), figure=product)
    npv = Question(
        title=f"NPV of the scenario {SCENARIO!r}, USD billion",
        inputs=given.inputs,
        ties=correlations_of(given),
        figure=functools.partial(total_npv, given),
    )
    truth = npv.quasi_mean(Plan(num_paths=TRUTH_PATHS, seed=10**6))
    return "\n\n".join([_table(closed, math.exp(6 * LOG_SD**2 / 2)), _table(npv, truth)])


def _table(question: Question, truth: float) -> str:
    rows = [f"Error of the mean: {question.title}, truth {truth:.6g}", ""]
    rows += ["| points | Sobol' | random | ratio |", "|---:|---:|---:|---:|"]
    errors: dict[str, list[float]] = {"quasi": [], "random": []}
    for size in SIZES:
        plans = [Plan(num_paths=size, seed=seed) for seed in range(NUM_SEEDS)]
        for kind, mean in (("quasi", question.quasi_mean), ("random", question.random_mean)):
            errors[kind].append(math.sqrt(np.mean([(mean(plan) - truth) ** 2 for plan in plans])))
        quasi, random = errors["quasi"][-1], errors["random"][-1]
        rows.append(f"| {size:,} | {quasi:.3g} | {random:.3g} | {random / quasi:.1f} |")
    slopes = [np.polyfit(np.log(SIZES), np.log(errors[kind]), 1)[0] for kind in errors]
    rows.append(
        f"\nError falls as points to the power {slopes[0]:.2f} (Sobol') and {slopes[1]:.2f} (random)."
    )
    return "\n".join(rows)


def speed() -> str:
    """Seconds and memory: NPVs alone, and everything an answer keeps; then the command."""
    rows = ["| what | paths | seconds | of processor | peak memory |", "|---|---:|---:|---:|---:|"]
    for what in ("npv", "walk"):
        for paths in SPEEDS:
            command = [sys.executable, __file__, "one", what, str(paths)]
            told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            cells = (f"{told['seconds']:.2f}", f"{told['cpu_seconds']:.2f}", f"{told['peak_mib']:,.0f} MiB")
            rows.append(f"| {what} | {paths:,} | {' | '.join(cells)} |")
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "openbook", "invest"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begun)
    rows.append(f"| `openbook invest` | default | {sorted(seconds)[2]:.2f} (median of 5) | | |")
    return "\n".join(rows)


def one(what: str, num_paths: int) -> dict[str, float]:
    """One speed in this process: draws and simulation, the scenario read and scipy imported before."""
    import scipy.special  # noqa: F401

    given = scenario()
    sampler = Sampler(plan=Plan(num_paths=num_paths), columns=columns_of(given.inputs))
    ties = correlations_of(given)
    begun, begun_cpu = time.perf_counter(), time.process_time()
    if what == "walk":
        walk(given, sampler)
    else:
        over_scrambles(
            lambda scramble: total_npv(given, sampler.draw(given.inputs, ties, scramble)),
            sampler.plan.num_scrambles,
        )
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - begun_cpu
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": peak_kib / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=["convergence", "speed", "one"])
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part == "one":
        print(json.dumps(one(given.rest[0], int(given.rest[1]))))
        return
    if given.part in (None, "convergence"):
        print(convergence(), end="\n\n")
    if given.part in (None, "speed"):
        print(speed())


if __name__ == "__main__":
    main()
