"""What a ModelConfig costs, counted exactly: parameters, cache bytes and FLOPs. No torch.

`count(config)` walks the configuration as the network is built and returns a Cost:

    cost = count(deepseek_v3)
    cost.parameters_total                                  671,026,419,200
    cost.parameters_active                                  37,552,297,472
    cost.kv_bytes_per_token()                                       70,272
    cost.training_flops_per_token(4096).total              250.45e9, causal, MTP apart

Multi-token prediction is always counted apart, as the published sizes do.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from openbook.model.config import GQAConfig, MLAConfig, ModelConfig, MoEConfig


class AttentionCount(StrEnum):
    """How many of the s x s scores a FLOP count pays for.

    `causal` counts the half that a causal kernel computes, `full` all of them. A utilisation
    is only comparable with another that names the same one.
    """

    CAUSAL = "causal"
    FULL = "full"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Numbers of parameters by part; they add up to `total`.

    `attention`, `dense_ffn`, `experts`, `shared_experts`, `router`, `eh_proj` and `head` are
    matrices; `norms` and `biases` hold every vector of the network. `head` is 0 when the
    embedding is used twice; `eh_proj` is the matrix by which an MTP module joins its inputs.
    """

    embedding: int = 0
    attention: int = 0
    dense_ffn: int = 0
    experts: int = 0
    shared_experts: int = 0
    router: int = 0
    eh_proj: int = 0
    head: int = 0
    norms: int = 0
    biases: int = 0

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def matrices(self) -> int:
        """Parameters that take part in a matrix product: no table look-up, no norm, no bias."""
        return self.total - self.embedding - self.norms - self.biases

    def __add__(self, other: Parts) -> Parts:
        return Parts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def __mul__(self, times: int) -> Parts:
        return Parts(**{f.name: getattr(self, f.name) * times for f in fields(self)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Flops:
    """FLOPs of one token, a multiply-add being two, with the convention that attention was counted by."""

    matmul: int
    attention: int
    counted: AttentionCount

    @property
    def total(self) -> int:
        return self.matmul + self.attention

    def __mul__(self, times: int) -> Flops:
        return Flops(matmul=self.matmul * times, attention=self.attention * times, counted=self.counted)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """The arithmetic of one ModelConfig. Get it from `count`.

    `parameters` and `active` are of the main model, `mtp` and `mtp_active` of all its MTP
    modules together, without the embedding and the head that they share with it. Active is
    what one token meets: `num_experts_per_tok` of the routed experts, everything else whole.
    """

    config: ModelConfig
    parameters: Parts
    active: Parts
    mtp: Parts
    mtp_active: Parts

    @property
    def parameters_total(self) -> int:
        return self.parameters.total

    @property
    def parameters_active(self) -> int:
        """Input embedding and output head included, the convention of the published 37B."""
        return self.active.total

    @property
    def parameters_stored(self) -> int:
        """Elements in the public checkpoint: each MTP module comes with copies of both tables."""
        copies = 2 * self.config.num_nextn_predict_layers * _table(self.config)
        return self.parameters.total + self.mtp.total + copies

    @property
    def matmul_parameters(self) -> int:
        """Matrix elements that one token is multiplied by: the head is in even when it is tied."""
        return self.active.matrices + (_table(self.config) if self.config.tie_word_embeddings else 0)

    def kv_bytes_per_token(self, bytes_per_element: int = 2) -> int:
        """Bytes that the cache of the main model grows by with each token (DeepSeek-V3 2.1.1)."""
        return self.config.num_hidden_layers * _cache_elements(self.config.attention) * bytes_per_element

    def forward_flops_per_token(
        self,
        sequence_length: int,
        *,
        counted: AttentionCount = AttentionCount.CAUSAL,
        with_mtp: bool = False,
    ) -> Flops:
        """2 N_mm + A, averaged over the tokens of a sequence of `sequence_length` tokens.

        N_mm is `matmul_parameters`, A = L x 2 n_heads (d_qk + d_v) s c with c = 1/2 causal,
        1 full. With MTP each module adds its block, its `eh_proj` and one more pass of the head.
        """
        layers, matrices = self.config.num_hidden_layers, self.matmul_parameters
        if with_mtp:
            num_modules = self.config.num_nextn_predict_layers
            layers += num_modules
            matrices += self.mtp_active.matrices + num_modules * _table(self.config)
        scores = self.config.num_attention_heads * sum(_head_dims(self.config.attention)) * sequence_length
        per_layer = scores if counted is AttentionCount.CAUSAL else 2 * scores
        return Flops(matmul=2 * matrices, attention=layers * per_layer, counted=counted)

    def training_flops_per_token(
        self,
        sequence_length: int,
        *,
        counted: AttentionCount = AttentionCount.CAUSAL,
        with_mtp: bool = False,
    ) -> Flops:
        """6 N_mm + 3 A: a backward pass costs two forward ones. Recomputation is not counted."""
        return self.forward_flops_per_token(sequence_length, counted=counted, with_mtp=with_mtp) * 3


def count(config: ModelConfig) -> Cost:
    """Count the parameters of the network that `config` describes."""
    moe_layers = [config.is_moe_layer(layer) for layer in range(config.num_hidden_layers)]
    num_modules = config.num_nextn_predict_layers
    tables = Parts(
        embedding=_table(config),
        head=0 if config.tie_word_embeddings else _table(config),
        norms=config.hidden_size,
    )
    return Cost(
        config=config,
        parameters=sum((_block(config, is_moe, active=False) for is_moe in moe_layers), tables),
        active=sum((_block(config, is_moe, active=True) for is_moe in moe_layers), tables),
        mtp=_mtp_module(config, active=False) * num_modules,
        mtp_active=_mtp_module(config, active=True) * num_modules,
    )


def _table(config: ModelConfig) -> int:
    return config.vocab_size * config.hidden_size


def _block(config: ModelConfig, is_moe: bool, *, active: bool) -> Parts:
    """One pre-norm decoder layer: attention, feed-forward network and their two norms."""
    norms = Parts(norms=2 * config.hidden_size)
    return norms + _attention(config) + _feed_forward(config, is_moe, active=active)


def _mtp_module(config: ModelConfig, *, active: bool) -> Parts:
    """enorm, hnorm, eh_proj, one block and a final norm (DeepSeek-V3 2.2)."""
    d = config.hidden_size
    return Parts(norms=3 * d, eh_proj=2 * d * d) + _block(config, config.moe is not None, active=active)


def _feed_forward(config: ModelConfig, is_moe: bool, *, active: bool) -> Parts:
    d, moe = config.hidden_size, config.moe
    if moe is None or not is_moe:
        return Parts(dense_ffn=3 * d * config.intermediate_size)
    expert = 3 * d * moe.moe_intermediate_size
    return Parts(
        experts=expert * (moe.num_experts_per_tok if active else moe.n_routed_experts),
        shared_experts=expert * moe.n_shared_experts,
        router=d * moe.n_routed_experts,
        biases=moe.n_routed_experts if has_balancing_bias(moe) else 0,
    )


def has_balancing_bias(moe: MoEConfig) -> bool:
    """Whether each router carries a bias per expert (DeepSeek-V3 2.1.2; V2 had none)."""
    return moe.topk_method == "noaux_tc"


def _attention(config: ModelConfig) -> Parts:
    if isinstance(config.attention, MLAConfig):
        return _mla(config, config.attention)
    return _gqa(config, config.attention)


def _mla(config: ModelConfig, mla: MLAConfig) -> Parts:
    d, heads = config.hidden_size, config.num_attention_heads
    query = heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
    latent = mla.kv_lora_rank + mla.qk_rope_head_dim
    if mla.q_lora_rank is None:
        to_query, query_norm, query_bias = d * query, 0, 0
    else:
        to_query, query_norm = (d + query) * mla.q_lora_rank, mla.q_lora_rank
        query_bias = mla.q_lora_rank
    to_keys_and_values = mla.kv_lora_rank * heads * (mla.qk_nope_head_dim + mla.v_head_dim)
    return Parts(
        attention=to_query + d * latent + to_keys_and_values + heads * mla.v_head_dim * d,
        norms=query_norm + mla.kv_lora_rank,
        biases=query_bias + latent + d if config.attention_bias else 0,
    )


def _gqa(config: ModelConfig, gqa: GQAConfig) -> Parts:
    d, query = config.hidden_size, config.num_attention_heads * gqa.head_dim
    key_and_value = 2 * gqa.num_key_value_heads * gqa.head_dim
    return Parts(
        attention=d * (query + key_and_value) + query * d,
        norms=2 * gqa.head_dim if gqa.qk_norm else 0,
        biases=query + key_and_value if config.attention_bias else 0,
    )


def _cache_elements(attention: MLAConfig | GQAConfig) -> int:
    """What one layer caches per token: MLA's latent and shared rotary key, or all keys and values."""
    if isinstance(attention, MLAConfig):
        return attention.kv_lora_rank + attention.qk_rope_head_dim
    return 2 * attention.num_key_value_heads * attention.head_dim


def _head_dims(attention: MLAConfig | GQAConfig) -> tuple[int, int]:
    """(d_qk, d_v): the lengths of one head's score product and of its value."""
    if isinstance(attention, MLAConfig):
        return attention.qk_nope_head_dim + attention.qk_rope_head_dim, attention.v_head_dim
    return attention.head_dim, attention.head_dim
