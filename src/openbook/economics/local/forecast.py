"""The forecast of a recipe on the machine at hand: tokens, seconds, dollars and memory by stage, with bands.

    basis = basis_of(profile, past, setting)      how fast this machine is, and on what that rests
    forecast(plans, past, basis, price)           what it will take

All bands are 80 %: a tenth of the cases should lie below, a tenth above. They join, as independent, how
far the speed may be off and how far the lengths of what is written may be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from openbook.economics.local.history import PastRun, evidence_of
from openbook.economics.local.lengths import Expected, expect, scaled
from openbook.economics.local.speed import Evidence, Speed, fitted
from openbook.economics.local.stage_work import Amount, Lengths, Part, Tokens, stage_amounts
from openbook.economics.local.stages import StagePlan
from openbook.economics.local.work import Work
from openbook.errors import UserError
from openbook.runs.machine_profile import MEASURE, MachineProfile

Z80 = 1.2816
"""Standard deviations from the middle to each end of an 80 % band."""
OTHER_THREADS_SPREAD = 0.25
"""The same where past runs had another number of threads."""
PROFILE_SPREAD = 0.35
"""Relative standard deviation of a time from a profile alone: the band is a factor of 1.57 either way."""
SPREAD_FLOOR = 0.05
ONE_RUN_SPREAD = 0.12
"""What a single past stage leaves open; n of them leave it divided by the root of n."""
DOUBLING_SPREAD = 0.09
"""More for each doubling of steps, batch or parameters between a stage and the nearest one seen: eight stages
changed twofold were 11 % off, root mean square, where stages like the seen ones are 7 % off."""
BUSY_SHARE = 0.85
"""Of a further thread: the part of the time in which it burns a processor."""
PROCESS_BYTES = 500e6
"""Memory of the process besides its tensors, before past runs have spoken."""
MEMORY_SPREAD = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A quantity and its 80 % band."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, spread: float) -> Estimate:
        """A band of `spread`, the relative standard deviation, either way by the same factor."""
        factor = math.exp(Z80 * spread)
        return cls(value=value, low=value / factor, high=value * factor)

    def __mul__(self, factor: float) -> Estimate:
        return Estimate(value=self.value * factor, low=self.low * factor, high=self.high * factor)

    def __add__(self, other: Estimate) -> Estimate:
        """The sum, as if both were off the same way, as they are where a machine is slower than thought."""
        return Estimate(value=self.value + other.value, low=self.low + other.low, high=self.high + other.high)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Where it will run: the host by name, the device as runs name it, and its threads."""

    host: str
    device: str
    num_threads: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Basis:
    """What a forecast rests on."""

    setting: Setting
    speed: Speed
    """Processor seconds of each term; on a GPU seconds of the device."""
    device_share: float
    """Device seconds by what `speed` counts."""
    cpu_share: float
    """Processor seconds by what `speed` counts."""
    spread: float
    run_ids: tuple[str, ...]
    """The past runs that taught the speed; none, and it is the profile's alone."""
    measured_on: date | None
    """When the profile was measured; None where there is none."""
    process_bytes: float
    seen: tuple[Mapping[str, int], ...] = ()
    """Settings of the stages seen, for how far a new one is from them."""

    @property
    def rests_on(self) -> str:
        """In words, for whoever reads the forecast."""
        runs = f"{len(self.run_ids)} past stages on this machine" if self.run_ids else "no past run"
        profile = f"the profile of {self.measured_on}" if self.measured_on else "no profile"
        return f"{runs}, {profile}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What an hour of the device costs, and who says so."""

    usd_per_device_hour: float
    source: str
    valid_from: date


@dataclass(frozen=True, kw_only=True, slots=True)
class StageForecast:
    """One stage. Tokens are those that usage lines will count."""

    name: str
    verb: str
    num_steps: int
    tokens: Mapping[str, Estimate]
    """By kind: trained, prompt, completion."""
    cpu_seconds: Estimate
    device_seconds: Estimate
    usd: Estimate
    peak_memory_bytes: Estimate
    parts: Mapping[str, float] = field(default_factory=dict)
    """Device seconds by what they are for."""
    lengths_from: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """A whole recipe."""

    stages: tuple[StageForecast, ...]
    basis: Basis
    price: Price

    @property
    def cpu_seconds(self) -> Estimate:
        return _sum(one.cpu_seconds for one in self.stages)

    @property
    def device_seconds(self) -> Estimate:
        return _sum(one.device_seconds for one in self.stages)

    @property
    def usd(self) -> Estimate:
        return _sum(one.usd for one in self.stages)

    def tokens(self, kind: str) -> Estimate:
        return _sum(one.tokens[kind] for one in self.stages)


def basis_of(profile: MachineProfile | None, past: Sequence[PastRun], setting: Setting) -> Basis:
    """How fast this machine is, from its profile and the runs in `past` that ran in the same setting.

    Where none did, runs with other threads are taken, their times scaled by what the profile says of those.

    Raises UserError where there is neither.
    """
    on_gpu = setting.device != "cpu"
    here = [
        run for run in past if (run.host, run.device) == (setting.host, setting.device) and run.cpu_seconds
    ]
    alike = [run for run in here if is_alike(run, setting)]
    known = alike or here
    if profile is None and not known:
        raise UserError("this machine has not been measured and no run on it is known", f"run `{MEASURE}`")
    if on_gpu and not known:
        raise UserError(
            f"no run on {setting.device} is known, and a machine profile is of its processors",
            "run a small recipe on it first",
        )
    prior = _prior(profile, known, setting.num_threads, on_gpu=on_gpu)
    evidence: list[Evidence] = []
    for run in known:
        own = prior if run in alike else _prior(profile, known, run.num_threads, on_gpu=on_gpu)
        for one in evidence_of(run, by_device_time=on_gpu):
            scaled = one.seconds * prior.seconds(one.work) / own.seconds(one.work)
            evidence.append(replace(one, seconds=scaled))
    speed = fitted(prior, evidence)
    cpu, device = sum(run.cpu_seconds for run in alike), sum(run.device_seconds for run in alike)
    ratio = device / cpu if cpu and device else 1 / _busy(setting.num_threads)
    spread = _spread(speed, alike, on_gpu=on_gpu) if alike or not here else OTHER_THREADS_SPREAD
    return Basis(
        setting=setting,
        speed=speed,
        device_share=1.0 if on_gpu else ratio,
        cpu_share=1 / ratio if on_gpu else 1.0,
        spread=spread,
        run_ids=tuple(run.run_id for run in known),
        measured_on=None if profile is None else profile.measured_on,
        process_bytes=_process_bytes(known),
        seen=tuple(run.plan.settings for run in known if run.plan.settings),
    )


def is_alike(run: PastRun, setting: Setting) -> bool:
    """Whether a past run tells how fast this setting is."""
    same = (run.host, run.device) == (setting.host, setting.device) and run.cpu_seconds > 0
    return same and (setting.device != "cpu" or run.num_threads == setting.num_threads)


def forecast(plans: Sequence[StagePlan], past: Sequence[PastRun], basis: Basis, price: Price) -> Forecast:
    """What the stages will take, in order; a later one may be ended by the time of an earlier one."""
    stages: list[StageForecast] = []
    learning: dict[str, float] = {}
    for plan in plans:
        limit = learning.get(plan.budget_of) if plan.budget_of else None
        stage = _stage(plan, expect(plan, past), basis, price, limit)
        learning[plan.name] = stage.parts.get(Part.LEARNING, 0.0) + stage.parts.get(Part.HARVEST, 0.0)
        stages.append(stage)
    return Forecast(stages=tuple(stages), basis=basis, price=price)


def stage_seconds(basis: Basis, work: Work) -> tuple[float, float]:
    """Processor seconds and device seconds of some work."""
    seconds = basis.speed.seconds(work)
    return seconds * basis.cpu_share, seconds * basis.device_share


def _stage(
    plan: StagePlan, expected: Expected, basis: Basis, price: Price, limit_seconds: float | None
) -> StageForecast:
    num_steps = _num_steps(plan, expected.lengths, basis, limit_seconds)
    middle = stage_amounts(plan, expected.lengths, num_steps)
    reach = math.exp(Z80 * expected.spread)
    shorter = stage_amounts(plan, scaled(expected.lengths, 1 / reach, plan), num_steps)
    longer = stage_amounts(plan, scaled(expected.lengths, reach, plan), num_steps)
    spread = math.hypot(basis.spread, DOUBLING_SPREAD * doublings(plan.settings, basis.seen))
    cpu = _join(*(stage_seconds(basis, _work(one))[0] for one in (middle, shorter, longer)), spread=spread)
    device = cpu * (basis.device_share / basis.cpu_share)
    tokens = [_tokens(one) for one in (middle, shorter, longer)]
    return StageForecast(
        name=plan.name,
        verb=plan.verb,
        num_steps=num_steps or 0,
        tokens={
            kind: _join(*(getattr(one, kind) for one in tokens), spread=0.02)
            for kind in ("trained", "prompt", "completion")
        },
        cpu_seconds=cpu,
        device_seconds=device,
        usd=device * (price.usd_per_device_hour / 3600),
        peak_memory_bytes=Estimate.of(basis.process_bytes + plan.memory_bytes, MEMORY_SPREAD),
        parts={part: stage_seconds(basis, one.work)[1] for part, one in middle.items()},
        lengths_from=expected.source,
    )


def _num_steps(plan: StagePlan, lengths: Lengths, basis: Basis, limit_seconds: float | None) -> int | None:
    """The steps planned, or as many as the device time of another stage allows: one more than fit whole."""
    if plan.learned is None:
        return None
    planned = plan.learned.num_steps
    if limit_seconds is None:
        return planned
    low, high = 1, planned
    while low < high:
        middle = (low + high) // 2
        work = stage_amounts(plan, lengths, middle)[Part.LEARNING].work
        if stage_seconds(basis, work)[1] < limit_seconds:
            low = middle + 1
        else:
            high = middle
    return low


def doublings(settings: Mapping[str, int], seen: Sequence[Mapping[str, int]]) -> float:
    """How many times a setting was doubled or halved, in the one that differs most, from the nearest seen."""
    distances = [
        max(
            (abs(math.log2(settings[name] / other[name])) for name in settings if other.get(name)),
            default=0.0,
        )
        for other in seen
    ]
    return min(distances, default=0.0)


def _join(middle: float, shorter: float, longer: float, *, spread: float) -> Estimate:
    """A band from two independent causes: the speed, by `spread`, and the lengths, by what they change."""
    if middle <= 0:
        return Estimate(value=0.0, low=0.0, high=0.0)
    below = math.hypot(Z80 * spread, math.log(max(1.0, middle / max(shorter, 1e-12))))
    above = math.hypot(Z80 * spread, math.log(max(1.0, longer / middle)))
    return Estimate(value=middle, low=middle * math.exp(-below), high=middle * math.exp(above))


def _spread(speed: Speed, alike: Sequence[PastRun], *, on_gpu: bool) -> float:
    """Of a stage's time: what the fit leaves over, and what few stages leave open."""
    if not alike:
        return PROFILE_SPREAD
    errors = [
        math.log(speed.seconds(run.work) / (run.device_seconds if on_gpu else run.cpu_seconds))
        for run in alike
    ]
    left_over = math.sqrt(sum(error * error for error in errors) / len(errors))
    return math.sqrt(SPREAD_FLOOR**2 + left_over**2 + ONE_RUN_SPREAD**2 / len(errors))


def _prior(
    profile: MachineProfile | None, known: Sequence[PastRun], num_threads: int, *, on_gpu: bool
) -> Speed:
    """Processor seconds by the profile; without one the proportions of the constants, scaled to the runs."""
    if profile is not None:
        speed = Speed.of_profile(profile, num_threads=num_threads)
        return speed * (1.0 if on_gpu else _busy(num_threads))
    speed = Speed.typical()
    total = sum(run.device_seconds if on_gpu else run.cpu_seconds for run in known)
    reckoned = sum(speed.seconds(run.work) for run in known)
    return speed * (total / reckoned if reckoned else 1.0)


def _busy(num_threads: int) -> float:
    """Processors at work for so many threads, on average."""
    return 1 + BUSY_SHARE * (num_threads - 1)


def _process_bytes(alike: Sequence[PastRun]) -> float:
    beside = sorted(run.peak_memory_bytes - run.plan.memory_bytes for run in alike if run.peak_memory_bytes)
    return max(PROCESS_BYTES / 2, beside[len(beside) // 2]) if beside else PROCESS_BYTES


def _work(amounts: Mapping[Part, Amount]) -> Work:
    return Work.total(one.work for one in amounts.values())


def _tokens(amounts: Mapping[Part, Amount]) -> Tokens:
    total = Tokens()
    for one in amounts.values():
        total += one.tokens
    return total


def _sum(estimates: Iterable[Estimate]) -> Estimate:
    total = Estimate(value=0.0, low=0.0, high=0.0)
    for one in estimates:
        total += one
    return total
