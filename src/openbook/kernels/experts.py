"""Routed experts: each token through its own few feed-forward networks, none dropped.

Shape letters: N token, K experts chosen per token, M = N * K copies of tokens sorted by expert, E expert,
D model width, I inner width of an expert.
Tokens travel to the experts and back by sorting and gathering alone. Backward gathers too, by the inverse
permutation, where autograd would scatter-add: faster on CPU, and the same bits on every run everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertWeights:
    """The stacked matrices of one layer's routed experts."""

    gate_EID: Tensor
    up_EID: Tensor
    down_EDI: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Dispatch:
    """Where the copies of tokens go. A copy is numbered token * K + choice."""

    source_M: Tensor
    """Sorted place -> the token it is a copy of."""
    order_M: Tensor
    """Sorted place -> copy."""
    place_NK: Tensor
    """Copy -> sorted place: the inverse of `order_M`."""
    counts_E: Tensor
    """Copies that each expert gets, int64."""


def plan_dispatch(experts_NK: Tensor, num_experts: int) -> Dispatch:
    """Sorts the copies of tokens by expert; within an expert they keep the order of the tokens."""
    flat_M = experts_NK.flatten()
    order_M = flat_M.argsort(stable=True)
    place_M = torch.empty_like(order_M)
    place_M[order_M] = torch.arange(len(order_M), device=order_M.device)
    return Dispatch(
        source_M=order_M // experts_NK.shape[1],
        order_M=order_M,
        place_NK=place_M.view_as(experts_NK),
        # Not `bincount`, which asks a GPU for its largest value and so cannot be captured in a graph.
        counts_E=flat_M.new_zeros(num_experts).scatter_add_(0, flat_M, torch.ones_like(flat_M)),
    )


def looped_experts(x_MD: Tensor, shares_M: Tensor, weights: ExpertWeights, counts_E: Tensor) -> Tensor:
    """The oracle: one expert after the other on its slice of the sorted rows -> [M, D]. Any dtype."""
    counts = counts_E.tolist()
    slices = zip(x_MD.split_with_sizes(counts), shares_M.split_with_sizes(counts), strict=True)
    matrices = zip(
        weights.gate_EID.unbind(0), weights.up_EID.unbind(0), weights.down_EDI.unbind(0), strict=True
    )
    outputs = []
    for (x_nD, shares_n), (gate_ID, up_ID, down_DI) in zip(slices, matrices, strict=True):
        inner_nI = F.silu(x_nD @ gate_ID.T) * (x_nD @ up_ID.T) * shares_n[:, None]
        outputs.append(inner_nI @ down_DI.T)
    return torch.cat(outputs)


def grouped_experts(x_MD: Tensor, shares_M: Tensor, weights: ExpertWeights, counts_E: Tensor) -> Tensor:
    """All experts at once by grouped matrix products -> [M, D]. For what `can_group` admits."""
    ends_E = counts_E.cumsum(0).to(torch.int32)
    gate_MI = F.grouped_mm(x_MD, weights.gate_EID.transpose(1, 2), offs=ends_E)
    up_MI = F.grouped_mm(x_MD, weights.up_EID.transpose(1, 2), offs=ends_E)
    inner_MI = F.silu(gate_MI) * up_MI * shares_M[:, None]
    return F.grouped_mm(inner_MI, weights.down_EDI.transpose(1, 2), offs=ends_E)


def can_group(weights: ExpertWeights) -> bool:
    """Whether the grouped product takes these weights: row strides of whole 16 bytes, and no fp64."""
    item_bytes = weights.gate_EID.element_size()
    aligned = all(size * item_bytes % 16 == 0 for size in weights.gate_EID.shape[1:])
    return aligned and weights.gate_EID.dtype in (torch.float32, torch.bfloat16, torch.float16)


def routed_experts(
    x_ND: Tensor, weights: ExpertWeights, experts_NK: Tensor, shares_NK: Tensor
) -> tuple[Tensor, Tensor]:
    """The sum over each token's experts of share * expert(token) [N, D], and the tokens each expert got [E].

    The share is applied inside the expert, before the last matrix, where rows are narrowest.
    """
    dispatch = plan_dispatch(experts_NK, len(weights.gate_EID))
    run = grouped_experts if can_group(weights) else looped_experts
    shares_M = shares_NK.to(x_ND.dtype).flatten()[dispatch.order_M]
    y_MD = run(_send(x_ND, dispatch), shares_M, weights, dispatch.counts_E)
    return _collect(y_MD, dispatch), dispatch.counts_E


def _send(x_ND: Tensor, dispatch: Dispatch) -> Tensor:
    """Tokens to the places of their copies -> [M, D]."""
    sent_MD: Tensor = _Send.apply(x_ND, dispatch.source_M, dispatch.place_NK)  # type: ignore[no-untyped-call]
    return sent_MD


def _collect(y_MD: Tensor, dispatch: Dispatch) -> Tensor:
    """The copies of each token summed -> [N, D]."""
    summed_ND: Tensor = _Collect.apply(y_MD, dispatch.source_M, dispatch.place_NK)  # type: ignore[no-untyped-call]
    return summed_ND


class _Send(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, source_M: Tensor, place_NK: Tensor) -> Tensor:
        ctx.save_for_backward(place_NK)
        return x_ND.index_select(0, source_M)

    @staticmethod
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Tensor, None, None]:
        (place_NK,) = ctx.saved_tensors
        return _sum_copies(grad_MD, place_NK), None, None


class _Collect(torch.autograd.Function):
    """The transpose of `_Send`."""

    @staticmethod
    def forward(ctx: Any, y_MD: Tensor, source_M: Tensor, place_NK: Tensor) -> Tensor:
        ctx.save_for_backward(source_M)
        return _sum_copies(y_MD, place_NK)

    @staticmethod
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, None, None]:
        (source_M,) = ctx.saved_tensors
        return grad_ND.index_select(0, source_M), None, None


def _sum_copies(rows_MD: Tensor, place_NK: Tensor) -> Tensor:
    copies_NKD = rows_MD.index_select(0, place_NK.flatten()).view(*place_NK.shape, rows_MD.shape[-1])
    return copies_NKD.sum(1)
