"""ModelConfig: the numbers of a network, under the names of the papers. No torch."""

from __future__ import annotations

import math
from typing import Literal

from openbook.config import config, require_at_least


@config
class MLAConfig:
    """Multi-head latent attention (DeepSeek-V3 2.1.1)."""

    kind: Literal["mla"] = "mla"
    q_lora_rank: int | None
    """Latent size of the query compression; null computes queries directly, as V2-Lite does."""
    kv_lora_rank: int
    """Latent size of keys and values: what the cache holds, beside the shared rotary key."""
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int

    def __post_init__(self) -> None:
        require_at_least(
            1,
            kv_lora_rank=self.kv_lora_rank,
            qk_nope_head_dim=self.qk_nope_head_dim,
            qk_rope_head_dim=self.qk_rope_head_dim,
            v_head_dim=self.v_head_dim,
        )
        if self.q_lora_rank is not None:
            require_at_least(1, q_lora_rank=self.q_lora_rank)


@config
class GQAConfig:
    """Grouped-query attention (Llama, Qwen3)."""

    kind: Literal["gqa"] = "gqa"
    num_key_value_heads: int
    head_dim: int
    qk_norm: bool = False
    """RMSNorm over each head's query and key, as Qwen3 has it."""

    def __post_init__(self) -> None:
        require_at_least(1, num_key_value_heads=self.num_key_value_heads, head_dim=self.head_dim)


@config
class MoEConfig:
    """DeepSeekMoE (DeepSeek-V3 2.1.2)."""

    n_routed_experts: int
    n_shared_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    first_k_dense_replace: int = 1
    """Leading layers that keep a dense feed-forward network."""
    n_group: int = 1
    topk_group: int = 1
    routed_scaling_factor: float = 1.0
    norm_topk_prob: bool = True
    scoring_func: Literal["sigmoid", "softmax"] = "sigmoid"
    topk_method: Literal["noaux_tc", "group_limited_greedy", "greedy"] = "noaux_tc"
    """`noaux_tc` is V3's choice by biased scores; the other two are V2's, without a bias."""

    def __post_init__(self) -> None:
        require_at_least(
            1,
            n_routed_experts=self.n_routed_experts,
            num_experts_per_tok=self.num_experts_per_tok,
            moe_intermediate_size=self.moe_intermediate_size,
            n_group=self.n_group,
            topk_group=self.topk_group,
        )
        require_at_least(
            0, n_shared_experts=self.n_shared_experts, first_k_dense_replace=self.first_k_dense_replace
        )
        if self.n_routed_experts % self.n_group or self.topk_group > self.n_group:
            raise ValueError(
                f"{self.n_routed_experts} n_routed_experts in {self.n_group} groups, {self.topk_group} kept: "
                "n_group must divide the experts, and topk_group must not be more"
            )
        reachable = self.n_routed_experts // self.n_group * self.topk_group
        if self.num_experts_per_tok > reachable:
            raise ValueError(
                f"num_experts_per_tok is {self.num_experts_per_tok} and a token reaches {reachable} experts"
            )


@config
class YarnConfig:
    """YaRN context extension (DeepSeek-V3 4.3; arXiv 2309.00071)."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 1.0


@config
class ModelConfig:
    """One decoder. `attention` and `moe` say which kind; `moe = null` is a dense model."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    """Inner size of the dense feed-forward networks."""
    attention: MLAConfig | GQAConfig
    moe: MoEConfig | None = None
    num_nextn_predict_layers: int = 0
    """Multi-token prediction modules (DeepSeek-V3 2.2)."""
    max_position_embeddings: int = 4096
    rope_theta: float = 10000.0
    yarn: YarnConfig | None = None
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    init_std: float | None = None
    """Standard deviation of the initial weights; null means 0.5 / sqrt(hidden_size). V3 used 0.006."""

    def __post_init__(self) -> None:
        require_at_least(
            1,
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=self.intermediate_size,
            max_position_embeddings=self.max_position_embeddings,
        )
        require_at_least(0, num_nextn_predict_layers=self.num_nextn_predict_layers)

    @property
    def initial_std(self) -> float:
        return 0.5 / math.sqrt(self.hidden_size) if self.init_std is None else self.init_std

    def is_moe_layer(self, layer: int) -> bool:
        """Whether the feed-forward network of 0-based `layer` is a mixture of experts."""
        return self.moe is not None and layer >= self.moe.first_k_dense_replace
