"""Uniform numbers that depend on a seed and a place alone: no stream, so nothing between moves them.

SplitMix64 (Steele, Lea, Flood 2014): a counter times an odd constant, mixed. A sequence's t-th token always
meets the same number, whatever else is in the batch, after a preemption, and with or without drafts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_MASK = (1 << 64) - 1


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def uniforms(seeds: NDArray[np.uint64], places: NDArray[np.uint64]) -> NDArray[np.float64]:
    """One number in [0, 1) for each seed and place, with 53 random bits."""
    bits = mixed(mixed(seeds) + (places + np.uint64(1)) * _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def derived_seed(seed: int, number: int) -> int:
    """The seed of the `number`-th sequence of a call, in 64 bits; any integer will do for `seed`."""
    both = np.array([seed & _MASK, number & _MASK], dtype=np.uint64)
    return int(mixed(mixed(both[:1]) ^ mixed(both[1:] + _GOLDEN))[0])
