"""How much of the held time is training when devices fail, and how much a pipeline waits. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from openbook.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Goodput:
    """Share of the hours that train, with the checkpoint interval that makes it largest."""

    share: float
    interval_hours: float
    mtbf_hours: float
    """Mean time between failures of the whole run."""


def goodput(num_devices: int, device_mtbf: float, *, checkpoint: float, restart: float) -> Goodput:
    """1 - delta/tau - tau/(2M) - R/M at tau = sqrt(2 delta M), M = device_mtbf / devices; times in hours.

    Raises UserError when failures come faster than the run can restart.
    """
    if device_mtbf <= 0 or num_devices <= 0:
        raise UserError(
            "the time between failures must be positive", "give --gpu-mtbf in hours of one device"
        )
    mtbf = device_mtbf / num_devices
    interval = math.sqrt(2 * checkpoint * mtbf)
    lost = (checkpoint / interval if interval else 0.0) + interval / (2 * mtbf) + restart / mtbf
    if lost >= 1:
        raise UserError(
            f"{num_devices:,} devices fail every {mtbf * 60:.1f} min, faster than the run restarts",
            "use fewer devices, or say how reliable they are by --gpu-mtbf",
        )
    return Goodput(share=1 - lost, interval_hours=interval, mtbf_hours=mtbf)


class Schedule(StrEnum):
    """How micro batches pass through the stages of a pipeline (DeepSeek-V3, Table 2)."""

    ONE_F_ONE_B = "1f1b"
    INTERLEAVED = "interleaved"
    """1F1B in which a stage holds several pieces of the network and waits for one (arXiv 2104.04473)."""
    ZB1P = "zb1p"
    DUALPIPE = "dualpipe"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkTimes:
    """Seconds of a micro batch in a stage: forward, whole backward, its weight part, both overlapped."""

    forward: float
    backward: float
    backward_weights: float
    overlapped: float


def bubble_seconds(schedule: Schedule, num_stages: int, times: ChunkTimes) -> float:
    """Time that each stage stands idle in one step (DeepSeek-V3, Table 2). Negative ones are none."""
    forward, backward, weights = times.forward, times.backward, times.backward_weights
    if schedule in (Schedule.ONE_F_ONE_B, Schedule.INTERLEAVED):
        idle = (num_stages - 1) * (forward + backward)
    elif schedule is Schedule.ZB1P:
        idle = (num_stages - 1) * (forward + backward - 2 * weights)
    else:
        idle = (num_stages / 2 - 1) * (times.overlapped + backward - 3 * weights)
    return max(0.0, idle)


def bubble_share(schedule: Schedule, num_stages: int, num_micro_batches: int, num_pieces: int = 1) -> float:
    """The bubble over the work of a step; backward is two forward passes, one of them for the weights."""
    if num_stages == 1:
        return 0.0
    if schedule is Schedule.INTERLEAVED:
        return (num_stages - 1) / num_micro_batches / num_pieces
    times = ChunkTimes(forward=1.0, backward=2.0, backward_weights=1.0, overlapped=3.0)
    return bubble_seconds(schedule, num_stages, times) / (num_micro_batches * 3.0)
