"""A scenario: companies, inputs and the machines they serve on, as one value. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date as Date

import numpy as np

from openbook.economics.basis import Basis
from openbook.economics.invest.correlation import RankCorrelation
from openbook.economics.invest.distributions import Distribution, Floats, Kind
from openbook.economics.invest.inputs import MARKET_INPUTS, spec_of
from openbook.economics.invest.serving import ServingChoice
from openbook.economics.sourced import Mark
from openbook.errors import UserError, nearest


@dataclass(frozen=True, kw_only=True, slots=True)
class Company:
    """Who invests. `basis` says whether its capex counts finance leases; both years of it do or neither."""

    key: str
    title: str
    basis: Basis


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """Everything that a simulation follows from, but the draws.

    `inputs` by name: a market input bare (`rent`), a company's own as `meta.first_capex` or `meta.rent`, a
    segment's as `segment.enterprise.elasticity`. `notes` say what does not fit together and was accepted.
    """

    name: str
    title: str
    says: str
    as_of: Date
    first_year: int
    num_years: int
    spending_years: int
    companies: tuple[Company, ...]
    segments: tuple[str, ...]
    serving: ServingChoice
    inputs: Mapping[str, Distribution]
    correlations: tuple[RankCorrelation, ...] = ()
    weight: float = 1.0
    notes: tuple[str, ...] = ()

    @property
    def years(self) -> range:
        return range(self.first_year, self.first_year + self.num_years)

    @property
    def uncertain(self) -> tuple[str, ...]:
        """Inputs that are no constants, in order."""
        return tuple(name for name, given in self.inputs.items() if not given.is_constant)

    def medians(self) -> dict[str, Floats]:
        """One path with every input at its median."""
        return {name: np.array([given.median]) for name, given in self.inputs.items()}

    def with_input(self, name: str, given: Distribution) -> Scenario:
        """The scenario with one input replaced, or a market input given to one company alone."""
        market = name.rpartition(".")[2] in MARKET_INPUTS and name.partition(".")[0] in {
            company.key for company in self.companies
        }
        if name not in self.inputs and not market:
            raise UserError(f"unknown input {name!r}", nearest(name, list(self.inputs)))
        spec_of(name).check(given, where=name)
        return replace(self, inputs={**self.inputs, name: given})

    def with_value(self, name: str, value: float, *, source: str = "set by hand") -> Scenario:
        """The scenario with one input held at `value`, marked as ours; its unit and date stay."""
        general = self.inputs.get(name) or self.inputs.get(name.rpartition(".")[2])
        if general is None:
            raise UserError(f"unknown input {name!r}", nearest(name, list(self.inputs)))
        held = replace(
            general,
            kind=Kind.CONSTANT,
            parameters={"value": value},
            source=source,
            mark=Mark.OURS,
            note="",
        )
        return self.with_input(name, held)

    def panel(self, draws: Mapping[str, Floats]) -> Panel:
        """The inputs as arrays; inputs that `draws` lacks have to be constants."""
        return Panel(scenario=self, draws=draws)


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """Draws by name, looked up by company. Arrays are [company or 1, path or 1]."""

    scenario: Scenario
    draws: Mapping[str, Floats]

    def __getitem__(self, name: str) -> Floats:
        keys = [company.key for company in self.scenario.companies]
        own = [f"{key}.{name}" in self.scenario.inputs for key in keys]
        if not any(own):
            if name in self.scenario.inputs:
                return self._row(name)[None, :]
            return np.full((1, 1), self._default(name))
        rows = [self._row(f"{key}.{name}" if mine else name) for key, mine in zip(keys, own, strict=True)]
        return np.stack(np.broadcast_arrays(*rows))

    def segment(self, key: str, name: str) -> Floats:
        """An input of a segment, as [1, path or 1]."""
        return self._row(f"segment.{key}.{name}")[None, :]

    @property
    def num_paths(self) -> int:
        return max((len(np.atleast_1d(draw)) for draw in self.draws.values()), default=1)

    def _row(self, name: str) -> Floats:
        if name in self.draws:
            draw = np.atleast_1d(np.asarray(self.draws[name], dtype=np.float64))
            return draw[:1] if draw.strides == (0,) else draw  # a constant, spread over the paths
        given = self.scenario.inputs.get(name)
        if given is None:
            return np.array([self._default(name)])
        assert given.is_constant, f"{name} is uncertain and has no draws"
        return np.array([given.median])

    def _default(self, name: str) -> float:
        default = spec_of(name).default
        assert default is not None, f"{name} is given neither for the market nor for every company"
        return default
