"""Learning-rate schedules: the share of the highest rate at each step."""

from __future__ import annotations

import math

from openbook.train.config import ScheduleConfig


def rate_share(config: ScheduleConfig, step: int, num_steps: int) -> float:
    """Share (0, 1] of the highest rate for 0-based `step` of `num_steps`.

    Rises linearly over `warmup_steps`, stays at 1, and over the last `decay_share` of the steps
    falls to `final_share`.
    """
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    decay_steps = max(1.0, config.decay_share * num_steps)
    progress = min(1.0, max(0.0, (step - (num_steps - decay_steps)) / decay_steps))
    if config.decay == "none":
        return warmup
    left = 1 - progress if config.decay == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return warmup * (config.final_share + (1 - config.final_share) * left)
