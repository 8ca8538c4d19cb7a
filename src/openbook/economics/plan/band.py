"""How sure a forecast is: an 80 % band, wider the less a run is like the calibration's. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from openbook.economics.accelerators import Accelerator
from openbook.economics.plan.calibration import Calibration
from openbook.economics.plan.memory import TrainingShape, has_experts
from openbook.model.architecture import Architecture

Z80 = 1.2816
"""Standard deviations on either side that hold 80 % of a normal distribution."""
CALIBRATED_FAMILIES = ("a100", "h800", "h100", "h200")


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """A value with its 80 % band: one forecast in ten lies below `low`, one above `high`."""

    value: float
    low: float
    high: float

    def __mul__(self, factor: float) -> Band:
        return Band(value=self.value * factor, low=self.low * factor, high=self.high * factor)

    def __add__(self, other: Band) -> Band:
        """Of two that go wrong together: the ends add."""
        return Band(value=self.value + other.value, low=self.low + other.low, high=self.high + other.high)


def band(value: float, spread: float) -> Band:
    """The band of a value whose logarithm has the standard deviation `spread`."""
    factor = math.exp(Z80 * spread)
    return Band(value=value, low=value / factor, high=value * factor)


def widened(hours: Band, rate: float, rate_spread: float) -> Band:
    """Hours at a rate that is itself uncertain: logarithmic spreads add in squares."""
    spread = math.log(hours.high / hours.low) / (2 * Z80) if hours.low > 0 else 0.0
    return band(hours.value * rate, math.hypot(spread, rate_spread))


def spread_terms(
    architecture: Architecture,
    shape: TrainingShape,
    accelerator: Accelerator,
    num_devices: int,
    figures: Calibration,
) -> dict[str, float]:
    """Why the band is as wide as it is: standard deviations of the logarithm by cause."""
    size = architecture.parameters_active
    octaves_small = max(0.0, math.log2(1e9 / size))
    octaves_large = max(0.0, math.log2(size / 70e9))
    longer = max(0.0, math.log2(shape.sequence_length / 4096))
    more = max(0.0, math.log2(num_devices / 4096))
    terms = {
        "base": figures["spread.base"],
        "other_accelerator": 0.0
        if accelerator.name.startswith(CALIBRATED_FAMILIES)
        else figures["spread.other_accelerator"],
        "unfused": 0.0 if shape.fused_attention else figures["spread.unfused"],
        "experts": figures["spread.experts"] if has_experts(architecture) else 0.0,
        "devices": figures["spread.devices_per_octave"] * more,
        "size": figures["spread.size_per_octave"] * (octaves_small + octaves_large),
        "length": figures["spread.length_per_octave"] * longer,
    }
    return {name: value for name, value in terms.items() if value}


def total_spread(terms: dict[str, float]) -> float:
    return math.sqrt(sum(value * value for value in terms.values()))
