"""A forecast held against the runs that came of it: stage by stage, in seconds, tokens and dollars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from openbook.economics.local.forecast import Forecast, StageForecast, stage_seconds
from openbook.economics.local.history import PastRun
from openbook.economics.local.stage_work import Tokens
from openbook.economics.local.variance import Outcome, Variance, total_variance, variance_of


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSettlement:
    """One finished stage beside its forecast. Lost time is that of rewinds and of runs set aside."""

    forecast: StageForecast
    tokens: Tokens
    num_steps: int
    cpu_seconds: float
    device_seconds: float
    lost_device_seconds: float
    remodelled_cpu_seconds: float
    """What the model of time says of the tokens that were really there."""
    peak_memory_bytes: int
    variance: Variance

    @property
    def name(self) -> str:
        return self.forecast.name

    @property
    def error(self) -> float:
        """The forecast's processor seconds by the actual ones, less 1: lengths as forecast."""
        return self.forecast.cpu_seconds.value / self.cpu_seconds - 1

    @property
    def error_realised(self) -> float:
        """The same with the lengths that there really were."""
        return self.remodelled_cpu_seconds / self.cpu_seconds - 1

    @property
    def is_in_band(self) -> bool:
        return self.forecast.cpu_seconds.holds(self.cpu_seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settlement:
    """All stages that finished; `open_stages` were forecast and have not."""

    stages: tuple[StageSettlement, ...]
    open_stages: tuple[str, ...]

    @property
    def variance(self) -> Variance:
        return total_variance(one.variance for one in self.stages)

    @property
    def cpu_seconds(self) -> float:
        return sum(one.cpu_seconds for one in self.stages)

    @property
    def error(self) -> float:
        """Over all finished stages together, lengths as forecast."""
        return sum(one.forecast.cpu_seconds.value for one in self.stages) / self.cpu_seconds - 1

    @property
    def error_realised(self) -> float:
        return sum(one.remodelled_cpu_seconds for one in self.stages) / self.cpu_seconds - 1


def settle(forecast: Forecast, runs: Sequence[PastRun], usd_per_hour: Mapping[str, Decimal]) -> Settlement:
    """The forecast of a folder against the runs in it, oldest first, at what each run's device costs.

    Of several runs of a stage the last that finished is the stage; the others were for nothing.
    """
    stages, still_open = [], []
    for expected in forecast.stages:
        mine = [run for run in runs if run.plan.name == expected.name]
        done = [run for run in mine if run.is_done]
        if not done:
            still_open.append(expected.name)
            continue
        others = [run for run in mine if run is not done[-1]]
        stages.append(_settled(forecast, expected, done[-1], others, usd_per_hour))
    return Settlement(stages=tuple(stages), open_stages=tuple(still_open))


def settlement_to_json(found: Settlement) -> dict[str, object]:
    """The comparison as plain values; dollars exact until here."""
    return {
        "stages": [
            {
                "stage": one.name,
                "forecast_cpu_seconds": one.forecast.cpu_seconds.value,
                "forecast_cpu_seconds_low": one.forecast.cpu_seconds.low,
                "forecast_cpu_seconds_high": one.forecast.cpu_seconds.high,
                "cpu_seconds": one.cpu_seconds,
                "remodelled_cpu_seconds": one.remodelled_cpu_seconds,
                "error": one.error,
                "error_with_realised_lengths": one.error_realised,
                "in_band": one.is_in_band,
                "forecast_device_seconds": one.forecast.device_seconds.value,
                "device_seconds": one.device_seconds,
                "lost_device_seconds": one.lost_device_seconds,
                "forecast_tokens": {kind: one.forecast.tokens[kind].value for kind in one.forecast.tokens},
                "tokens": {kind: getattr(one.tokens, kind) for kind in one.forecast.tokens},
                "variance_usd": _dollars(one.variance),
            }
            for one in found.stages
        ],
        "open_stages": list(found.open_stages),
        "error": found.error if found.stages else None,
        "error_with_realised_lengths": found.error_realised if found.stages else None,
        "variance_usd": _dollars(found.variance),
    }


def _settled(
    forecast: Forecast,
    expected: StageForecast,
    run: PastRun,
    others: Sequence[PastRun],
    usd_per_hour: Mapping[str, Decimal],
) -> StageSettlement:
    cpu, device = stage_seconds(forecast.basis, run.work)
    lost = run.lost_device_seconds + sum(one.device_seconds + one.lost_device_seconds for one in others)
    outcome = Outcome(
        forecast_microseconds=_microseconds(expected.device_seconds.value),
        remodelled_microseconds=_microseconds(device),
        kept_microseconds=_microseconds(run.device_seconds),
        lost_microseconds=_microseconds(lost),
        forecast_usd_per_hour=Decimal(str(forecast.price.usd_per_device_hour)),
        actual_usd_per_hour=usd_per_hour[run.device],
    )
    return StageSettlement(
        forecast=expected,
        tokens=run.tokens,
        num_steps=run.num_steps,
        cpu_seconds=run.cpu_seconds,
        device_seconds=run.device_seconds,
        lost_device_seconds=lost,
        remodelled_cpu_seconds=cpu,
        peak_memory_bytes=run.peak_memory_bytes,
        variance=variance_of(outcome),
    )


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def _dollars(variance: Variance) -> dict[str, float]:
    exact: dict[str, Fraction] = {
        "forecast": variance.forecast_usd,
        **variance.parts(),
        "actual": variance.actual_usd,
    }
    return {name.replace(" ", "_"): float(value) for name, value in exact.items()}
