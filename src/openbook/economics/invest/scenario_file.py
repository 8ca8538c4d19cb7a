"""The layout of a scenario's TOML file, and files that extend others. No torch.

Of the files of a chain the upper ones go over the lower ones; an input replaces the one below it whole.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date as Date
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from openbook.config import config, parse
from openbook.economics.invest.distributions import OPTIONAL, REQUIRED, Kind, Parameter
from openbook.economics.invest.serving import ServingChoice
from openbook.economics.invest.toml_lines import line_of
from openbook.economics.sourced import Mark
from openbook.economics.sourced_file import Source
from openbook.errors import UserError

NAMES = ("article", "later_guidance", "payoff", "slowdown", "bubble")
"""The scenarios of the package; the last three are the article's endings."""
TEMPLATE = "template"
MAX_LAYERS = 5


PARAMETERS = tuple(
    dict.fromkeys(name for table in (REQUIRED, OPTIONAL) for names in table.values() for name in names)
)


@config
class InputEntry:
    """One value as a file gives it: `kind` and its parameters, unit and source; see `Distribution`."""

    unit: str
    source: str
    kind: Kind = Kind.CONSTANT
    value: float | None = None
    low: float | None = None
    mode: float | None = None
    high: float | None = None
    mean: float | None = None
    sd: float | None = None
    median: float | None = None
    log_sd: float | None = None
    alpha: float | None = None
    beta: float | None = None
    values: tuple[float, ...] | None = None
    weights: tuple[float, ...] | None = None
    date: Date | None = None
    mark: Mark | None = None
    note: str = ""

    def parameters(self) -> dict[str, Parameter]:
        return {name: given for name in PARAMETERS if (given := getattr(self, name)) is not None}


@config
class CompanyEntry:
    """A company: on which basis and over which year its capex is counted, and its inputs."""

    title: str
    basis: Literal["cash", "with leases"]
    period: Literal["calendar", "fiscal"]
    inputs: Mapping[str, InputEntry]


@config
class SegmentEntry:
    """Customers who answer alike to a price."""

    share: InputEntry
    elasticity: InputEntry


@config
class TotalEntry:
    """What the capex of the first year is said to be in all; `split_note` accepts that companies differ."""

    value: float
    unit: Literal["USD billion"]
    source: str
    split_note: str = ""


@config
class TieEntry:
    """A rank correlation of two inputs."""

    between: tuple[str, str]
    rank: float
    source: str
    note: str = ""


@config
class ScenarioFile:
    """A scenario after all that it extends was put under it."""

    title: str
    says: str
    as_of: Date
    first_year: int
    spending_years: int
    companies: Mapping[str, CompanyEntry]
    market: Mapping[str, InputEntry]
    sources: Mapping[str, Source]
    num_years: int = 10
    weight: float = 1.0
    serving: ServingChoice = field(default_factory=ServingChoice)
    segments: Mapping[str, SegmentEntry] = field(default_factory=dict)
    correlations: tuple[TieEntry, ...] = ()
    stated: TotalEntry | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.num_years <= 50:
            raise ValueError("num_years lies between 1 and 50")
        if not 1 <= self.spending_years <= self.num_years:
            raise ValueError("spending_years lies between 1 and num_years")
        if not 1900 <= self.first_year <= 2200:
            raise ValueError("first_year is a calendar year, such as 2026")
        if self.weight < 0:
            raise ValueError("weight is not negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One file of a chain, the first extending the second and so on."""

    where: str
    text: str


def template_text() -> str:
    """A scenario of one company with every line explained, to be changed into one's own."""
    return _packaged(TEMPLATE)


def _packaged(name: str) -> str:
    return resources.files("openbook.economics").joinpath(f"data/invest/{name}.toml").read_text("utf-8")


def read_layers(name: str | Path) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    folder = Path()
    wanted: str | None = str(name)
    while wanted is not None:
        if len(layers) == MAX_LAYERS:
            raise UserError(f"{name}: extends more than {MAX_LAYERS} files", "is there a circle?")
        path = folder / wanted
        if wanted in (*NAMES, TEMPLATE, "base"):
            layers.append(Layer(where=f"{wanted}.toml", text=_packaged(wanted)))
        else:
            try:
                layers.append(Layer(where=str(path), text=path.read_text(encoding="utf-8")))
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
                raise UserError(f"{path}: {reason}", f"a file, or one of: {', '.join(NAMES)}") from error
            folder = path.parent
        below = _tables(layers[-1]).get("extends")
        if below is not None and not isinstance(below, str):
            raise UserError(f"{layers[-1].where}: extends is {below!r}", "give one name or file")
        wanted = below
    return tuple(layers)


def parse_layers(layers: Sequence[Layer]) -> ScenarioFile:
    """The files of a chain as one. Raises UserError that starts with the dotted key."""
    tables: dict[str, Any] = {}
    for layer in reversed(layers):
        tables = _over(tables, _tables(layer))
    tables.pop("extends", None)
    return parse(ScenarioFile, tables)


def _tables(layer: Layer) -> dict[str, Any]:
    try:
        return tomllib.loads(layer.text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{layer.where}: not valid TOML: {error}") from error


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`: tables merge, but an input (it has a unit) replaces the one below whole."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        tables = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _over(old, value) if tables and "unit" not in value else value  # type: ignore[arg-type]
    return merged


def place_of(layers: Sequence[Layer], what: str) -> str:
    """File and line of the key that an error message starts with; of several files the one that says most."""
    key = re.split(r": | ", what.removeprefix("ScenarioFile: "), maxsplit=1)[0]
    found = [(layer, *line_of(layer.text, key)) for layer in layers]
    layer, line, _ = max(found, key=lambda one: one[2])  # max keeps the first, which is the uppermost
    return f"{layer.where}:{line}"
