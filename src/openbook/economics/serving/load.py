"""Load over the day: what share of the paid hours the machines are busy. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from openbook.economics.sourced import Mark, Sourced
from openbook.errors import UserError

NUM_HOURS = 24
DAY_6_PEAK_OVER_MEAN = Sourced(
    value=278 / 226.75,
    unit="ratio",
    source="deepseek-ai/open-infra-index, day 6",
    date=date(2025, 2, 28),
    mark=Mark.PRIMARY,
    note="Nodes in use, 278 at the peak, 226.75 on average over 24 hours.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """The share of a day's tokens that falls into each of its 24 hours; the shares add up to 1."""

    hourly_shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.hourly_shares) != NUM_HOURS:
            raise UserError(f"a load has {NUM_HOURS} hourly shares, not {len(self.hourly_shares)}")
        if min(self.hourly_shares) < 0 or abs(sum(self.hourly_shares) - 1) > 1e-6:
            raise UserError(
                f"the hourly shares of a load add up to {sum(self.hourly_shares):.6g}",
                "give 24 shares that are not negative and add up to 1",
            )

    @property
    def peak_over_mean(self) -> float:
        return max(self.hourly_shares) * NUM_HOURS

    def utilisation(self, *, smallest_share: float = 1.0, headroom: float = 1.0) -> float:
        """Work done over work paid for.

        Machines are held for `headroom` times what each hour needs. `smallest_share` of the peak fleet
        stays whatever the load: 1 is a fleet that is owned or rented for all 24 hours, 0 one that
        follows the load and is given back at night.
        """
        if not 0 <= smallest_share <= 1 or headroom < 1:
            raise UserError(
                f"a fleet of {smallest_share:g} of its peak with a headroom of {headroom:g}",
                "the smallest share lies between 0 and 1, the headroom is 1 or more",
            )
        fleet = max(self.hourly_shares) * headroom
        held = sum(max(hour * headroom, fleet * smallest_share) for hour in self.hourly_shares)
        return sum(self.hourly_shares) / held


FLAT = Load(hourly_shares=(1 / NUM_HOURS,) * NUM_HOURS)


def swinging(peak_over_mean: float) -> Load:
    """A load that swings once a day like a cosine and has this peak over its mean, between 1 and 2."""
    from math import cos, pi

    if not 1 <= peak_over_mean <= 2:
        raise UserError(
            f"a peak of {peak_over_mean:g} times the mean", "a load that swings has one between 1 and 2"
        )
    swing = peak_over_mean - 1
    shares = [(1 + swing * cos(2 * pi * hour / NUM_HOURS)) / NUM_HOURS for hour in range(NUM_HOURS)]
    return Load(hourly_shares=tuple(shares))
