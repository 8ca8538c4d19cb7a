"""What work has cost while it goes on: the money in a progress line, and the cap of `--budget`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openbook.ledger.prices import PricePlan
    from openbook.ledger.tally import Limit

SECONDS_BETWEEN_SUMS = 5.0


class Spending:
    """What the runs below a folder have cost so far, as text; summed up every few seconds."""

    def __init__(self, root: Path, plan: PricePlan, clock: Callable[[], float] = time.monotonic) -> None:
        from openbook.ledger.tally import Tally

        self._tally = Tally(root, plan, clock)
        self._clock = clock
        self._summed_at = -SECONDS_BETWEEN_SUMS
        self._text = ""

    def __call__(self) -> str:
        from openbook.ledger.cap import Meter
        from openbook.units import show_usd

        if self._clock() - self._summed_at >= SECONDS_BETWEEN_SUMS:
            self._text = show_usd(self._tally.read()[Meter.USD])
            self._summed_at = self._clock()
        return self._text


def spending(root: Path) -> Callable[[], str]:
    """What was spent below `root`, as text, for a progress line."""
    from openbook.ledger.prices import PricePlan

    return Spending(root, PricePlan.default())


def limit(budget: str | None, root: Path) -> Limit | None:
    """What holds the work below `root` to the cap that was typed; None without one. Raises UserError."""
    if budget is None:
        return None
    from openbook.ledger.cap import parse_cap
    from openbook.ledger.prices import PricePlan
    from openbook.ledger.tally import Limit, Tally

    return Limit(parse_cap(budget), Tally(root, PricePlan.default()))
