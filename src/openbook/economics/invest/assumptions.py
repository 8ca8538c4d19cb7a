"""Scenarios from TOML, read strictly: every value with its unit, source, date and mark. No torch.

    load_scenario("article")        load_scenario(Path("my.toml"))

A file may `extends` a scenario of the package or a file beside it. What is missing, contradictory, in a wrong
unit, out of bounds or on mixed bases is refused, and the error names file and line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openbook.economics.basis import Basis, Quantity
from openbook.economics.invest.correlation import RankCorrelation, correlated_groups
from openbook.economics.invest.distributions import Distribution
from openbook.economics.invest.inputs import COMPANY_INPUTS, MARKET_INPUTS, SEGMENT_INPUTS, InputSpec, support
from openbook.economics.invest.scenario import Company, Scenario
from openbook.economics.invest.scenario_file import (
    NAMES,
    InputEntry,
    ScenarioFile,
    parse_layers,
    place_of,
    read_layers,
    template_text,
)
from openbook.economics.sourced_file import find_source
from openbook.errors import UserError, nearest

__all__ = ["NAMES", "load_scenario", "template_text"]

ADDS_UP = 0.005
"""How far, as a share, companies may add up to something else than the stated total."""

BASES = {"cash": Basis.CASH_CAPEX, "with leases": Basis.LEASE_CAPEX}


def load_scenario(name: str | Path) -> Scenario:
    """A scenario of the package by name, or the one in a file. Raises UserError with the line to change."""
    layers = read_layers(name)
    try:
        file = parse_layers(layers)
        return _Reader(file=file, name=Path(name).stem).scenario()
    except UserError as error:
        raise UserError(f"{place_of(layers, error.what)}: {error.what}", error.mend) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reader:
    """From a checked file to a scenario; each error starts with the dotted key."""

    file: ScenarioFile
    name: str

    def scenario(self) -> Scenario:
        file = self.file
        self._check_companies()
        self._check_serving()
        inputs = self._inputs("market", "", file.market, MARKET_INPUTS)
        for key, company in file.companies.items():
            specs = {**MARKET_INPUTS, **COMPANY_INPUTS}
            inputs |= self._inputs(f"companies.{key}.inputs", f"{key}.", company.inputs, specs)
        for key, segment in file.segments.items():
            given = {name: getattr(segment, name) for name in SEGMENT_INPUTS}
            inputs |= self._inputs(f"segments.{key}", f"segment.{key}.", given, SEGMENT_INPUTS)
        self._check_complete(inputs)
        self._check_shares(inputs)
        self._check_seats(inputs)
        self._check_dates(inputs)
        ties = self._ties(inputs)
        notes = self._check_total(inputs)
        return Scenario(
            name=self.name,
            title=file.title,
            says=file.says,
            as_of=file.as_of,
            first_year=file.first_year,
            num_years=file.num_years,
            spending_years=file.spending_years,
            companies=tuple(
                Company(
                    key=key,
                    title=one.title,
                    basis=BASES[one.basis],
                )
                for key, one in file.companies.items()
            ),
            segments=tuple(file.segments),
            serving=file.serving,
            inputs=inputs,
            correlations=ties,
            weight=file.weight,
            notes=notes,
        )

    def _inputs(
        self, where: str, prefix: str, given: Mapping[str, InputEntry], specs: Mapping[str, InputSpec]
    ) -> dict[str, Distribution]:
        found = {}
        for name, entry in given.items():
            here = f"{where}.{name}"
            if name not in specs:
                raise UserError(f"{here}: unknown input", nearest(name, list(specs)))
            distribution = self._distribution(entry, here)
            specs[name].check(distribution, where=here)
            found[prefix + name] = distribution
        return found

    def _distribution(self, entry: InputEntry, where: str) -> Distribution:
        source = find_source(entry.source, self.file.sources, where=where)
        said = entry.date or source.date
        if said > self.file.as_of:
            raise UserError(
                f"{where}: its source is of {said}, the scenario of {self.file.as_of}",
                "a scenario rests on what was known on its day: change as_of or the source",
            )
        try:
            return Distribution(
                kind=entry.kind,
                parameters=entry.parameters(),
                unit=entry.unit,
                source=source.title,
                date=said,
                mark=entry.mark or source.mark,
                note=entry.note,
            )
        except UserError as error:
            raise UserError(f"{where}: {error.what}", error.mend) from error

    def _check_companies(self) -> None:
        if not self.file.companies:
            raise UserError("companies: none is given", "add [companies.NAME]")
        for key, company in self.file.companies.items():
            where = f"companies.{key}"
            if "." in key or key in ("segment", *MARKET_INPUTS):
                raise UserError(
                    f"{where}: a company cannot be called {key!r}", "give a short name of its own"
                )
            if company.period == "fiscal":
                raise UserError(
                    f"{where}.period: the model runs in calendar years, and these are fiscal",
                    "give capex by calendar year: fiscal 2026 of a year to June is half 2025",
                )
            lease = company.inputs.get("lease_share")
            if company.basis == "cash" and lease is not None and lease.value != 0:
                raise UserError(
                    f"{where}.inputs.lease_share: capex on a cash basis holds no finance leases",
                    'leave it out, or give all its capex on the basis "with leases"',
                )
            if company.basis == "with leases" and lease is None:
                raise UserError(
                    f'{where}.basis: capex "with leases" needs lease_share',
                    "free cash flow takes off cash alone: say what share of the capex is leased",
                )

    def _check_serving(self) -> None:
        try:
            assert self.file.serving.device_hours_per_million > 0
        except UserError as error:
            raise UserError(f"serving: {error.what}", error.mend) from error

    def _check_complete(self, inputs: Mapping[str, Distribution]) -> None:
        for name in MARKET_INPUTS:
            missing = [key for key in self.file.companies if f"{key}.{name}" not in inputs]
            if name not in inputs and missing:
                raise UserError(f"market.{name}: missing", f"it is {MARKET_INPUTS[name].meaning}")
        for key in self.file.companies:
            for name, spec in COMPANY_INPUTS.items():
                if spec.default is None and f"{key}.{name}" not in inputs:
                    raise UserError(f"companies.{key}.inputs.{name}: missing", f"it is {spec.meaning}")

    def _check_shares(self, inputs: Mapping[str, Distribution]) -> None:
        for key in self.file.segments:
            if not inputs[f"segment.{key}.share"].is_constant:
                raise UserError(f"segments.{key}.share: must be a constant", "shares have to add up to 1")
        total = sum(inputs[f"segment.{key}.share"].median for key in self.file.segments)
        sells = any(f"{key}.api_spend" in inputs for key in self.file.companies)
        if self.file.segments and abs(total - 1) > 1e-9:
            raise UserError(f"segments: the shares add up to {total:g}", "they must add up to 1")
        if sells and not self.file.segments:
            raise UserError(
                "segments: none is given", "token sales need at least one, with share and elasticity"
            )

    def _check_seats(self, inputs: Mapping[str, Distribution]) -> None:
        for key in self.file.companies:
            now, most = inputs.get(f"{key}.seats_now"), inputs.get(f"{key}.seats_addressable")
            where = f"companies.{key}.inputs"
            if most is not None and (now is None or support(now)[0] <= 0):
                raise UserError(
                    f"{where}.seats_addressable: nobody has a seat yet",
                    "an S-curve that starts at 0 stays there: give seats_now above 0",
                )
            if now is not None and (most is None or support(now)[1] > support(most)[0]):
                raise UserError(
                    f"{where}.seats_now: more seats than seats_addressable",
                    "adoption is a share: give as many addressable seats or more",
                )

    def _check_dates(self, inputs: Mapping[str, Distribution]) -> None:
        first, end = self.file.first_year, self.file.first_year + self.file.num_years
        for name, given in inputs.items():
            if given.unit != "year":
                continue
            low, _ = support(given)
            if low < first or low > end:
                owner, _, last = name.rpartition(".")
                where = f"companies.{owner}.inputs.{last}" if owner else f"market.{last}"
                raise UserError(
                    f"{where}: {low:g} is outside {first} to {end}",
                    "an event falls within the years of the scenario: give another",
                )

    def _ties(self, inputs: Mapping[str, Distribution]) -> tuple[RankCorrelation, ...]:
        ties = []
        for place, tie in enumerate(self.file.correlations):
            where = f"correlations[{place}]"
            find_source(tie.source, self.file.sources, where=where)
            for name in tie.between:
                if name not in inputs:
                    raise UserError(f"{where}.between: unknown input {name!r}", nearest(name, list(inputs)))
                if inputs[name].is_constant:
                    raise UserError(
                        f"{where}.between: {name} is a constant", "give it a distribution, or drop the tie"
                    )
            ties.append(RankCorrelation(first=tie.between[0], second=tie.between[1], rho=tie.rank))
        try:
            uncertain = [name for name, given in inputs.items() if not given.is_constant]
            correlated_groups(uncertain, ties)
        except UserError as error:
            raise UserError(f"correlations: {error.what}", error.mend) from error
        return tuple(ties)

    def _check_total(self, inputs: Mapping[str, Distribution]) -> tuple[str, ...]:
        """A sentence where companies do not add up and the file says why that is accepted."""
        stated = self.file.stated
        if stated is None:
            return ()
        find_source(stated.source, self.file.sources, where="stated")
        given = [
            Quantity(
                value=inputs[f"{key}.first_capex"].median,
                unit=stated.unit,
                basis=BASES[one.basis],
                name=f"capex of {one.title}",
            )
            for key, one in self.file.companies.items()
        ]
        if not stated.split_note:
            try:
                total = sum(given[1:], start=given[0]).value
            except UserError as error:
                raise UserError(
                    f"stated.value: {error.what}", "bring them to one basis, or say in split_note why not"
                ) from error
            if abs(total - stated.value) > ADDS_UP * stated.value:
                raise UserError(
                    f"stated.value: the companies add up to {total:.6g}, not {stated.value:g} USD billion",
                    "mend a figure, or say in split_note why they differ",
                )
            return ()
        leased = [one.title for one in self.file.companies.values() if one.basis == "with leases"]
        says = f"The companies add up to {sum(one.value for one in given):.6g} USD billion"
        says += f" (finance leases counted at {', '.join(leased)})" if leased else ""
        return (f"{says}; {stated.value:g} is stated. {stated.split_note}",)
