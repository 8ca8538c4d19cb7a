"""What generating tokens takes, by a simple roofline: for rollouts, teachers and serving stages. No torch.

`openbook price` knows serving better; a plan needs device-hours of a stage, with a band that says how rough
they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from openbook.economics.accelerators import Accelerator, Precision
from openbook.economics.plan.calibration import Calibration
from openbook.economics.plan.utilisation import reference_peak
from openbook.errors import UserError
from openbook.model.architecture import Architecture

WEIGHTS_SHARE = 0.6
"""Of the memory of a group at most: the rest is for the cache."""
MAX_STREAMS_PER_DEVICE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeRate:
    """Generation at a context by a group of devices that holds the model once."""

    group_size: int
    streams: int
    """Sequences that the group generates at once."""
    step_seconds: float
    tokens_per_device_second: float
    cache_bytes_per_device: float
    weight_bytes_per_device: float


def decode_rate(
    architecture: Architecture,
    accelerator: Accelerator,
    precision: Precision,
    context: int,
    figures: Calibration,
) -> DecodeRate:
    """max(bytes / bandwidth, FLOPs / peak) of a step, over the share that real services reach."""
    memory, bandwidth = accelerator.memory_bytes, accelerator.memory_bandwidth
    if memory is None or bandwidth is None:
        raise UserError(f"the memory of {accelerator.name} is not known", "supply it by --accelerators FILE")
    weights = architecture.parameters_total * precision.num_bytes
    group = 1 << max(0, math.ceil(math.log2(weights / (WEIGHTS_SHARE * memory.value))))
    cache = architecture.cache_bytes(context)
    room = 0.9 * memory.value * group - weights
    streams = max(1, min(int(room / max(cache, 1)), MAX_STREAMS_PER_DEVICE * group))
    moved = architecture.touched_parameters(streams) * precision.num_bytes + streams * cache
    flops = streams * architecture.decode_flops_per_token(context).total
    # Attention and caches stay in 16 bits, so the 16-bit peak bounds the arithmetic.
    peak = reference_peak(accelerator)[1]
    bound = max(moved / (bandwidth.value * group), flops / (peak * group))
    step = bound / figures["decode.roofline_share"]
    return DecodeRate(
        group_size=group,
        streams=streams,
        step_seconds=step,
        tokens_per_device_second=streams / step / group,
        cache_bytes_per_device=streams * cache / group,
        weight_bytes_per_device=weights / group,
    )


def generation_hours(tokens: float, rate: DecodeRate) -> float:
    """Device-hours that generate `tokens`."""
    return tokens / rate.tokens_per_device_second / 3600


def prefill_hours(
    architecture: Architecture, accelerator: Accelerator, tokens: float, prompt_length: int, share: float
) -> float:
    """Device-hours of forward passes over `tokens` in sequences of `prompt_length` at an MFU of `share`."""
    flops = architecture.forward_flops_per_token(max(1, prompt_length)).total * tokens
    return flops / (reference_peak(accelerator)[1] * share * 3600)
