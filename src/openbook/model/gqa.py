"""GQA: grouped-query attention, with the query and key norms of Qwen3 where asked for (arXiv 2305.13245).

Shape letters: B row, T query position, S key position, D model width, H query head, J key-value head,
Q size of a head.
"""

from __future__ import annotations

from torch import Tensor, nn

from openbook.kernels.attention import attention_of, decode_attention
from openbook.kernels.rope import rotate_halves
from openbook.model.cache import Cache
from openbook.model.config import GQAConfig, ModelConfig
from openbook.model.layers import Linear, RMSNorm
from openbook.model.rope import CachedPlaces, Places, softmax_scale, whole_row_attention


class GroupedQueryAttention(nn.Module):
    """Several query heads to each key-value head."""

    def __init__(self, config: ModelConfig, gqa: GQAConfig, layer: int) -> None:
        super().__init__()
        assert config.num_attention_heads % gqa.num_key_value_heads == 0, "whole groups of query heads"
        self.gqa, self.layer, self.num_heads = gqa, layer, config.num_attention_heads
        self.scale = softmax_scale(config, gqa.head_dim)
        width, bias = config.hidden_size, config.attention_bias
        query_size = config.num_attention_heads * gqa.head_dim
        kv_size = gqa.num_key_value_heads * gqa.head_dim
        self.q_proj = Linear(width, query_size, bias=bias)
        self.k_proj = Linear(width, kv_size, bias=bias)
        self.v_proj = Linear(width, kv_size, bias=bias)
        self.o_proj = Linear(query_size, width)
        if gqa.qk_norm:
            self.q_norm = RMSNorm(gqa.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(gqa.head_dim, config.rms_norm_eps)

    def forward(self, x_BTD: Tensor, places: Places) -> Tensor:
        """Whole rows."""
        q_BTHQ, k_BTJQ, v_BTJQ = self._projections(x_BTD, places.rotation)
        out: Tensor = self.o_proj(whole_row_attention(q_BTHQ, k_BTJQ, v_BTJQ, places, self.scale).flatten(2))
        return out

    def forward_cached(self, x_BTD: Tensor, places: CachedPlaces, cache: Cache) -> Tensor:
        """Adds the tokens to the cache and attends to all of it."""
        q_BTHQ, k_BTJQ, v_BTJQ = self._projections(x_BTD, places.rotation)
        cache.write(self.layer, places.positions_BT, k_BTJQ, v_BTJQ)
        k_BSJQ, v_BSJQ = (
            t_BSW.view(*t_BSW.shape[:2], *k_BTJQ.shape[2:]).to(x_BTD.dtype)
            for t_BSW in cache.read(self.layer, places.num_keys, places.mask)
        )
        if x_BTD.shape[1] == 1 and places.mask is not None:
            out_BHQ = decode_attention(q_BTHQ[:, 0], k_BSJQ, v_BSJQ, places.mask[:, 0, 0], self.scale)
            out: Tensor = self.o_proj(out_BHQ.flatten(1)[:, None])
            return out
        out_BTHQ = attention_of(q_BTHQ, k_BSJQ, v_BSJQ, places.mask, self.scale)
        out = self.o_proj(out_BTHQ.flatten(2))
        return out

    def _projections(self, x_BTD: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = x_BTD.shape[:2]
        q_BTHQ = self.q_proj(x_BTD).view(*rows, self.num_heads, self.gqa.head_dim)
        k_BTJQ = self.k_proj(x_BTD).view(*rows, self.gqa.num_key_value_heads, self.gqa.head_dim)
        v_BTJQ = self.v_proj(x_BTD).view(*rows, self.gqa.num_key_value_heads, self.gqa.head_dim)
        if self.gqa.qk_norm:
            q_BTHQ, k_BTJQ = self.q_norm(q_BTHQ), self.k_norm(k_BTJQ)
        return rotate_halves(q_BTHQ, rotation), rotate_halves(k_BTJQ, rotation), v_BTJQ
