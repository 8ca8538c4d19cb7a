"""Cache: what earlier positions left behind for later ones, in blocks of sixteen positions.

    CachePool    the blocks of every layer, shared by all sequences
    Cache        a pool and, for each row of a call, the table of the row's blocks

Shape letters: B row, T position in the call, S cached position, W numbers a position keeps in one tensor,
n block, s place in a block, L MoE layer, K chosen experts.
A layer keeps a tuple of tensors [n, W, 16]: (latents,), with the rotary key, for MLA, (keys, values) for GQA.
Inside a block each number of a position lies beside the same number of its fifteen
neighbours, which is what the native attention reads. How far each row is filled is the caller's to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openbook.model.config import MLAConfig, ModelConfig

BLOCK_SIZE = 16
"""Positions of one block."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CachePool:
    """The blocks of every layer."""

    layers: tuple[tuple[Tensor, ...], ...]
    experts_nsLK: Tensor
    """What the gates chose at each position: int16 [n, 16, MoE layers, K]; empty for a dense model."""

    @property
    def num_blocks(self) -> int:
        return self.layers[0][0].shape[0]

    @property
    def num_bytes(self) -> int:
        """Of what attention reads: the formula of model/cost.py, times the positions of all blocks."""
        return sum(tensor.nbytes for layer in self.layers for tensor in layer)

    def copy_blocks(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Each target block becomes what its source is, in every layer."""
        if not sources:
            return
        device = self.layers[0][0].device
        source, target = (torch.tensor(blocks, device=device) for blocks in (sources, targets))
        for tensor in (self.experts_nsLK, *(tensor for layer in self.layers for tensor in layer)):
            tensor.index_copy_(0, target, tensor.index_select(0, source))

    def chosen_experts(self, blocks: Sequence[int], num_positions: int) -> NDArray[np.int16]:
        """What the gates chose at the first positions of a sequence: [positions, MoE layers, K]."""
        chosen: NDArray[np.int16] = (
            self.experts_nsLK[list(blocks)].flatten(0, 1)[:num_positions].cpu().numpy()
        )
        return chosen


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """What the rows of one call read and write: `tables_Bn` (int64) names each row's blocks in order."""

    pool: CachePool
    tables_Bn: Tensor

    @property
    def capacity(self) -> int:
        """Positions that each row has room for."""
        return self.tables_Bn.shape[1] * BLOCK_SIZE

    def write(self, layer: int, positions_BT: Tensor, *values_BTx: Tensor) -> None:
        """Puts each of `values_BTx` [B, T, ...] at the given positions of its row, in place."""
        blocks_BT = self.tables_Bn.gather(1, positions_BT // BLOCK_SIZE)
        for pool_nWs, value in zip(self.pool.layers[layer], values_BTx, strict=True):
            pool_nWs[blocks_BT, :, positions_BT % BLOCK_SIZE] = value.flatten(2).to(pool_nWs.dtype)

    def write_experts(self, moe_layer: int, positions_BT: Tensor, experts_BTK: Tensor) -> None:
        """Notes what a gate chose."""
        blocks_BT = self.tables_Bn.gather(1, positions_BT // BLOCK_SIZE)
        record_nsK = self.pool.experts_nsLK[:, :, moe_layer]
        record_nsK[blocks_BT, positions_BT % BLOCK_SIZE] = experts_BTK.to(torch.int16)

    def read(self, layer: int, num_keys: int, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """The first `num_keys` positions of every row, tensor by tensor: [B, S, W].

        Zeros where no query of a `mask` [B, 1, T, S] looks: a NaN that another sequence left in a block
        would spread through its weight of zero.
        """
        blocks_Bn = self.tables_Bn[:, : -(-num_keys // BLOCK_SIZE)]
        read = tuple(
            pool_nWs[blocks_Bn].transpose(2, 3).flatten(1, 2)[:, :num_keys].contiguous()
            for pool_nWs in self.pool.layers[layer]
        )
        if mask is None or len(mask) == 1:  # a row alone reaches all it reads
            return read
        return tuple(values_BSW.masked_fill_(~mask[:, 0, -1, :, None], 0.0) for values_BSW in read)


def allocate_pool(
    config: ModelConfig, num_blocks: int, *, device: torch.device, dtype: torch.dtype, num_layers: int = 0
) -> CachePool:
    """Empty blocks for `num_layers` layers, or for the main layers of `config`."""
    widths, num_layers = cached_widths(config), num_layers or config.num_hidden_layers
    num_moe_layers = sum(config.is_moe_layer(layer) for layer in range(num_layers))
    num_choices = config.moe.num_experts_per_tok if config.moe is not None else 0
    return CachePool(
        experts_nsLK=torch.zeros(
            num_blocks, BLOCK_SIZE, num_moe_layers, num_choices, device=device, dtype=torch.int16
        ),
        layers=tuple(
            tuple(torch.zeros(num_blocks, width, BLOCK_SIZE, device=device, dtype=dtype) for width in widths)
            for _ in range(num_layers)
        ),
    )


def allocate(
    config: ModelConfig, batch_size: int, capacity: int, *, device: torch.device, dtype: torch.dtype
) -> Cache:
    """A pool just large enough for `capacity` positions in each of `batch_size` rows."""
    blocks_a_row = -(-capacity // BLOCK_SIZE)
    pool = allocate_pool(config, batch_size * blocks_a_row, device=device, dtype=dtype)
    tables_Bn = torch.arange(batch_size * blocks_a_row, device=device).view(batch_size, blocks_a_row)
    return Cache(pool=pool, tables_Bn=tables_Bn)


def cached_widths(config: ModelConfig) -> list[int]:
    """Numbers that one layer keeps of one position, tensor by tensor."""
    match config.attention:
        case MLAConfig() as mla:
            return [mla.kv_lora_rank + mla.qk_rope_head_dim]
        case gqa:
            return [gqa.num_key_value_heads * gqa.head_dim] * 2
