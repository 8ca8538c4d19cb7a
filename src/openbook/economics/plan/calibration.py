"""The figures that the forecast takes as given, each with its meaning and its source. No torch."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date as Date
from functools import cache
from importlib import resources

from openbook.economics.sourced import Mark, Sourced
from openbook.errors import UserError, nearest

MOST = 1e18
"""More of anything than there will be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Figures by dotted name (`kernels.memory_share`), in the units that each gives."""

    figures: Mapping[str, Sourced]

    @classmethod
    def default(cls) -> Calibration:
        """The figures that come with the package."""
        return _packaged()

    def __getitem__(self, name: str) -> float:
        return self.figures[name].value

    def changed(
        self, values: Mapping[str, float], source: str, mark: Mark = Mark.OURS, *, date: Date | None = None
    ) -> Calibration:
        """The same with other values, said on `date`. Raises UserError for an unknown name or a wild one."""
        figures = dict(self.figures)
        for name, value in values.items():
            if name not in figures:
                raise UserError(f"{name}: no figure of the forecast", nearest(name, list(figures)))
            _check(name, value, figures[name].unit)
            said = figures[name].date if date is None else date
            figures[name] = replace(figures[name], value=value, source=source, mark=mark, date=said)
        low, high = (figures[f"programme.final_share_{end}"].value for end in ("low", "high"))
        if low > high:
            raise UserError(
                f"programme.final_share_low = {low:g}: above programme.final_share_high = {high:g}",
                "the least share is not above the largest",
            )
        return Calibration(figures=figures)


DIVISORS = ("fitted.overhead", "prior.largest_run", "goodput.device_mtbf", "ownership.life_years")
"""Figures beside the shares that something is divided by."""
WIDEST = 5.0
"""Standard deviation of a logarithm: a factor of 600 either way."""


def _check(name: str, value: float, unit: str) -> None:
    """Raise UserError for a value that `name` cannot have."""
    if not 0 <= value < MOST:
        raise UserError(f"{name} = {value:g}: not a number that is at least 0 and below {MOST:g}")
    is_share = "share" in name
    if not value and (is_share or name in DIVISORS):
        raise UserError(f"{name} = 0: something is divided by it", "give a number above 0")
    if value > 1 and (is_share or "exponent" in name):
        raise UserError(f"{name} = {value:g}: at most 1", "it is a part of a whole or an exponent below one")
    if value >= 1 and name == "communication.overlap_sms":
        raise UserError(f"{name} = {value:g}: below 1", "some processors have to compute")
    if value > WIDEST and unit == "ln":
        raise UserError(f"{name} = {value:g}: at most {WIDEST:g}", "it is the spread of a natural logarithm")


def read_calibration(text: str) -> Calibration:
    """The figures of a TOML text in the packaged file's shape."""
    tables = tomllib.loads(text)
    sources = tables.pop("sources")
    figures = {}
    for section, entries in tables.items():
        for name, entry in entries.items():
            source = sources[entry["source"]]
            figures[f"{section}.{name}"] = Sourced(
                value=float(entry["value"]),
                unit=entry["unit"],
                source=source["title"],
                date=source["date"],
                mark=Mark(source["mark"]),
                note=entry["meaning"],
            )
    return Calibration(figures=figures)


@cache
def _packaged() -> Calibration:
    file = resources.files("openbook.economics").joinpath("data/calibration.toml")
    return read_calibration(file.read_text(encoding="utf-8"))
