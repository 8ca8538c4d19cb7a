"""Attention over rows of a trunk and branches: each branch sees the trunk and itself.

A mask over whole rows would pay for every score between two branches only to throw it away. Here rows are
taken apart: the trunk attends to itself, each branch to its trunk and itself, and the results are put
together again. Branches of similar length share a product.

Shape letters: R row, T position in it, P position in a trunk, B branch, L position in a branch,
S = P + L what a branch can see, H query head, J key-value head,
Q size of a query and a key, V size of a value, W either.
A place counts the positions of all rows as one, R x T.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openbook.kernels.attention import attention_of

LEAST_FILLED = 0.5
"""A branch shorter than this share of the longest beside it goes to another bunch."""

Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """Where pieces of rows stand, of equal length by padding: trunks, or branches."""

    places_BL: Tensor
    """Any place for padding."""
    padding_BL: Tensor | None
    """Boolean; None where nothing is padded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bunch:
    """Branches of similar length."""

    pieces: Pieces
    rows_B: Tensor
    mask_B1LS: Tensor
    """Boolean: which keys of the trunk and of the branch a query sees."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Branches:
    """Rows, taken apart."""

    trunks: Pieces
    bunches: tuple[Bunch, ...]
    home_RT: Tensor
    """Of each position its place among the trunks and then the bunches; the last for what is no token."""

    @classmethod
    def of(cls, branches_RT: Tensor) -> Branches:
        """From the branch of each position: first 0, the trunk, then 1, 2, ... by turns; -1 is no token."""
        device, branches = branches_RT.device, branches_RT.cpu().numpy()
        width = branches.shape[1]
        home = np.full(branches.size, -1, np.int64)
        trunk_sizes = (branches == 0).sum(1)
        trunks = _pieces(np.arange(len(branches)) * width, trunk_sizes, home, 0)
        num_taken, bunches = trunks.places_BL.numel(), []
        for rows, firsts, sizes in _bunches(branches):
            pieces = _pieces(rows * width + firsts, sizes, home, num_taken)
            num_taken += pieces.places_BL.numel()
            mask = _mask(trunk_sizes[rows], trunks.places_BL.shape[1], pieces.places_BL.shape[1])
            rows_B = torch.from_numpy(rows).to(device)
            bunches.append(Bunch(pieces=_on(pieces, device), rows_B=rows_B, mask_B1LS=mask.to(device)))
        home[home < 0] = num_taken
        home_RT = torch.from_numpy(home.reshape(branches.shape)).to(device)
        return cls(trunks=_on(trunks, device), bunches=tuple(bunches), home_RT=home_RT)

    @property
    def pieces(self) -> list[Pieces]:
        return [self.trunks, *(bunch.pieces for bunch in self.bunches)]


def branch_mask(branches_RT: Tensor) -> Tensor:
    """The oracle of what a position sees, boolean [R, 1, T, T]: causal, its own branch and the trunk."""
    same_RTT = branches_RT[:, :, None] == branches_RT[:, None, :]
    is_trunk_R1T = (branches_RT == 0)[:, None, :]
    return (same_RTT | is_trunk_R1T).tril()[:, None]


def branched_attention(
    q_RTHQ: Tensor, k_RTJQ: Tensor, v_RTJV: Tensor, branches: Branches, scale: float
) -> Tensor:
    """As `plain_attention` under `branch_mask` -> [R, T, H, V]; zeros where there is no token."""
    trunk_q, *own_q = _take_apart(q_RTHQ, branches)
    trunk_k, *own_k = _take_apart(k_RTJQ, branches)
    trunk_v, *own_v = _take_apart(v_RTJV, branches)
    results = [attention_of(trunk_q, trunk_k, trunk_v, None, scale)]
    for bunch, q_BLHQ, k_BLJQ, v_BLJV in zip(branches.bunches, own_q, own_k, own_v, strict=True):
        k_BSJQ = torch.cat((trunk_k.index_select(0, bunch.rows_B), k_BLJQ), 1)
        v_BSJV = torch.cat((trunk_v.index_select(0, bunch.rows_B), v_BLJV), 1)
        results.append(attention_of(q_BLHQ, k_BSJQ, v_BSJV, bunch.mask_B1LS, scale))
    together: Tensor = _PutTogether.apply(branches, *results)  # type: ignore[no-untyped-call]
    return together


def _take_apart(x_RTHW: Tensor, branches: Branches) -> Sequence[Tensor]:
    parts: Sequence[Tensor] = _TakeApart.apply(branches, x_RTHW)  # type: ignore[no-untyped-call]
    return parts


class _TakeApart(torch.autograd.Function):
    """[R, T, H, W] -> [B, L, H, W] of the trunks and of each bunch. Forward and backward only copy."""

    @staticmethod
    def forward(ctx: Any, branches: Branches, x_RTHW: Tensor) -> tuple[Tensor, ...]:
        ctx.branches = branches
        return tuple(_apart(x_RTHW, pieces) for pieces in branches.pieces)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, _together(grads, ctx.branches)


class _PutTogether(torch.autograd.Function):
    """The way back."""

    @staticmethod
    def forward(ctx: Any, branches: Branches, *parts: Tensor) -> Tensor:
        ctx.branches = branches
        return _together(parts, branches)

    @staticmethod
    def backward(ctx: Any, grad_RTHW: Tensor) -> tuple[Tensor | None, ...]:
        grads = [_apart(grad_RTHW, pieces) for pieces in ctx.branches.pieces]
        for grad_BLHW, pieces in zip(grads, ctx.branches.pieces, strict=True):
            if pieces.padding_BL is not None:  # the keys that a query of padding saw learn nothing from it
                grad_BLHW.masked_fill_(pieces.padding_BL[:, :, None, None], 0)
        return None, *grads


def _apart(x_RTHW: Tensor, pieces: Pieces) -> Tensor:
    part = x_RTHW.flatten(0, 1).index_select(0, pieces.places_BL.flatten())
    return part.view(*pieces.places_BL.shape, *x_RTHW.shape[2:])


def _together(parts: Sequence[Tensor], branches: Branches) -> Tensor:
    nothing = parts[0].new_zeros(1, *parts[0].shape[2:])
    joined = torch.cat((*(part.flatten(0, 1) for part in parts), nothing))
    together = joined.index_select(0, branches.home_RT.flatten())
    return together.view(*branches.home_RT.shape, *together.shape[1:])


def _bunches(branches: Numbers) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
    """Of each branch its row, first position and size, [B] each, the longest first, bunch by bunch."""
    found = []
    for row, numbers in enumerate(branches):
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1), len(numbers)]
        spans = itertools.pairwise(edges)
        found += [(row, first, end - first) for first, end in spans if numbers[first] > 0]
    found.sort(key=lambda branch: -branch[2])
    while found:
        fitting = [branch for branch in found if branch[2] >= LEAST_FILLED * found[0][2]]
        rows, firsts, sizes = np.array(fitting, np.int64).T
        yield rows, firsts, sizes
        found = found[len(fitting) :]


def _pieces(firsts: Numbers, sizes: Numbers, home: Numbers, num_before: int) -> Pieces:
    """Pieces that begin at the places `firsts`; tells the positions in them their `home`."""
    longest = max(int(sizes.max()), 1)
    steps = np.arange(longest)
    padding = steps >= sizes[:, None]
    places = np.where(padding, 0, firsts[:, None] + steps)
    home[places[~padding]] = num_before + np.flatnonzero(~padding)
    return Pieces(
        places_BL=torch.from_numpy(places),
        padding_BL=torch.from_numpy(padding) if padding.any() else None,
    )


def _on(pieces: Pieces, device: torch.device) -> Pieces:
    padding = None if pieces.padding_BL is None else pieces.padding_BL.to(device)
    return Pieces(places_BL=pieces.places_BL.to(device), padding_BL=padding)


def _mask(trunk_sizes: Numbers, longest_trunk: int, longest_branch: int) -> Tensor:
    """Boolean [B, 1, L, S]: all of the trunk, and the branch up to the query."""
    trunk_B1P = (np.arange(longest_trunk) < trunk_sizes[:, None])[:, None]
    shape = (len(trunk_sizes), longest_branch)
    own_1LL = np.tri(longest_branch, dtype=bool)[None]
    mask = np.concatenate(
        (np.broadcast_to(trunk_B1P, (*shape, longest_trunk)), np.broadcast_to(own_1LL, (*shape, shape[1]))), 2
    )
    return torch.from_numpy(mask)[:, None]
