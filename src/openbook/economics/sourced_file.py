"""Figures and their sources in TOML, read strictly. No torch.

A file has `[sources.KEY]` (title, date, mark). A figure names the key of its source and takes date and mark
from there unless it gives its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date as Date

from openbook.config import config
from openbook.economics.sourced import Mark, Sourced
from openbook.errors import UserError, nearest


@config
class Source:
    """Who says something, and when it was said or read."""

    title: str
    date: Date
    mark: Mark


@config
class Figure:
    """A number in the unit of its key, and the key of its source."""

    value: float
    source: str
    date: Date | None = None
    mark: Mark | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.value < float("inf"):
            raise ValueError("a figure is positive; leave it out where it is not known")


Sources = Mapping[str, Source]


def find_source(key: str, sources: Sources, *, where: str) -> Source:
    """The source called `key`. Raises UserError for one that the file does not list."""
    if key not in sources:
        mend = nearest(key, list(sources)) if sources else f"add it under [sources.{key}]"
        raise UserError(f"{where}: unknown source {key!r}", mend)
    return sources[key]


def to_sourced(figure: Figure, sources: Sources, *, unit: str, factor: float = 1.0, where: str) -> Sourced:
    """The figure in `unit`, which is `factor` times smaller than the unit of its key. Raises UserError."""
    source = find_source(figure.source, sources, where=where)
    return Sourced(
        value=figure.value * factor,
        unit=unit,
        source=source.title,
        date=figure.date or source.date,
        mark=figure.mark or source.mark,
        note=figure.note,
    )
