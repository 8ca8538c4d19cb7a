"""A figure with its unit, who says so, and when. No torch.

A figure that came from somewhere never travels alone: who reads it must be able to see whether it was
published by the maker, passed on by others, or reckoned here, and whether it has grown old.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date as Date
from enum import StrEnum

MAX_AGE_DAYS = 365
"""A price or a figure of a market older than this is called stale."""


class Mark(StrEnum):
    """Who stands behind a figure."""

    PRIMARY = "primary"
    """Published by those who made or measured it."""
    SECOND_HAND = "second-hand"
    """Passed on by somebody else, or read off somebody's table."""
    OURS = "ours"
    """Measured or reckoned by this project; the note says how."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sourced:
    """`value` in `unit`, as `source` says on `date`."""

    value: float
    unit: str
    source: str
    date: Date
    mark: Mark
    note: str = ""

    def age_days(self, today: Date) -> int:
        """Days since the figure was said; negative for one from the future."""
        return (today - self.date).days

    def is_stale(self, today: Date, max_age_days: int = MAX_AGE_DAYS) -> bool:
        """Whether the figure is older than `max_age_days`.

        What a chip can do does not age; prices and powers that somebody assumed do. Ask this of those.
        """
        return self.age_days(today) > max_age_days

    def __str__(self) -> str:
        return f"{self.value:.6g} {self.unit} ({self.source}, {self.date}, {self.mark})"
