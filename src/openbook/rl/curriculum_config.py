"""What a curriculum can be told. No torch."""

from __future__ import annotations

from openbook.config import config


@config
class CurriculumConfig:
    """Levels are drawn by their measured pass rate. The levels are the members of a mixed family."""

    decay: float = 0.9
    """What earlier attempts at a level count beside those of a later step; 1 forgets nothing."""
    floor: float = 0.05
    """The least share of a level."""

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be 0 to 1, not {self.decay:g}")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor must be 0 to 1, not {self.floor:g}")

    def check(self, num_levels: int) -> None:
        """ValueError unless there is something to choose from, and room for the floors of all levels."""
        if num_levels < 2:
            raise ValueError("a curriculum needs at least 2 levels to choose from; the family has 1 member")
        if num_levels * self.floor > 1:
            raise ValueError(
                f"{num_levels} levels of a share of at least floor = {self.floor:g} each would be "
                f"{num_levels * self.floor:g} of the problems; floor may be {1 / num_levels:g} at most"
            )
