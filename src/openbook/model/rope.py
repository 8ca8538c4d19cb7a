"""Rotary: the rotations that a config asks for, and Places: where the tokens of one call stand.

Shape letters: B row, T position in the call, S cached position, P pairs of dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from openbook.kernels.attention import attention_of, document_mask, reach_mask
from openbook.kernels.branches import Branches, branched_attention
from openbook.kernels.rope import (
    YarnScaling,
    inverse_frequencies,
    rotation_table,
    yarn_inverse_frequencies,
    yarn_mscale,
)
from openbook.model.config import MLAConfig, ModelConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where the tokens of a call over whole rows stand and what they see."""

    rotation: Tensor
    """Complex [T, 1, P] or [B, T, 1, P]; the axis of one is the heads'."""
    mask: Tensor | None
    """Boolean [B, 1, T, T]; None is plainly causal, unless there are branches."""
    branches: Branches | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedPlaces:
    """Where the tokens of a call with a cache stand: row by row behind what the row already holds."""

    rotation: Tensor
    """Complex [B, T, 1, P]."""
    positions_BT: Tensor
    num_keys: int
    """Cached positions that any query of the call can see: S."""
    mask: Tensor | None
    """Boolean [B, 1, T, S]; None is plainly causal, for rows that all begin empty."""


class Rotary:
    """Rotations by position, tabled for each device on first use and grown by doubling.

    Not a buffer: a table cast to bf16 along with the weights would misplace far positions, and a model made
    on the meta device would lose it.
    """

    def __init__(self, config: ModelConfig) -> None:
        attention, yarn = config.attention, config.yarn
        if isinstance(attention, MLAConfig):
            assert attention.qk_nope_head_dim % 2 == 0, "the part without position is passed over in pairs"
            rotary_dim, self._passed_pairs = attention.qk_rope_head_dim, attention.qk_nope_head_dim // 2
        else:
            rotary_dim, self._passed_pairs = attention.head_dim, 0
        self._rotary_dim, self._theta, self._yarn = rotary_dim, config.rope_theta, yarn
        self._tables: dict[torch.device, Tensor] = {}

    def running(self, num_positions: int, device: torch.device) -> Tensor:
        """Rotations of the positions 0, 1, ...: complex [T, 1, P]."""
        return self._table(num_positions, device)[:num_positions, None]

    def at(self, positions_BT: Tensor, num_positions: int) -> Tensor:
        """Rotations of the given positions, all below `num_positions`: complex [B, T, 1, P]."""
        return self._table(num_positions, positions_BT.device)[positions_BT][:, :, None]

    def _table(self, num_positions: int, device: torch.device) -> Tensor:
        held = self._tables.get(device)
        if held is None or len(held) < num_positions:
            size = max(256, 1 << (num_positions - 1).bit_length())
            held = self._make(size).to(device)
            self._tables[device] = held
        return held

    def _make(self, num_positions: int) -> Tensor:
        if self._yarn is None:
            frequencies_P, scale = inverse_frequencies(self._rotary_dim, self._theta), 1.0
        else:
            yarn = self._yarn
            scaling = YarnScaling(
                factor=yarn.factor,
                original_max_position_embeddings=yarn.original_max_position_embeddings,
                beta_fast=yarn.beta_fast,
                beta_slow=yarn.beta_slow,
            )
            frequencies_P = yarn_inverse_frequencies(self._rotary_dim, self._theta, scaling)
            scale = yarn_mscale(yarn.factor, yarn.mscale) / yarn_mscale(yarn.factor, yarn.mscale_all_dim)
        return rotation_table(frequencies_P, num_positions, scale=scale, passed_pairs=self._passed_pairs)


def softmax_scale(config: ModelConfig, qk_size: int) -> float:
    """1 / sqrt(size of a query), times the square of YaRN's temperature where YaRN is configured."""
    scale = 1 / math.sqrt(qk_size)
    if config.yarn is None:
        return scale
    return scale * yarn_mscale(config.yarn.factor, config.yarn.mscale_all_dim) ** 2


def place(
    rotary: Rotary,
    tokens_BT: Tensor,
    *,
    documents_BT: Tensor | None,
    positions_BT: Tensor | None,
    branches_BT: Tensor | None = None,
) -> Places:
    """The places of whole rows, which hold documents or a trunk with branches, not both."""
    assert documents_BT is None or branches_BT is None
    if positions_BT is None:
        rotation = rotary.running(tokens_BT.shape[1], tokens_BT.device)
    else:
        rotation = rotary.at(positions_BT, int(positions_BT.max()) + 1)
    return Places(
        rotation=rotation,
        mask=None if documents_BT is None else document_mask(documents_BT),
        branches=None if branches_BT is None else Branches.of(branches_BT),
    )


def whole_row_attention(
    q_BTHQ: Tensor, k_BTJQ: Tensor, v_BTJV: Tensor, places: Places, scale: float
) -> Tensor:
    """Each position attends to what it sees from its place -> [B, T, H, V]."""
    if places.branches is not None:
        return branched_attention(q_BTHQ, k_BTJQ, v_BTJV, places.branches, scale)
    return attention_of(q_BTHQ, k_BTJQ, v_BTJV, places.mask, scale)


def place_behind(rotary: Rotary, tokens_BT: Tensor, lengths_B: Tensor, capacity: int) -> CachedPlaces:
    """The places of tokens that continue cached rows: positions lengths_B + 0..T-1."""
    num_tokens = tokens_BT.shape[1]
    longest = int(lengths_B.max())
    num_keys = longest + num_tokens
    assert num_keys <= capacity, f"{num_keys} positions in a cache for {capacity}"
    positions_BT = lengths_B[:, None] + torch.arange(num_tokens, device=tokens_BT.device)
    return CachedPlaces(
        rotation=rotary.at(positions_BT, num_keys),
        positions_BT=positions_BT,
        num_keys=num_keys,
        mask=None if longest == 0 else reach_mask(positions_BT, num_keys),
    )


def place_next(rotary: Rotary, lengths_B: Tensor, capacity: int) -> CachedPlaces:
    """The place of one token behind each row, over the whole capacity: no size depends on the lengths.

    So nothing has to be asked of the device, and the call can be captured in a graph.
    """
    positions_B1 = lengths_B[:, None]
    return CachedPlaces(
        rotation=rotary.at(positions_B1, capacity),
        positions_BT=positions_B1,
        num_keys=capacity,
        mask=reach_mask(positions_B1, capacity),
    )
