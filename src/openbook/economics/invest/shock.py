"""A rival's efficiency: what it does to prices, and the three thresholds of Jevons. No torch.

A gain g means g times the tokens from an hour of a machine; a pass-through phi means that prices fall to
g^-phi. Whether customers then spend more, whether more machines are needed, and whether sellers earn more
are three questions with three answers (fact sheet 8.6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from openbook.economics.invest.distributions import Floats
from openbook.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Jevons:
    """Ratios after over before, and for each the size of the elasticity at which it is 1.

    A threshold is None where no elasticity brings it: prices that do not fall, or a loss on each token.
    """

    spend: float
    compute: float
    gross_profit: float
    spend_threshold: float | None
    compute_threshold: float | None
    gross_profit_threshold: float | None


def jevons(*, gain: float, pass_through: float, elasticity: float, gross_margin: float) -> Jevons:
    """The three ratios for a gain g, pass-through phi and elasticity e at a gross margin m before.

    spend g^(phi (|e| - 1)); compute g^(|e| phi - 1); gross profit (P - c) Q / ((P0 - c0) Q0) with c = c0 / g.
    """
    if gain < 1 or pass_through < 0 or elasticity > 0 or not 0 < gross_margin <= 1:
        raise UserError(
            f"gain {gain:g}, pass-through {pass_through:g}, elasticity {elasticity:g}, "
            f"gross margin {gross_margin:g}",
            "a gain is 1 or more, a pass-through 0 or more, an elasticity 0 or less, a margin above 0 to 1",
        )
    price = gain**-pass_through
    unit_profit = (price - (1 - gross_margin) / gain) / gross_margin
    falls = pass_through > 0 and gain > 1
    return Jevons(
        spend=price ** (1 + elasticity),
        compute=price**elasticity / gain,
        gross_profit=unit_profit * price**elasticity,
        spend_threshold=1.0 if falls else None,
        compute_threshold=1 / pass_through if falls else None,
        gross_profit_threshold=max(-math.log(unit_profit) / (pass_through * math.log(gain)), 0.0)
        if falls and unit_profit > 0
        else None,
    )


def spend_ratio(price_ratio: float, elasticity: float) -> float:
    """(P / P0)^(1 + e) at a constant elasticity e."""
    return float(price_ratio ** (1 + elasticity))


def volume_for_revenue(price_ratio: float) -> float:
    """How many times the volume keeps the revenue: P0 / P."""
    return 1 / price_ratio


def in_force(date: Floats, year: int) -> Floats:
    """The share of the calendar year after an event at `date`, such as 2027.5; between 0 and 1."""
    return np.clip(year + 1 - date, 0.0, 1.0)
