"""How many devices so many users need, and what they pay for it. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from openbook.economics.serving.load import DAY_6_PEAK_OVER_MEAN
from openbook.economics.serving.unit_cost import SECONDS_PER_HOUR, UnitCost
from openbook.errors import UserError

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """`num_users` who each send `input_tokens_per_day` (hits included) and read `output_tokens_per_day`."""

    num_users: float
    input_tokens_per_day: float
    output_tokens_per_day: float
    peak_over_mean: float = DAY_6_PEAK_OVER_MEAN.value

    def __post_init__(self) -> None:
        if min(self.num_users, self.input_tokens_per_day, self.output_tokens_per_day) < 0:
            raise UserError("a demand below nothing", "users and tokens are not negative")
        if self.peak_over_mean < 1:
            raise UserError(
                f"a peak of {self.peak_over_mean:g} times the mean", "a peak is not below the mean"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """Devices for the peak in whole units, the mean in use, and the day's bill both ways."""

    num_prefill_devices: int
    num_decode_devices: int
    mean_devices_busy: float
    peak_streams: float
    """Users who are being written to at the peak."""
    usd_per_day_held: float
    """The whole fleet for 24 hours."""
    usd_per_day_following: float
    """A fleet that is given back when it idles: only what is busy."""

    @property
    def num_devices(self) -> int:
        return self.num_prefill_devices + self.num_decode_devices

    @property
    def utilisation(self) -> float:
        """Of a fleet that is held; 0 when there is nothing to do."""
        return self.mean_devices_busy / self.num_devices if self.num_devices else 0.0


def capacity(cost: UnitCost, demand: Demand) -> Capacity:
    """The devices that serve `demand` at the speeds of `cost`, at its peak without a queue."""
    traffic = cost.case.traffic
    missed = demand.num_users * demand.input_tokens_per_day * (1 - traffic.hit_share) / SECONDS_PER_DAY
    output = demand.num_users * demand.output_tokens_per_day / SECONDS_PER_DAY
    prefilling = missed / cost.prefill.tokens_per_second_per_device
    decoding = output / cost.decode.tokens_per_second_per_device
    peak = demand.peak_over_mean
    num_prefill = _whole(prefilling * peak, cost.layout.prefill.num_devices)
    num_decode = _whole(decoding * peak, cost.layout.decode.num_devices)
    day = 24 * cost.case.rent_usd_per_hour
    return Capacity(
        num_prefill_devices=num_prefill,
        num_decode_devices=num_decode,
        mean_devices_busy=prefilling + decoding,
        peak_streams=peak * output / cost.decode.tokens_per_second_per_user,
        usd_per_day_held=(num_prefill + num_decode) * day,
        usd_per_day_following=(prefilling + decoding) * day,
    )


def _whole(devices: float, unit: int) -> int:
    return ceil(devices / unit - 1e-9) * unit


def gpu_seconds_per_thousand(device_hours: float, num_tokens: float) -> float:
    """Device-seconds for a thousand tokens."""
    return device_hours * SECONDS_PER_HOUR / num_tokens * 1000
