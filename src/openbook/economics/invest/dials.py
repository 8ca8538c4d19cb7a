"""What can be turned: inputs held at a value, by name or all of one kind, and the dials of the served page.

held(scenario, {"utilisation": 0.5})      every company's utilisation
held(scenario, {"elasticity": -1.4})      every segment's
held(scenario, {"meta.first_capex": 120}) one company's input
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from openbook.economics.invest.inputs import spec_of
from openbook.economics.invest.scenario import Scenario
from openbook.errors import UserError, nearest

BY_HAND = "set by hand"


@dataclass(frozen=True, kw_only=True, slots=True)
class Dial:
    """One input and how far it can be turned. Shown as `before` + value x `scale` + `after`."""

    name: str
    title: str
    low: float
    high: float
    step: float
    scale: float = 1.0
    digits: int = 0
    before: str = ""
    after: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class DialAt:
    """A dial where a scenario has it: at the median of its inputs, which may lie on a range."""

    dial: Dial
    value: float
    uncertain: bool
    differs: bool
    """Whether companies or segments differ in it."""


DIALS = (
    Dial(
        name="api_price", title="Price of a million tokens", low=0.05, high=6, step=0.05, digits=2, before="$"
    ),
    Dial(name="seat_price", title="Price of a seat a month", low=5, high=60, step=1, before="$"),
    Dial(name="rent", title="Rent of a machine for an hour", low=1, high=8, step=0.05, digits=2, before="$"),
    Dial(name="elasticity", title="Own-price elasticity of tokens", low=-2.5, high=0, step=0.05, digits=2),
    Dial(
        name="utilisation",
        title="Busy share of paid hours",
        low=0.05,
        high=0.95,
        step=0.01,
        scale=100,
        after=" %",
    ),
    Dial(name="economic_life", title="Years that machines earn", low=2, high=8, step=0.25, digits=2),
    Dial(
        name="api_growth", title="Growth of tokens a year", low=-0.2, high=3, step=0.05, scale=100, after=" %"
    ),
    Dial(
        name="capex_growth",
        title="Growth of capex a year",
        low=-0.6,
        high=0.6,
        step=0.01,
        scale=100,
        after=" %",
    ),
    Dial(
        name="discount_rate",
        title="Cost of capital",
        low=0.03,
        high=0.2,
        step=0.0025,
        scale=100,
        digits=2,
        after=" %",
    ),
)


def held(scenario: Scenario, values: Mapping[str, float]) -> Scenario:
    """The scenario with inputs held at `values`: those of that name, or all whose last part it is.

    Raises UserError for an unknown input or a value out of its bounds.
    """
    for name, value in sorted(values.items(), key=lambda one: "." in one[0]):  # a company's own wins
        found = matching(scenario, name)
        if not found:
            raise UserError(f"unknown input {name!r}", nearest(name, _known(scenario)))
        for one in found:
            scenario = scenario.with_value(one, value, source=BY_HAND)
    return scenario


def matching(scenario: Scenario, name: str) -> tuple[str, ...]:
    """The inputs that `name` stands for; a company may be given a market input of its own."""
    if "." in name:
        return (name,)
    return tuple(one for one in scenario.inputs if one.rpartition(".")[2] == name)


def dials_of(scenario: Scenario) -> tuple[DialAt, ...]:
    """The dials that this scenario has inputs for, widened where an input lies beyond."""
    return tuple(_at(scenario, dial) for dial in DIALS if matching(scenario, dial.name))


def _at(scenario: Scenario, dial: Dial) -> DialAt:
    given = [scenario.inputs[name] for name in matching(scenario, dial.name)]
    medians = [one.median for one in given]
    value = sorted(medians)[len(medians) // 2]
    spec = spec_of(matching(scenario, dial.name)[0])
    low, high = max(min(dial.low, value), spec.low), min(max(dial.high, value), spec.high)
    return DialAt(
        dial=replace(dial, low=low, high=high),
        value=value,
        uncertain=any(not one.is_constant for one in given),
        differs=max(medians) > min(medians),
    )


def show_dial(dial: Dial, value: float) -> str:
    """`$0.50`, `45 %`."""
    return f"{dial.before}{value * dial.scale:.{dial.digits}f}{dial.after}"


def _known(scenario: Scenario) -> list[str]:
    return [*scenario.inputs, *{name.rpartition(".")[2] for name in scenario.inputs}]
