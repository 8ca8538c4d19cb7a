"""Measurement: ours, a peer's and the machine's figure for one piece of work, in one unit. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from openbook.pages.tables import ABSENT, Column, Table, text_table


class Unit(StrEnum):
    """What is counted: a rate is better when it is larger, a time or a size when it is smaller."""

    TOKENS_PER_SECOND = "tok/s"
    TOKENS_PER_CPU_SECOND = "tok/CPU s"
    MILLISECONDS_PER_TOKEN = "ms/token"
    SECONDS = "s"
    MEGABYTES = "MB"

    @property
    def larger_is_better(self) -> bool:
        return self in (Unit.TOKENS_PER_SECOND, Unit.TOKENS_PER_CPU_SECOND)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One line of a benchmark; `name` and `peer_name` together are unique in it.

    `peer` is None where the peer is not installed; `limit`, what the machine could do at most, is None
    where none is known. `notes` are for the reader and no part of the JSON.
    """

    name: str
    unit: Unit
    ours: float
    peer_name: str
    peer: float | None
    limit: float | None
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer: above 1 ours is better, whatever the unit."""
        return None if self.peer is None else self._better(self.ours, self.peer)

    @property
    def fraction_of_limit(self) -> float | None:
        """How much of what the machine allows ours reaches: 1 is all of it, whatever the unit."""
        return None if self.limit is None else self._better(self.ours, self.limit)

    def to_json(self) -> dict[str, str | float | None]:
        """The eight keys that every benchmark prints."""
        return {
            "name": self.name,
            "unit": self.unit.value,
            "ours": self.ours,
            "peer_name": self.peer_name,
            "peer": self.peer,
            "limit": self.limit,
            "ratio": self.ratio,
            "fraction_of_limit": self.fraction_of_limit,
        }

    def _better(self, one: float, other: float) -> float:
        return one / other if self.unit.larger_is_better else other / one


def measurement_table(measurements: Sequence[Measurement]) -> str:
    """The measurements as plain text, their notes below, each note once."""
    columns = (
        Column(label="work"),
        Column(label="unit"),
        Column(label="ours", number=True),
        Column(label="peer", number=True),
        Column(label="limit", number=True),
        Column(label="ratio", number=True),
        Column(label="of limit", number=True),
        Column(label="against"),
    )
    rows = tuple(_cells(measurement) for measurement in measurements)
    notes = tuple(dict.fromkeys(f"{one.name}: {note}" for one in measurements for note in one.notes))
    return text_table(Table(columns=columns, rows=rows, notes=("", *notes) if notes else ()))


def _cells(one: Measurement) -> tuple[str, ...]:
    return (
        one.name,
        one.unit.value,
        show_number(one.ours),
        "missing" if one.peer is None else show_number(one.peer),
        ABSENT if one.limit is None else show_number(one.limit),
        ABSENT if one.ratio is None else f"{one.ratio:.2f} x",
        ABSENT if one.fraction_of_limit is None else f"{100 * one.fraction_of_limit:.0f} %",
        one.peer_name,
    )


def show_number(value: float) -> str:
    """Three digits that matter: `0.123`, `4.56`, `78.9`, `12,346`."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}"
