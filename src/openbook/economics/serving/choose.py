"""Which units serve a model best, where the user names none. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from openbook.economics.serving.counts import counts_of
from openbook.economics.serving.layout import Layout, Server, Unit, check_unit, multiple_above
from openbook.economics.serving.roofline import choose_batch, decode_step, prefill
from openbook.errors import UserError

NODES = (1, 2, 4, 12, 18)
"""Sizes in nodes that a mixture is spread over; 4 and 18 are those of day 6."""
REDUNDANT_SHARE = 1 / 8
"""Copies for each expert, as 32 for 256."""
GOOD_ENOUGH = 0.9
"""The smallest unit is taken that does so much of the best for each device."""
PUBLISHED = Layout(
    prefill=Unit(num_devices=32, num_redundant_experts=32),
    decode=Unit(num_devices=144, num_redundant_experts=32),
)
"""How V3 is served (deepseek-ai/open-infra-index, day 6): taken where it does nearly as well as the best."""
PUBLISHED_GOOD_ENOUGH = 0.85


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tried:
    unit: Unit
    tokens_per_second_per_device: float


def default_layout(
    server: Server, *, context: int, prompt_tokens: int, tokens_per_second_per_user: float | None
) -> Layout:
    """The units with the most tokens a second for each device, or smaller ones that do nearly as well.

    Raises UserError when nothing holds the model, the context or the speed: that of the largest unit tried.
    """

    def decode(unit: Unit) -> float:
        batch = choose_batch(server, unit, context, tokens_per_second_per_user)
        return decode_step(server, unit, batch, context).tokens_per_second_per_device

    def filling(unit: Unit) -> float:
        return prefill(server, unit, prompt_tokens).tokens_per_second_per_device

    tried: dict[str, list[_Tried]] = {"prefill": [], "decode": []}
    refused = UserError("no unit was tried")
    for unit in candidates(server):
        for name, speed_of in (("prefill", filling), ("decode", decode)):
            try:
                check_unit(server, unit)
                found = _Tried(unit=unit, tokens_per_second_per_device=speed_of(unit))
                tried[name].append(found)
            except UserError as error:
                refused = error
    if not tried["prefill"] or not tried["decode"]:
        raise refused
    return Layout(
        prefill=_best(tried["prefill"], PUBLISHED.prefill), decode=_best(tried["decode"], PUBLISHED.decode)
    )


def candidates(server: Server) -> Iterator[Unit]:
    """Smallest first: parts of a node, and for a mixture some numbers of nodes with the attention copied."""
    node = server.accelerator.devices_per_node
    experts = counts_of(server.architecture).experts
    heads = server.architecture.groups[0].layer.attention.num_heads
    size = 1
    while size <= min(node, 8):
        if heads % size == 0:
            yield Unit(num_devices=size, tensor_parallel=size)
        size *= 2
    if experts is None:
        return
    for num_devices in sorted({8, *(node * nodes for nodes in NODES if node * nodes <= 144)}):
        if 1 < num_devices <= experts.num_experts:
            wanted = experts.num_experts + round(experts.num_experts * REDUNDANT_SHARE)
            redundant = multiple_above(wanted, num_devices) - experts.num_experts
            yield Unit(num_devices=num_devices, num_redundant_experts=redundant)


def _best(tried: list[_Tried], published: Unit) -> Unit:
    most = max(one.tokens_per_second_per_device for one in tried)
    for one in tried:
        if one.unit == published and one.tokens_per_second_per_device >= PUBLISHED_GOOD_ENOUGH * most:
            return published
    good = [one for one in tried if one.tokens_per_second_per_device >= GOOD_ENOUGH * most]
    return min(good, key=lambda one: one.unit.num_devices).unit
