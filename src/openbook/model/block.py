"""Block: attention and a feed-forward network, each behind a norm and beside a residual path."""

from __future__ import annotations

from torch import Tensor, nn

from openbook.model.cache import Cache
from openbook.model.config import MLAConfig, ModelConfig
from openbook.model.gqa import GroupedQueryAttention
from openbook.model.layers import RMSNorm, SwiGLU
from openbook.model.mla import MultiHeadLatentAttention
from openbook.model.moe import MixtureOfExperts, Routing
from openbook.model.rope import CachedPlaces, Places


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). `layer` is its place in the cache."""

    def __init__(self, config: ModelConfig, layer: int, *, is_moe: bool) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = RMSNorm(width, eps)
        self.self_attn: MultiHeadLatentAttention | GroupedQueryAttention
        if isinstance(config.attention, MLAConfig):
            self.self_attn = MultiHeadLatentAttention(config, config.attention, layer)
        else:
            self.self_attn = GroupedQueryAttention(config, config.attention, layer)
        self.post_attention_layernorm = RMSNorm(width, eps)
        self.mlp: SwiGLU | MixtureOfExperts
        if is_moe and config.moe is not None:
            self.moe_layer = layer - min(layer, config.moe.first_k_dense_replace)
            self.mlp = MixtureOfExperts(config, config.moe)
        else:
            self.mlp = SwiGLU(width, config.intermediate_size)

    def forward(
        self, x_BTD: Tensor, places: Places, valid_BT: Tensor | None, experts_BTLK: Tensor | None = None
    ) -> tuple[Tensor, list[Routing]]:
        """Whole rows [B, T, D], and how they were routed: one entry, or none for a dense block.

        `experts_BTLK` makes the gate choose what is given, layer by layer, instead of what it would.
        """
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), places)
        normed_BTD = self.post_attention_layernorm(x_BTD)
        if isinstance(self.mlp, MixtureOfExperts):
            given_BTK = None if experts_BTLK is None else experts_BTLK[:, :, self.moe_layer]
            mixed_BTD, routing = self.mlp(normed_BTD, valid_BT, given_BTK)
            return x_BTD + mixed_BTD, [routing]
        return x_BTD + self.mlp(normed_BTD), []

    def forward_cached(self, x_BTD: Tensor, places: CachedPlaces, cache: Cache) -> Tensor:
        """The next tokens of cached rows [B, T, D]."""
        x_BTD = x_BTD + self.self_attn.forward_cached(self.input_layernorm(x_BTD), places, cache)
        normed_BTD = self.post_attention_layernorm(x_BTD)
        if isinstance(self.mlp, MixtureOfExperts):
            mixed_BTD, experts_BTK = self.mlp.forward_cached(normed_BTD)
            cache.write_experts(self.moe_layer, places.positions_BT, experts_BTK)
            return x_BTD + mixed_BTD
        advanced_BTD: Tensor = x_BTD + self.mlp(normed_BTD)
        return advanced_BTD
