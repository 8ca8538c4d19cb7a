"""Cost against batch and against load, as points of a chart. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from openbook.economics.serving.layout import max_batch
from openbook.economics.serving.roofline import decode_step
from openbook.economics.serving.unit_cost import ServingCase, UnitCost, unit_cost, usd_per_million

UTILISATIONS = tuple(step / 20 for step in range(2, 21))
TOO_DEAR = 6.0
"""Batches are left out where a token costs so many times the cheapest: they would flatten the rest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Dollars per million tokens over something."""

    label: str
    x: tuple[float, ...]
    usd: tuple[float, ...]


def output_by_batch(cost: UnitCost, contexts: Sequence[int]) -> tuple[Curve, ...]:
    """Output tokens against the batch of each copy of the attention, up to what fits, for some contexts."""
    case, unit = cost.case, cost.layout.decode
    points: dict[int, dict[int, float]] = {}
    for context in contexts:
        most = max_batch(case.server, unit, context)
        batches = sorted({max(1, round(most ** (i / 32))) for i in range(33)}) if most else []
        steps = [decode_step(case.server, unit, batch, context) for batch in batches]
        points[context] = {
            step.batch: usd_per_million(
                case.rent_usd_per_hour, step.tokens_per_second_per_device, case.utilisation
            )
            for step in steps
        }
    cheapest = min((usd for curve in points.values() for usd in curve.values()), default=0.0)
    shown = {
        context: {batch: usd for batch, usd in curve.items() if usd <= TOO_DEAR * cheapest}
        for context, curve in points.items()
    }
    return tuple(
        Curve(label=f"{context:,} tokens of context", x=tuple(map(float, curve)), usd=tuple(curve.values()))
        for context, curve in shown.items()
        if curve
    )


def by_load(case: ServingCase) -> tuple[Curve, ...]:
    """All three kinds against the busy share of the paid hours."""
    costs = [unit_cost(replace(case, utilisation=u)) for u in UTILISATIONS]
    kinds = {
        "output": [cost.output_usd for cost in costs],
        "input, missed": [cost.missed_usd for cost in costs],
        "input, cached": [cost.cached_usd for cost in costs],
    }
    return tuple(Curve(label=name, x=UTILISATIONS, usd=tuple(usd)) for name, usd in kinds.items())
