"""What the base sees: the dials of its corpus. No torch."""

from __future__ import annotations

from openbook.config import config, require_at_least
from openbook.tasks.chain import ChainConfig


@config
class CorpusConfig:
    """Shares of what the base sees; the exercises are the rest."""

    exercises: ChainConfig
    """Chains of the length that RL will ask for."""
    drill_share: float = 0.1
    """The tables of arithmetic, recited: single operations one after the other."""
    worked_share: float = 0.5
    """Chains of any length whose question asks for each step, and gets it."""
    courtesy_share: float = 0.05
    """Requests to pass on a message, answered in any tone."""
    sketch_share: float = 0.2
    """Share of the exercises that show every second step."""
    full_share: float = 0.1
    """Share of the exercises that show every step: how often the base has seen thinking at this length."""
    untagged_share: float = 0.05
    """Share of all documents whose answer stands without tags."""
    spanish_share: float = 0.4
    """Share of the documents whose steps lean to Spanish."""
    switch_share: float = 0.25
    """Chance that a number word leaves the language that its document leans to."""

    def __post_init__(self) -> None:
        require_at_least(
            0,
            drill_share=self.drill_share,
            worked_share=self.worked_share,
            courtesy_share=self.courtesy_share,
            sketch_share=self.sketch_share,
            full_share=self.full_share,
            untagged_share=self.untagged_share,
            spanish_share=self.spanish_share,
            switch_share=self.switch_share,
        )
        if (
            self.drill_share + self.worked_share + self.courtesy_share > 1
            or self.sketch_share + self.full_share > 1
        ):
            raise ValueError("the shares must not add up to more than 1")
        if self.exercises.modulus > 10:
            raise ValueError("there are words for 0 to 9 only: modulus must be at most 10")
