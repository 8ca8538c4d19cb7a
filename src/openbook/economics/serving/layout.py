"""Over which devices a model is spread, what each of them holds, and whether it fits. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from openbook.economics.accelerator import Accelerator, Precision
from openbook.economics.serving.counts import counts_of
from openbook.economics.serving.efficiency import Efficiency, default_efficiency
from openbook.errors import UserError
from openbook.model.architecture import Architecture
from openbook.model.shapes import LatentAttention
from openbook.units import show_bytes

TABLE_BYTES = 2
"""Embedding, head, router and norms stay in 16 bits, as in the public checkpoint of V3."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """Devices that serve together. Attention is split over `tensor_parallel` and copied beyond that.

    Experts, with `num_redundant_experts` copies of the busiest in each layer, are spread over all devices.
    """

    num_devices: int = 1
    tensor_parallel: int = 1
    num_redundant_experts: int = 0

    def __post_init__(self) -> None:
        if self.num_devices < 1 or self.tensor_parallel < 1 or self.num_redundant_experts < 0:
            raise UserError(f"no unit of {self.num_devices} devices", "a unit has one or more")
        if self.num_devices % self.tensor_parallel:
            raise UserError(
                f"{self.num_devices} devices do not split into groups of {self.tensor_parallel}",
                f"the nearest that fits is {multiple_above(self.num_devices, self.tensor_parallel)} devices",
            )

    @property
    def spreads_experts(self) -> bool:
        """Whether tokens travel to their experts: there is more than one copy of the attention."""
        return self.num_devices > self.tensor_parallel


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Prefill and decode have units of their own, as services that keep them apart do."""

    prefill: Unit
    decode: Unit


@dataclass(frozen=True, kw_only=True, slots=True)
class Speculation:
    """`num_drafts` tokens are guessed a step, each accepted with `acceptance` if the one before was."""

    num_drafts: int = 0
    acceptance: float = 0.0

    def __post_init__(self) -> None:
        if self.num_drafts < 0 or not 0 <= self.acceptance <= 1:
            raise UserError(
                f"{self.num_drafts} drafts with an acceptance of {self.acceptance:g}",
                "drafts are not negative and the acceptance is a share between 0 and 1",
            )

    @property
    def tokens_per_step(self) -> float:
        """1 + a + a^2 + ..."""
        return sum(self.acceptance**i for i in range(self.num_drafts + 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A model on a kind of device: all that a roofline needs but the layout and the load.

    `efficiency` null takes `default_efficiency`; `limits` is what is used.
    """

    architecture: Architecture
    accelerator: Accelerator
    precision: Precision = Precision.BF16
    """What weights are stored and multiplied in."""
    cache_bytes_per_element: float = 2.0
    speculation: Speculation = Speculation()
    efficiency: Efficiency | None = None

    def __post_init__(self) -> None:
        self.accelerator.peak(self.precision)
        if self.accelerator.memory_bandwidth is None or self.accelerator.memory_bytes is None:
            raise UserError(
                f"the memory of {self.accelerator.name} is not known", "supply it with --accelerators FILE"
            )

    @property
    def limits(self) -> Efficiency:
        return self.efficiency or default_efficiency(self.accelerator, self.precision)

    @property
    def bandwidth(self) -> float:
        assert self.accelerator.memory_bandwidth is not None
        return self.accelerator.memory_bandwidth.value

    @property
    def gemm_peak(self) -> float:
        return self.accelerator.peak(self.precision).value

    @property
    def attention_peak(self) -> float:
        """Scores are computed in 16 bits, or in what the device has instead."""
        peaks = self.accelerator.peak_flops
        for precision in (Precision.BF16, Precision.FP16):
            if precision in peaks:
                return peaks[precision].value
        return self.gemm_peak

    @property
    def usable_bytes(self) -> float:
        assert self.accelerator.memory_bytes is not None
        return self.accelerator.memory_bytes.value * self.limits.usable_memory.value


def check_unit(server: Server, unit: Unit) -> None:
    """Raise UserError for a unit that the architecture does not go into, with the nearest that does."""
    architecture, experts = server.architecture, counts_of(server.architecture).experts
    heads = architecture.groups[0].layer.attention.num_heads
    if heads % unit.tensor_parallel:
        fits = max(n for n in range(1, unit.tensor_parallel) if heads % n == 0)
        raise UserError(
            f"{heads} heads do not split over a tensor parallel of {unit.tensor_parallel}",
            f"the nearest that fits is {fits}",
        )
    if experts is None:
        if unit.spreads_experts:
            raise UserError(
                f"a dense model has no experts to spread over {unit.num_devices} devices",
                f"the nearest that fits is a tensor parallel of {unit.num_devices}, or units of "
                f"{unit.tensor_parallel}",
            )
    else:
        stored = experts.num_experts + unit.num_redundant_experts
        if unit.num_devices > 1 and stored % unit.num_devices:
            redundant = multiple_above(stored, unit.num_devices) - experts.num_experts
            raise UserError(
                f"{stored} experts do not spread over {unit.num_devices} devices",
                f"the nearest that fits has {redundant} redundant experts",
            )
    held = weight_bytes(server, unit)
    if held > server.usable_bytes:
        raise UserError(
            f"each of {unit.num_devices} {server.accelerator.name} would hold {show_bytes(held)} of weights "
            f"and has {show_bytes(server.usable_bytes)} to fill",
            _roomier(server, unit),
        )


def weight_bytes(server: Server, unit: Unit) -> float:
    """Bytes of weights that each device of the unit holds, MTP modules left out unless they draft."""
    counts = counts_of(server.architecture)
    parts = counts.parameters
    if server.speculation.num_drafts:
        parts = parts + counts.mtp
    tables = parts.embedding + parts.positions + parts.head + parts.router + parts.norms + parts.biases
    others = parts.total - parts.experts - tables
    return _bytes(server, unit, parts.experts, others) + tables * TABLE_BYTES / unit.tensor_parallel


def weight_bytes_touched(server: Server, unit: Unit, num_tokens: float) -> float:
    """Bytes of weights that each device reads for a micro-batch of `num_tokens` over the whole unit."""
    counts = counts_of(server.architecture)
    active = counts.active
    others = active.matrices - active.experts - active.head
    head = server.architecture.table_elements * TABLE_BYTES / unit.tensor_parallel
    return _bytes(server, unit, counts.experts_touched(num_tokens), others) + head


def cache_bytes(server: Server, unit: Unit, context: int) -> float:
    """Bytes that one sequence of `context` tokens takes on each device that holds it."""
    whole = server.architecture.cache_bytes(context, server.cache_bytes_per_element)
    return whole / cache_split(server.architecture, unit)


def cache_split(architecture: Architecture, unit: Unit) -> int:
    """Over how many devices a cache divides: by key heads; a latent is one and is copied."""
    attention = architecture.groups[0].layer.attention
    return 1 if isinstance(attention, LatentAttention) else min(unit.tensor_parallel, attention.num_kv_heads)


def max_batch(server: Server, unit: Unit, context: int) -> int:
    """Sequences of `context` tokens that fit beside the weights, for each copy of the attention."""
    check_unit(server, unit)
    room = server.usable_bytes - weight_bytes(server, unit)
    return int(room / cache_bytes(server, unit, context))


def longest_context(server: Server, unit: Unit) -> int:
    """Tokens that one sequence alone could keep in memory, as if no window cut it."""
    room = server.usable_bytes - weight_bytes(server, unit)
    per_token = server.architecture.kv_bytes_per_token(server.cache_bytes_per_element)
    return int(room * cache_split(server.architecture, unit) / per_token)


def _roomier(server: Server, unit: Unit) -> str:
    for times in (2, 4, 8, 16, 32, 64):
        larger = replace(
            unit,
            num_devices=unit.num_devices * times,
            tensor_parallel=unit.tensor_parallel * (1 if unit.spreads_experts else times),
        )
        if weight_bytes(server, larger) <= server.usable_bytes:
            return f"the nearest that fits has {larger.num_devices} devices"
    return "choose a device with more memory or a smaller --precision"


def _bytes(server: Server, unit: Unit, experts: float, others: float) -> float:
    mixture = counts_of(server.architecture).experts
    copies = 1.0 if mixture is None else 1 + unit.num_redundant_experts / mixture.num_experts
    held = experts * copies / unit.num_devices + others / unit.tensor_parallel
    return held * server.precision.num_bytes


def multiple_above(number: int, of: int) -> int:
    """The smallest multiple of `of` that is not below `number`."""
    return -(-number // of) * of
