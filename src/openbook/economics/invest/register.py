"""Where figures come from, and where the articles contradict themselves: tables for the reader. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date as Date
from functools import cache
from importlib import resources

from openbook.config import config, parse_toml
from openbook.economics.invest.distributions import Distribution, Kind
from openbook.economics.invest.inputs import spec_of
from openbook.economics.invest.scenario import Scenario
from openbook.economics.sourced import Mark


@config
class Inconsistency:
    """What was printed, what is adopted, and why (fact sheet 3)."""

    topic: str
    printed: tuple[str, ...]
    adopted: str
    why: str


@config
class RegisterFile:
    """The register as its file has it."""

    rows: tuple[Inconsistency, ...]


@cache
def inconsistencies() -> tuple[Inconsistency, ...]:
    """The register, in the order of its file."""
    file = resources.files("openbook.economics").joinpath("data/invest/register.toml")
    return parse_toml(RegisterFile, file.read_text("utf-8"), where="register.toml").rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """One input as a reader has to see it: its value or band, unit, and who says so since when."""

    name: str
    meaning: str
    value: str
    unit: str
    source: str
    date: Date
    mark: Mark
    note: str


def provenance(scenario: Scenario) -> tuple[Provenance, ...]:
    """Every input of a scenario, second-hand figures and own assumptions marked as what they are."""
    return tuple(
        Provenance(
            name=name,
            meaning=spec_of(name).meaning,
            value=show(given),
            unit=given.unit,
            source=given.source,
            date=given.date,
            mark=given.mark,
            note=given.note,
        )
        for name, given in scenario.inputs.items()
    )


def show(given: Distribution) -> str:
    """`30`, or for an uncertain input its median and its band from q05 to q95: `35 (31.1 to 48.9)`."""
    if given.kind is Kind.CONSTANT:
        return f"{given.median:g}"
    return f"{given.median:.4g} ({given.quantile(0.05):.4g} to {given.quantile(0.95):.4g})"
