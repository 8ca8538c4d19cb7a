"""The figures that the forecast takes as given, each with its meaning and its source. No torch."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from openbook.economics.sourced import Mark, Sourced
from openbook.errors import UserError, nearest


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

    def changed(self, values: Mapping[str, float], source: str, mark: Mark = Mark.OURS) -> Calibration:
        """The same with other values. Raises UserError for an unknown name or a value below zero."""
        figures = dict(self.figures)
        for name, value in values.items():
            if name not in figures:
                raise UserError(f"{name}: no figure of the forecast", nearest(name, list(figures)))
            if not 0 <= value < float("inf"):
                raise UserError(f"{name} = {value:g}: not a number that is at least 0")
            figures[name] = replace(figures[name], value=value, source=source, mark=mark)
        return Calibration(figures=figures)


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
