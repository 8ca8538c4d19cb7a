"""MLA: multi-head latent attention in its expanded and its absorbed form (DeepSeek-V3 2.1.1, V2 appendix C).

Shape letters: B row, T query position, S key position, D model width, H head, L latent (kv_lora_rank),
R rotary key, N part of a head without position, Q = N + R a whole query or key, V value, K = L + R what the
cache keeps of a position.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from openbook.kernels.attention import absorbed_attention, attention_of
from openbook.kernels.rope import rotate_adjacent
from openbook.model.cache import Cache
from openbook.model.config import MLAConfig, ModelConfig
from openbook.model.layers import Linear, RMSNorm
from openbook.model.rope import CachedPlaces, Places, softmax_scale, whole_row_attention


class MultiHeadLatentAttention(nn.Module):
    """Keys and values of all heads come from one small latent per position, and only that is cached."""

    def __init__(self, config: ModelConfig, mla: MLAConfig, layer: int) -> None:
        super().__init__()
        self.mla, self.layer, self.num_heads = mla, layer, config.num_attention_heads
        self.qk_size = mla.qk_nope_head_dim + mla.qk_rope_head_dim
        self.scale = softmax_scale(config, self.qk_size)
        width, eps, num_heads = config.hidden_size, config.rms_norm_eps, self.num_heads
        if mla.q_lora_rank is None:
            self.q_proj = Linear(width, num_heads * self.qk_size)
        else:
            self.q_a_proj = Linear(width, mla.q_lora_rank, bias=config.attention_bias)
            self.q_a_layernorm = RMSNorm(mla.q_lora_rank, eps)
            self.q_b_proj = Linear(mla.q_lora_rank, num_heads * self.qk_size)
        latent_size = mla.kv_lora_rank + mla.qk_rope_head_dim
        self.kv_a_proj_with_mqa = Linear(width, latent_size, bias=config.attention_bias)
        self.kv_a_layernorm = RMSNorm(mla.kv_lora_rank, eps)
        self.kv_b_proj = Linear(mla.kv_lora_rank, num_heads * (mla.qk_nope_head_dim + mla.v_head_dim))
        self.o_proj = Linear(num_heads * mla.v_head_dim, width, bias=config.attention_bias)

    def forward(self, x_BTD: Tensor, places: Places) -> Tensor:
        """Whole rows, in the expanded form."""
        q_BTHQ = self._queries(x_BTD, places.rotation)
        latent_BTL, rotary_key_BTR = self._latents(x_BTD, places.rotation)
        k_BTHQ, v_BTHV = self._expanded(latent_BTL, rotary_key_BTR)
        out: Tensor = self.o_proj(whole_row_attention(q_BTHQ, k_BTHQ, v_BTHV, places, self.scale).flatten(2))
        return out

    def forward_cached(self, x_BTD: Tensor, places: CachedPlaces, cache: Cache) -> Tensor:
        """Adds the tokens to the cache and attends to all of it; one token a row takes the absorbed form."""
        q_BTHQ = self._queries(x_BTD, places.rotation)
        latent_BTK = torch.cat(self._latents(x_BTD, places.rotation), dim=-1)
        cache.write(self.layer, places.positions_BT, latent_BTK)
        cached_BSK = cache.read(self.layer, places.num_keys, places.mask)[0].to(x_BTD.dtype)
        if x_BTD.shape[1] == 1 and places.mask is not None:
            return self._absorbed(q_BTHQ[:, 0], cached_BSK, places.mask[:, 0, 0])[:, None]
        latent_BSL, rotary_key_BSR = cached_BSK.split_with_sizes(
            (self.mla.kv_lora_rank, self.mla.qk_rope_head_dim), -1
        )
        k_BSHQ, v_BSHV = self._expanded(latent_BSL, rotary_key_BSR)
        out: Tensor = self.o_proj(attention_of(q_BTHQ, k_BSHQ, v_BSHV, places.mask, self.scale).flatten(2))
        return out

    def _queries(self, x_BTD: Tensor, rotation: Tensor) -> Tensor:
        if self.mla.q_lora_rank is None:
            flat = self.q_proj(x_BTD)
        else:
            flat = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x_BTD)))
        return rotate_adjacent(flat.view(*x_BTD.shape[:2], self.num_heads, self.qk_size), rotation)

    def _latents(self, x_BTD: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """The normalised latent and the turned rotary key, which has no norm and serves all heads."""
        sizes = (self.mla.kv_lora_rank, self.mla.qk_rope_head_dim)
        latent_BTL, rotary_key_BTR = self.kv_a_proj_with_mqa(x_BTD).split_with_sizes(sizes, -1)
        turns = rotation[..., 0, self.mla.qk_nope_head_dim // 2 :]
        return self.kv_a_layernorm(latent_BTL), rotate_adjacent(rotary_key_BTR, turns)

    def _expanded(self, latent_BSL: Tensor, rotary_key_BSR: Tensor) -> tuple[Tensor, Tensor]:
        """Each head's keys and values written out from the latent: cheapest where many queries share them."""
        sizes = (self.mla.qk_nope_head_dim, self.mla.v_head_dim)
        both_BSHx = self.kv_b_proj(latent_BSL).view(*latent_BSL.shape[:2], self.num_heads, sum(sizes))
        k_nope_BSHN, v_BSHV = both_BSHx.split_with_sizes(sizes, -1)
        shared_BSHR = rotary_key_BSR[:, :, None].expand(-1, -1, self.num_heads, -1)
        return torch.cat((k_nope_BSHN, shared_BSHR), dim=-1), v_BSHV

    def _absorbed(self, q_BHQ: Tensor, cached_BSK: Tensor, mask_BS: Tensor) -> Tensor:
        """Queries moved into the latent space instead, so that no head's keys are written out -> [B, D]."""
        mla = self.mla
        expand_HxL = self.kv_b_proj.weight.view(self.num_heads, -1, mla.kv_lora_rank)
        to_key_HNL, to_value_HVL = expand_HxL.split_with_sizes((mla.qk_nope_head_dim, mla.v_head_dim), dim=1)
        q_nope_BHN, q_rotary_BHR = q_BHQ.split_with_sizes(
            (mla.qk_nope_head_dim, mla.qk_rope_head_dim), dim=-1
        )
        q_latent_HBL = torch.bmm(q_nope_BHN.transpose(0, 1), to_key_HNL)
        q_BHK = torch.cat((q_latent_HBL.transpose(0, 1), q_rotary_BHR), dim=-1)
        out_BHL = absorbed_attention(q_BHK, cached_BSK, mask_BS, self.scale)[..., : mla.kv_lora_rank]
        out_HBV = torch.bmm(out_BHL.transpose(0, 1), to_value_HVL.transpose(1, 2))
        out: Tensor = self.o_proj(out_HBV.transpose(0, 1).flatten(1))
        return out
