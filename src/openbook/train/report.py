"""StepReport: what one step did, for the metrics, the meter and the eyes of a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from openbook.runs.usage import Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """One finished step: its number (from 1), its metrics by name, what it consumed.

    `expert_loads` is the tokens each expert got, [MoE layers, experts]; empty for a dense model.
    """

    step: int
    metrics: Mapping[str, float]
    usage: Usage
    expert_loads: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
