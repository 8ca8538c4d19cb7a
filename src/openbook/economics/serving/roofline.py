"""How long a prefill and a decode step take, from what they compute, read and send. No torch.

Each kind of kernel is at its own roof: max(FLOPs / reachable FLOP/s, bytes / reachable bytes/s). A step is
their sum and what communication sticks out. `floor_seconds` is the plain roofline at the peaks: nothing is
faster.
"""

from __future__ import annotations

from dataclasses import dataclass

from openbook.economics.serving.counts import counts_of, decode_flops
from openbook.economics.serving.layout import (
    Server,
    Unit,
    cache_bytes,
    check_unit,
    longest_context,
    max_batch,
    weight_bytes_touched,
)
from openbook.economics.serving.network import (
    COMBINE_BYTES,
    DISPATCH_BYTES,
    LOW_LATENCY,
    NORMAL,
    expert_bandwidth,
    nodes_reached,
    reduction_seconds,
)
from openbook.errors import UserError

PREFILL_TOKENS = 16_384
"""Tokens that one device takes in one prefill pass (deepseek-ai/profile-data)."""
ACTIVATION_BYTES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeStep:
    """One step of `batch` sequences on each copy of the attention."""

    batch: int
    attention_seconds: float
    gemm_seconds: float
    communication_seconds: float
    """All of it; how much sticks out is in `seconds`."""
    seconds: float
    floor_seconds: float
    tokens_per_step: float
    tensor_parallel: int

    @property
    def tokens_per_second_per_user(self) -> float:
        return self.tokens_per_step / self.seconds

    @property
    def tokens_per_second_per_device(self) -> float:
        return self.batch * self.tokens_per_step / self.seconds / self.tensor_parallel


@dataclass(frozen=True, kw_only=True, slots=True)
class Prefill:
    """Seconds for each computed token on each copy of the attention."""

    attention_seconds: float
    gemm_seconds: float
    communication_seconds: float
    seconds: float
    floor_seconds: float
    tensor_parallel: int

    @property
    def tokens_per_second_per_device(self) -> float:
        """Computed tokens; those found in the cache are not among them."""
        return 1 / self.seconds / self.tensor_parallel


def decode_step(server: Server, unit: Unit, batch: int, context: int) -> DecodeStep:
    """The step in which `batch` sequences of `context` cached tokens get their next tokens."""
    limits, split = server.limits, unit.tensor_parallel
    rows = batch * (1 + server.speculation.num_drafts)
    copies = unit.num_devices // split
    matmul, scores = decode_flops(server.architecture, context)
    read = batch * cache_bytes(server, unit, context)
    attention_flops, gemm_flops = rows * scores / split, rows * matmul / split
    attention = max(
        attention_flops / (server.attention_peak * limits.attention.value),
        read / (server.bandwidth * limits.cache_bandwidth.value),
    )

    def gemm(num_micro_batches: int) -> float:
        touched = weight_bytes_touched(server, unit, rows * copies / num_micro_batches)
        reading = num_micro_batches * touched / (server.bandwidth * limits.weight_bandwidth.value)
        return max(gemm_flops / (server.gemm_peak * limits.gemm.value), reading)

    communication = _experts_seconds(server, unit, rows / split) + _reduce_seconds(server, unit, rows)
    draft = 1 + server.speculation.num_drafts * counts_of(server.architecture).draft_share
    seconds = attention + gemm(1) + communication
    if unit.spreads_experts:
        hidden = max(attention + gemm(2), communication, seconds / limits.decode_overlap.value)
        seconds = min(seconds, hidden) / limits.expert_balance.value
    touched = weight_bytes_touched(server, unit, rows * copies)
    return DecodeStep(
        batch=batch,
        attention_seconds=attention,
        gemm_seconds=gemm(1),
        communication_seconds=communication,
        seconds=seconds * draft,
        floor_seconds=max(
            (read + touched) / server.bandwidth,
            attention_flops / server.attention_peak + gemm_flops / server.gemm_peak,
        ),
        tokens_per_step=server.speculation.tokens_per_step,
        tensor_parallel=split,
    )


def prefill(server: Server, unit: Unit, prompt_tokens: int, hit_share: float = 0.0) -> Prefill:
    """A computed token of prompts whose first `hit_share` lies in the cache and is attended to from there."""
    check_unit(server, unit)
    limits, split, architecture = server.limits, unit.tensor_parallel, server.architecture
    hit = round(prompt_tokens * hit_share)
    computed = max(prompt_tokens - hit, 1)

    def scores(num_tokens: int) -> int:
        flops = architecture.forward_flops_per_token(num_tokens) if num_tokens else None
        return flops.attention * num_tokens if flops else 0

    attention_flops = (scores(prompt_tokens) - scores(min(hit, prompt_tokens - 1))) / computed / split
    gemm_flops = 2 * counts_of(architecture).matmul_parameters / split
    copies = unit.num_devices // split
    read = weight_bytes_touched(server, unit, PREFILL_TOKENS * copies) / PREFILL_TOKENS
    attention = attention_flops / (server.attention_peak * limits.attention.value)
    gemm = max(
        gemm_flops / (server.gemm_peak * limits.gemm.value),
        read / (server.bandwidth * limits.weight_bandwidth.value),
    )
    communication = _travel_seconds(server, unit) + _reduce_seconds(server, unit, 1)
    seconds = attention + gemm + communication
    if unit.spreads_experts:
        beside = (attention + gemm) / limits.compute_beside_communication.value
        hidden = max(beside, communication, seconds / limits.prefill_overlap.value)
        seconds = min(seconds, hidden) / limits.expert_balance.value
    return Prefill(
        attention_seconds=attention,
        gemm_seconds=gemm,
        communication_seconds=communication,
        seconds=seconds,
        floor_seconds=max(
            attention_flops / server.attention_peak + gemm_flops / server.gemm_peak, read / server.bandwidth
        ),
        tensor_parallel=split,
    )


def choose_batch(server: Server, unit: Unit, context: int, tokens_per_second_per_user: float | None) -> int:
    """The largest batch that fits into memory and still gives every user the speed; null asks for no speed.

    Raises UserError when not one sequence fits, or when not even one alone is as fast.
    """
    most = max_batch(server, unit, context)
    if most < 1:
        raise UserError(
            f"not one sequence of {context:,} tokens fits beside the weights",
            f"the longest that does has {longest_context(server, unit):,}, or take more devices a unit",
        )
    if tokens_per_second_per_user is None:
        return most

    def is_fast(batch: int) -> bool:
        step = decode_step(server, unit, batch, context)
        return step.tokens_per_second_per_user >= tokens_per_second_per_user

    if not is_fast(1):
        fastest = decode_step(server, unit, 1, context).tokens_per_second_per_user
        raise UserError(
            f"{tokens_per_second_per_user:g} tokens a second for each user are out of reach",
            f"one sequence alone gets {fastest:.3g}; ask for less with --speed, or split over more devices",
        )
    low, high = 1, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_fast(middle) else (low, middle)
    return low


def _experts_seconds(server: Server, unit: Unit, rows: float) -> float:
    """Decode: every token goes to each of its experts by itself."""
    experts = counts_of(server.architecture).experts
    if experts is None or not unit.spreads_experts:
        return 0.0
    num_bytes = rows * experts.num_experts_per_tok * _hidden_bytes(server)
    bandwidth = expert_bandwidth(LOW_LATENCY, unit.num_devices, server.accelerator)
    return server.architecture.num_moe_layers * num_bytes / bandwidth


def _travel_seconds(server: Server, unit: Unit) -> float:
    """Prefill: a token goes once to each node (inside one node: to each device) that has experts of it."""
    experts = counts_of(server.architecture).experts
    if experts is None or not unit.spreads_experts:
        return 0.0
    node = server.accelerator.devices_per_node
    places = unit.num_devices if unit.num_devices <= node else -(-unit.num_devices // node)
    num_bytes = nodes_reached(places, experts.num_experts_per_tok) * _hidden_bytes(server)
    bandwidth = expert_bandwidth(NORMAL, unit.num_devices, server.accelerator)
    return server.architecture.num_moe_layers * num_bytes / bandwidth


def _hidden_bytes(server: Server) -> float:
    return server.architecture.hidden_size * (DISPATCH_BYTES + COMBINE_BYTES)


def _reduce_seconds(server: Server, unit: Unit, rows: float) -> float:
    """Tensor parallelism sums the activations up twice in each layer."""
    split, accelerator = unit.tensor_parallel, server.accelerator
    if split == 1:
        return 0.0
    inside = split <= accelerator.devices_per_node
    figure = accelerator.link_bandwidth if inside else accelerator.network_bandwidth
    if figure is None:
        raise UserError(
            f"the bandwidth between devices of {accelerator.name} is not known",
            "supply it with --accelerators FILE, or choose a tensor parallel of 1",
        )
    num_bytes = rows * server.architecture.hidden_size * ACTIVATION_BYTES
    once = reduction_seconds(num_bytes, split, figure.value * server.limits.link.value)
    return 2 * server.architecture.num_layers * once
