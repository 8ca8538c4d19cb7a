"""How long tokens take to their experts and back: measured bandwidths by number of devices. No torch.

Both tables are of DeepEP on H800 (200 GB/s link, 50 GB/s network for each device). For other hardware they
are scaled by its bandwidths. Dispatch is in FP8 with a scale for every 128 values, combine in 16 bits.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from math import log2

from openbook.economics.accelerator import Accelerator
from openbook.economics.sourced import Mark, Sourced
from openbook.errors import UserError

DISPATCH_BYTES = 1 + 4 / 128
COMBINE_BYTES = 2
H800_NETWORK = 50e9
H800_LINK = 200e9

NORMAL: Mapping[int, float] = {8: 155e9, 16: 43e9, 32: 57.5e9, 64: 50.5e9}
"""Bytes a second and device, counted once for each node that a token goes to (prefill)."""
LOW_LATENCY: Mapping[int, float] = {8: 115e9, 16: 70e9, 32: 51e9, 64: 45e9, 128: 39e9, 256: 39.7e9}
"""The same, counted once for each expert that a token goes to (decode), dispatch and combine together."""

EXPERT_BANDWIDTH = Sourced(
    value=LOW_LATENCY[128],
    unit="B/s",
    source="deepseek-ai/DeepEP, performance tables of V1 on H800",
    date=date(2025, 2, 25),
    mark=Mark.PRIMARY,
    note="By number of devices; this one is for 128 in decode. Scaled by network or link elsewhere.",
)


def expert_bandwidth(table: Mapping[int, float], num_devices: int, accelerator: Accelerator) -> float:
    """Bytes a second for `num_devices`, between the table's sizes by their logarithm, beyond them the last.

    Raises UserError when the accelerator's link or network is not known.
    """
    sizes = sorted(table)
    at = bisect_left(sizes, num_devices)
    if at == 0 or at == len(sizes):
        found = table[sizes[min(at, len(sizes) - 1)]]
    else:
        low, high = sizes[at - 1], sizes[at]
        part = (log2(num_devices) - log2(low)) / (log2(high) - log2(low))
        found = table[low] + part * (table[high] - table[low])
    if num_devices <= accelerator.devices_per_node:
        return found * _known(accelerator.link_bandwidth, accelerator, "link") / H800_LINK
    return found * _known(accelerator.network_bandwidth, accelerator, "network") / H800_NETWORK


def nodes_reached(num_nodes: int, num_experts_per_tok: int) -> float:
    """Nodes that hold at least one of a token's experts if they are drawn evenly: N (1 - (1 - 1/N)^K)."""
    return num_nodes * (1 - (1 - 1 / num_nodes) ** num_experts_per_tok)


def reduction_seconds(num_bytes: float, num_devices: int, bandwidth: float) -> float:
    """An all-reduce around a ring: 2 (n - 1) / n of the bytes over one device's link."""
    return 2 * (num_devices - 1) / num_devices * num_bytes / bandwidth


def _known(figure: Sourced | None, accelerator: Accelerator, what: str) -> float:
    if figure is None:
        raise UserError(
            f"the {what} bandwidth of {accelerator.name} is not known",
            "supply it with --accelerators FILE, or choose a layout of one device",
        )
    return figure.value


ASSUMED_NETWORK = Sourced(
    value=50e9,
    unit="B/s",
    source="ours",
    date=date(2026, 11, 24),
    mark=Mark.OURS,
    note="An adapter of 400 Gb/s for each device, as is usual; the table has none for this one.",
)


def with_network(accelerator: Accelerator) -> Accelerator:
    """The accelerator with its own network, or the usual one where the table has none."""
    if accelerator.network_bandwidth is not None:
        return accelerator
    return replace(accelerator, network_bandwidth=ASSUMED_NETWORK)
