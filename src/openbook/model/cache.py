"""Cache: what earlier positions left behind for later ones.

Shape letters: B row, S cached position, K latent and rotary key of MLA, J key-value head, Q head size.
A layer keeps a tuple of tensors that begin with [B, S]: (latent_BSK,) for MLA, (keys_BSJQ, values_BSJQ) for
GQA. How far each row is filled is the caller's to know: it passes the lengths to every step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from openbook.model.config import GQAConfig, MLAConfig, ModelConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """The cached tensors of every layer, one row a sequence."""

    layers: tuple[tuple[Tensor, ...], ...]

    @property
    def batch_size(self) -> int:
        return self.layers[0][0].shape[0]

    @property
    def capacity(self) -> int:
        """Positions that each row has room for."""
        return self.layers[0][0].shape[1]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for layer in self.layers for tensor in layer)

    def write(self, layer: int, rows_B1: Tensor, positions_BT: Tensor, *values: Tensor) -> None:
        """Puts each of `values` [B, T, ...] at the given positions of the given rows, in place."""
        for cached, value in zip(self.layers[layer], values, strict=True):
            cached[rows_B1, positions_BT] = value.to(cached.dtype)

    def select(self, rows: Tensor) -> Cache:
        """A new cache of the given rows (indices int64 [R]) in the given order; rows may repeat."""
        return Cache(layers=tuple(tuple(t.index_select(0, rows) for t in layer) for layer in self.layers))

    def repeat(self, times: int) -> Cache:
        """A new cache with each row `times` times, the copies side by side: the samples of one prompt."""
        return Cache(
            layers=tuple(tuple(t.repeat_interleave(times, 0) for t in layer) for layer in self.layers)
        )


def allocate(
    config: ModelConfig, batch_size: int, capacity: int, *, device: torch.device, dtype: torch.dtype
) -> Cache:
    """An empty cache for the main layers of `config`."""
    tails = cached_sizes(config)
    return Cache(
        layers=tuple(
            tuple(torch.zeros(batch_size, capacity, *tail, device=device, dtype=dtype) for tail in tails)
            for _ in range(config.num_hidden_layers)
        )
    )


def cached_sizes(config: ModelConfig) -> list[tuple[int, ...]]:
    """The shape of what one layer keeps for one position, tensor by tensor."""
    match config.attention:
        case MLAConfig() as mla:
            return [(mla.kv_lora_rank + mla.qk_rope_head_dim,)]
        case GQAConfig() as gqa:
            return [(gqa.num_key_value_heads, gqa.head_dim)] * 2
