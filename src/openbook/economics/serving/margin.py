"""Margin in both definitions, break-even, and what a cut of the price does. No torch.

The two margins must never be taken for each other: of the published day, a "cost profit margin" of 545 %
is 84.5 % of revenue.
"""

from __future__ import annotations

from dataclasses import dataclass

from openbook.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Margin:
    """What was taken in and what it cost, in dollars."""

    revenue_usd: float
    cost_usd: float

    def __post_init__(self) -> None:
        if self.revenue_usd <= 0 or self.cost_usd < 0:
            raise UserError(
                f"no margin of a revenue of {self.revenue_usd:g} USD and a cost of {self.cost_usd:g} USD",
                "revenue must be above 0 and cost not negative",
            )

    @property
    def of_revenue(self) -> float:
        """Gross margin: 1 - cost / revenue. At most 1."""
        return 1 - self.cost_usd / self.revenue_usd

    @property
    def on_cost(self) -> float:
        """Markup, in some reports "cost profit margin": revenue / cost - 1. Without a bound."""
        return float("inf") if self.cost_usd == 0 else self.revenue_usd / self.cost_usd - 1

    def break_even_utilisation(self, utilisation: float = 1.0) -> float:
        """u* = u cost / revenue: the busy share below which the same machines lose money.

        With `utilisation` 1 it is the share of the billed tokens that has to be sold at this price.
        Above 1 no utilisation is enough.
        """
        if not 0 < utilisation <= 1:
            raise UserError(f"a utilisation of {utilisation:g}", "give a share above 0 and up to 1")
        return utilisation * self.cost_usd / self.revenue_usd


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceCut:
    """What is left after a cut at the same cost per token.

    `margin_of_revenue` is 1 - (1 - m0) / (1 - x); `volume_for_revenue` and `volume_for_profit` say how
    many times the tokens have to be sold to earn the old revenue and the old gross profit. The second is
    None when every token is sold at a loss or for nothing: no volume is enough.
    """

    cut: float
    margin_of_revenue: float
    margin_on_cost: float
    volume_for_revenue: float
    volume_for_profit: float | None


def after_price_cut(margin_of_revenue: float, cut: float) -> PriceCut:
    """The margins after the price falls by the share `cut` (0.5 is half). Raises UserError outside [0, 1)."""
    if not 0 <= cut < 1:
        raise UserError(f"a price cut of {cut:g}", "give a share from 0 up to but not 1, such as 0.5")
    if margin_of_revenue > 1:
        raise UserError(
            f"a gross margin of {margin_of_revenue:g}",
            "a margin on revenue is at most 1; 5.45 on cost is 0.845 on revenue",
        )
    cost, price = 1 - margin_of_revenue, 1 - cut
    profit = price - cost
    return PriceCut(
        cut=cut,
        margin_of_revenue=1 - cost / price,
        margin_on_cost=float("inf") if cost == 0 else price / cost - 1,
        volume_for_revenue=1 / price,
        volume_for_profit=margin_of_revenue / profit if profit > 0 else None,
    )
