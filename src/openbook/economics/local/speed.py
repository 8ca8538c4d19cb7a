"""Seconds from work: how long each term takes on a machine, from its profile or from past runs.

    Speed.of_profile(profile, num_threads=1)     rates of the machine, each times a constant
    fitted(prior, evidence)                      the same, moved towards what past runs took

A fit minimises the squared relative errors of the evidence plus the squared distance from the prior, term by
term, and no term may become negative: ridge regression to a prior, by coordinate descent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openbook.economics.local.work import Term, Work
from openbook.runs.machine_profile import MachineProfile, ShapeClass

SLOWNESS: Mapping[Term, float] = {
    Term.LAUNCHES: 4.0,
    Term.PRODUCTS: 0.9,
    Term.SCORES: 3.0,
    Term.ACTIVATIONS: 12.0,
    Term.LOGITS: 14.0,
    Term.MUON: 1.1,
    Term.STATE: 1.0,
    Term.EXAMPLES: 95.0,
    Term.SAMPLED_PRODUCTS: 0.95,
    Term.ENGINE_STEPS: 30.0,
    Term.SAMPLED_TOKENS: 1.2,
    Term.SEQUENCES: 55.0,
    Term.PUBLISHED: 4.0,
    Term.SAVED: 27.0,
}
"""How many times longer a term takes than its limit says."""

NOISE = 0.05
"""Relative error of one past stage: what the model leaves out, and what the machine did besides."""
PRIOR_SPREAD = 0.4
"""How far a term may be from the prior, relative to it, before past runs have spoken."""
SLOWEST, FASTEST = 8.0, 0.1
NUM_SWEEPS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Work that was done and how long it took; `weight` 1 is a stage, its parts share it."""

    work: Work
    seconds: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of each term's unit, in the order of `Term`."""

    seconds_per_unit: tuple[float, ...]

    @classmethod
    def typical(cls) -> Speed:
        """Of a machine that was not measured: the proportions of the server on which the constants were."""
        rates = (160e9, 114e9, 16e9, 2.0e-6, 5.3e-6)
        return cls._of_limits(*rates)

    @classmethod
    def of_profile(cls, profile: MachineProfile, *, num_threads: int) -> Speed:
        """From what was measured of a machine alone."""
        return cls._of_limits(
            profile.product_rate("fp32", ShapeClass.SKINNY, num_threads),
            profile.product_rate("fp32", ShapeClass.FEW_ROWS, num_threads),
            profile.read_rate(num_threads),
            profile.dispatch_microseconds / 1e6,
            profile.gradient_microseconds / 1e6,
        )

    @classmethod
    def _of_limits(
        cls,
        products_per_second: float,
        few_rows_per_second: float,
        bytes_per_second: float,
        start: float,
        recorded: float,
    ) -> Speed:
        """From FLOP/s of products, many rows and few, bytes/s, and seconds to start an operator."""
        product, few_rows, byte = 1 / products_per_second, 1 / few_rows_per_second, 1 / bytes_per_second
        limits = {
            Term.LAUNCHES: recorded,
            Term.PRODUCTS: product,
            Term.SCORES: product,
            Term.ACTIVATIONS: byte,
            Term.LOGITS: byte,
            Term.MUON: product,
            Term.STATE: byte,
            Term.EXAMPLES: start,
            Term.SAMPLED_PRODUCTS: few_rows,
            Term.ENGINE_STEPS: start,
            Term.SAMPLED_TOKENS: start,
            Term.SEQUENCES: start,
            Term.PUBLISHED: byte,
            Term.SAVED: byte,
        }
        return cls(tuple(limits[term] * SLOWNESS[term] for term in Term))

    def seconds(self, work: Work) -> float:
        """How long `work` takes."""
        return sum(unit * amount for unit, amount in zip(self.seconds_per_unit, work.amounts, strict=True))

    def by_term(self, work: Work) -> dict[Term, float]:
        """Which term takes how much of it."""
        return {
            term: unit * amount
            for term, unit, amount in zip(Term, self.seconds_per_unit, work.amounts, strict=True)
        }

    def __mul__(self, factor: float) -> Speed:
        return Speed(tuple(unit * factor for unit in self.seconds_per_unit))


def fitted(prior: Speed, evidence: Sequence[Evidence]) -> Speed:
    """The prior, moved towards the evidence; without any it is the prior itself."""
    size = len(Term)
    pull = 1 / PRIOR_SPREAD**2
    matrix = [[pull if row == column else 0.0 for column in range(size)] for row in range(size)]
    target = [pull] * size
    for one in evidence:
        shares = [
            unit * amount / one.seconds
            for unit, amount in zip(prior.seconds_per_unit, one.work.amounts, strict=True)
        ]
        weight = one.weight / NOISE**2
        for row, share in enumerate(shares):
            if share:
                target[row] += weight * share
                for column, other in enumerate(shares):
                    matrix[row][column] += weight * share * other
    factors = _descend(matrix, target)
    return Speed(tuple(unit * factor for unit, factor in zip(prior.seconds_per_unit, factors, strict=True)))


def _descend(matrix: Sequence[Sequence[float]], target: Sequence[float]) -> list[float]:
    """The factors within bounds that minimise the quadratic form."""
    factors = [1.0] * len(target)
    for _ in range(NUM_SWEEPS):
        change = 0.0
        for row, values in enumerate(matrix):
            rest = sum(value * factor for value, factor in zip(values, factors, strict=True))
            rest -= values[row] * factors[row]
            best = min(SLOWEST, max(FASTEST, (target[row] - rest) / values[row]))
            change = max(change, abs(best - factors[row]))
            factors[row] = best
        if change < 1e-7:
            break
    return factors
