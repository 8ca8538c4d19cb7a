"""How a model lies on devices: tensor, pipeline, expert and data parallel, ZeRO, recomputation. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from math import gcd

from openbook.economics.plan.goodput import Schedule
from openbook.errors import UserError, nearest
from openbook.model.architecture import Architecture
from openbook.model.shapes import ExpertFeedForward

LONG_SEQUENCE = 8192
"""Tokens above which sharing a sequence between ranks is looked at."""
SHORT_PASS_TOKENS = 4096
"""Tokens that a forward pass takes at least where sequences are short: fewer leave the arrays empty."""
MAX_STAGES = 64
MAX_PIECES = 4
"""Pieces of the network that an interleaved stage holds at most."""


class Recompute(StrEnum):
    """What of the forward pass is computed again in the backward pass instead of kept."""

    NONE = "none"
    SELECTIVE = "selective"
    """Attention alone."""
    FULL = "full"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """`tp x pp x cp x dp` devices; experts lie over `ep` of the `tp x cp x dp` ranks of a stage."""

    tp: int = 1
    pp: int = 1
    ep: int = 1
    cp: int = 1
    """Context parallel: ranks that share each sequence."""
    dp: int = 1
    zero: int = 1
    """ZeRO stage: 1 divides the optimizer state over `dp`, 2 the gradients too, 3 the weights too."""
    micro_batch: int = 1
    """Sequences of one forward pass."""
    recompute: Recompute = Recompute.NONE
    schedule: Schedule = Schedule.ONE_F_ONE_B

    @property
    def num_devices(self) -> int:
        return self.tp * self.pp * self.cp * self.dp

    def num_pieces(self, num_layers: int) -> int:
        """Pieces of the network in each stage."""
        if self.schedule is not Schedule.INTERLEAVED:
            return 1
        return max(1, min(MAX_PIECES, num_layers // self.pp))

    @property
    def num_replicas(self) -> int:
        """Devices that hold the same part of the dense weights: gradients are reduced over them."""
        return self.cp * self.dp

    def __str__(self) -> str:
        ep = (f" ep={self.ep}" if self.ep > 1 else "") + (f" cp={self.cp}" if self.cp > 1 else "")
        return (
            f"tp={self.tp} pp={self.pp}{ep} dp={self.dp} zero={self.zero} micro_batch={self.micro_batch} "
            f"recompute={self.recompute} schedule={self.schedule}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutChoice:
    """What of a layout the user fixed; None is free."""

    tp: int | None = None
    pp: int | None = None
    ep: int | None = None
    cp: int | None = None
    zero: int | None = None
    micro_batch: int | None = None
    recompute: Recompute | None = None
    schedule: Schedule | None = None

    @property
    def is_free(self) -> bool:
        return self == LayoutChoice()


def parse_layout(text: str) -> LayoutChoice:
    """`tp=8,pp=4,zero=1` as a choice. Raises UserError naming the part that does not fit."""
    numbers: dict[str, int] = {}
    recompute, schedule = None, None
    seen: set[str] = set()
    for part in filter(None, (part.strip() for part in text.replace(" ", ",").split(","))):
        key, _, value = (word.strip() for word in part.partition("="))
        key = {"micro": "micro_batch", "mb": "micro_batch"}.get(key, key)
        if key in seen:
            raise UserError(f"--layout {key}: given twice", "give each part once")
        seen.add(key)
        if key == "recompute" and value in list(Recompute):
            recompute = Recompute(value)
        elif key == "schedule" and value in list(Schedule):
            schedule = Schedule(value)
        elif key in ("tp", "pp", "ep", "cp", "zero", "micro_batch") and value.isdecimal():
            if key != "zero" and not int(value):
                raise UserError(f"--layout {key}={value}: at least 1")
            numbers[key] = int(value)
        elif key == "dp":
            raise UserError("--layout dp: data parallel is what the devices leave", "leave dp out")
        else:
            known = ["tp", "pp", "ep", "cp", "zero", "micro_batch", "recompute", "schedule"]
            mend = nearest(key, known) if key not in known else _values(key)
            raise UserError(f"--layout {part}: not understood", mend)
    return LayoutChoice(recompute=recompute, schedule=schedule, **numbers)


def _values(key: str) -> str:
    values: Mapping[str, type[StrEnum]] = {"recompute": Recompute, "schedule": Schedule}
    return f"{key} is one of {', '.join(values[key])}" if key in values else f"{key} is a whole number"


def check_choice(choice: LayoutChoice, architecture: Architecture, num_devices: int) -> None:
    """Raise UserError for a choice that no number of sequences could make possible."""
    tp, pp, ep, cp = choice.tp or 1, choice.pp or 1, choice.ep or 1, choice.cp or 1
    for name, value in (
        ("tp", tp),
        ("pp", pp),
        ("ep", ep),
        ("cp", cp),
        ("micro_batch", choice.micro_batch or 1),
    ):
        if value < 1:
            raise UserError(f"--layout {name}={value}: at least 1")
    if choice.zero not in (None, 0, 1, 2, 3):
        raise UserError(f"--layout zero={choice.zero}: ZeRO has stages 0 to 3")
    if num_devices % (tp * pp * cp):
        fits = nearest_divisor(num_devices, tp * pp * cp)
        shared = f" x cp={cp}" if cp > 1 else ""
        fewer = max(1, num_devices // (tp * pp * cp)) * tp * pp * cp
        raise UserError(
            f"{num_devices:,} devices do not divide into tp={tp} x pp={pp}{shared}",
            f"the nearest that do: a product of {fits}, or --devices {fewer}",
        )
    heads = min(group.layer.attention.num_heads for group in architecture.groups)
    if heads % tp:
        raise UserError(
            f"--layout tp={tp}: {heads} heads do not divide by it",
            f"the nearest that fits: tp={nearest_divisor(heads, tp)}",
        )
    if pp > architecture.num_layers:
        raise UserError(
            f"--layout pp={pp}: the model has {architecture.num_layers} layers",
            "give each stage at least one",
        )
    check_experts(ep, architecture, num_devices // pp)


def check_experts(ep: int, architecture: Architecture, num_ranks: int) -> None:
    """Raise UserError when `ep` ranks cannot share the experts evenly."""
    if ep == 1:
        return
    experts = num_experts(architecture)
    if not experts:
        raise UserError(f"--layout ep={ep}: the model has no experts", "leave ep out")
    if experts % ep:
        raise UserError(
            f"--layout ep={ep}: {experts} experts do not divide by it",
            f"the nearest that fits: ep={nearest_divisor(experts, ep)}",
        )
    if num_ranks % ep:
        fits = nearest_divisor(num_ranks, ep)
        raise UserError(
            f"--layout ep={ep}: a stage has {num_ranks} devices", f"the nearest that fits: ep={fits}"
        )


def candidates(
    architecture: Architecture,
    num_devices: int,
    choice: LayoutChoice,
    *,
    sequence_length: int,
    recomputes: Sequence[Recompute],
) -> Iterator[Layout]:
    """Layouts worth looking at within a choice. Long sequences may lie over several ranks."""
    heads = min(group.layer.attention.num_heads for group in architecture.groups)
    experts = num_experts(architecture)
    shares = [1, 4, 16] if sequence_length > LONG_SEQUENCE else [1]
    if choice.recompute is not None:
        recomputes = [choice.recompute]
    for tp in _free(choice.tp, [t for t in (1, 2, 4, 8) if heads % t == 0 and num_devices % t == 0]):
        for pp in _free(choice.pp, _stage_counts(num_devices // tp, architecture.num_layers)):
            for cp in _free(choice.cp, shares):
                if num_devices % (tp * pp * cp):
                    continue
                dp = num_devices // (tp * pp * cp)
                for ep in _free(choice.ep, _expert_ranks(experts, tp * cp * dp)):
                    schedule = choice.schedule or _schedule(pp, ep)
                    zeros = [1, 3] if pp == 1 and dp * cp > 1 else [1]
                    for zero, micro_batch, recompute in product(
                        _free(choice.zero, zeros),
                        _free(choice.micro_batch, _micro_batches(sequence_length) if cp == 1 else [1]),
                        recomputes,
                    ):
                        yield Layout(
                            tp=tp,
                            pp=pp,
                            ep=ep,
                            cp=cp,
                            dp=dp,
                            zero=zero,
                            micro_batch=micro_batch,
                            recompute=recompute,
                            schedule=schedule,
                        )


def num_experts(architecture: Architecture) -> int:
    """Routed experts of a layer, 0 for a dense model."""
    feeds = (group.layer.feed_forward for group in architecture.groups)
    return max((feed.num_experts for feed in feeds if isinstance(feed, ExpertFeedForward)), default=0)


def nearest_divisor(number: int, wanted: int) -> int:
    """The divisor of `number` that is nearest to `wanted`, the smaller of two."""
    return min(divisors(number), key=lambda one: (abs(one - wanted), one))


def divisors(number: int) -> list[int]:
    low = [one for one in range(1, int(number**0.5) + 1) if number % one == 0]
    return sorted({*low, *(number // one for one in low)})


def _free(fixed: int | None, values: list[int]) -> list[int]:
    return values if fixed is None else [fixed]


def _stage_counts(num_devices: int, num_layers: int) -> list[int]:
    """Counts of stages: all that divide the devices, since at 20,000 of them few leave whole experts."""
    return [count for count in divisors(num_devices) if count <= min(num_layers, MAX_STAGES)]


def _micro_batches(sequence_length: int) -> list[int]:
    """Sequences of a forward pass: one or a few, and of short ones as many as fill it."""
    filling = SHORT_PASS_TOKENS // sequence_length
    return [1, 4, filling] if filling > 4 else [1, 4]


def _expert_ranks(experts: int, num_ranks: int) -> list[int]:
    """Counts of ranks that can share the experts evenly: about one node, two, and eight."""
    common = divisors(gcd(experts, num_ranks)) if experts else [1]
    return sorted({max(one for one in common if one <= most) for most in (1, 8, 16, 64)})


def _schedule(pp: int, ep: int) -> Schedule:
    """Experts across nodes want the schedule that hides their exchange; everybody else interleaves."""
    if pp > 2 and pp % 2 == 0 and ep > 8:
        return Schedule.DUALPIPE
    return Schedule.INTERLEAVED if pp > 1 else Schedule.ONE_F_ONE_B
