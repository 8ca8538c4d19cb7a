"""What any decoder is as far as it is counted: parameters, cache bytes and FLOPs. No torch.

`architecture_of(config)` describes our own ModelConfig, `decoders.read_decoder` any public
`config.json`; both are counted here and nowhere else:

    found = architecture_of(deepseek_v3)
    found.parameters_total                                 671,026,419,200
    found.parameters_active                                 37,552,297,472
    found.kv_bytes_per_token()                                      70,272
    found.training_flops_per_token(4096).total             250.45e9, causal, MTP apart

Multi-token prediction is always counted apart, as the published sizes do.
"""

from __future__ import annotations

from dataclasses import dataclass

from openbook.model.config import GQAConfig, MLAConfig, ModelConfig
from openbook.model.counts import AttentionCount, Flops, Parts
from openbook.model.shapes import (
    DenseFeedForward,
    ExpertFeedForward,
    GroupedAttention,
    LatentAttention,
    Layer,
    LayerGroup,
    group_layers,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """One decoder. Active is what one token meets: its experts, and everything else whole."""

    model_type: str
    vocab_size: int
    hidden_size: int
    groups: tuple[LayerGroup, ...]
    """The layers, equal ones together."""
    tie_word_embeddings: bool
    embedding_size: int | None = None
    """Width of the embedding where matrices lie between it and the layers; null is `hidden_size`."""
    num_position_elements: int = 0
    """Learned positions."""
    num_norm_elements: int = 0
    """Norms outside the layers: behind the last, and behind the embedding where there is one."""
    num_bias_elements: int = 0
    """Biases outside the layers, which is the head's."""
    num_mtp_modules: int = 0
    mtp_layer: Layer | None = None
    """The layer inside each multi-token prediction module (DeepSeek-V3 2.2)."""
    max_position_embeddings: int | None = None
    warnings: tuple[str, ...] = ()
    """What was assumed or left out in reading, one line each."""

    @property
    def num_layers(self) -> int:
        return sum(group.num_layers for group in self.groups)

    @property
    def num_moe_layers(self) -> int:
        return sum(g.num_layers for g in self.groups if isinstance(g.layer.feed_forward, ExpertFeedForward))

    @property
    def parameters(self) -> Parts:
        """Of the main model, by part."""
        return self._main(active=False)

    @property
    def active(self) -> Parts:
        """What one token meets of the main model, by part."""
        return self._main(active=True)

    @property
    def mtp(self) -> Parts:
        """Of all MTP modules together, without the embedding and the head that they share."""
        return self._mtp(active=False)

    @property
    def mtp_active(self) -> Parts:
        return self._mtp(active=True)

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
        return self.parameters.total + self.mtp.total + 2 * self.num_mtp_modules * self.table_elements

    @property
    def table_elements(self) -> int:
        """Elements of the embedding, and of the head."""
        return self.vocab_size * (self.embedding_size or self.hidden_size)

    @property
    def matmul_parameters(self) -> int:
        """Matrix elements that one token is multiplied by: the head is in even when it is tied."""
        return self.active.matrices + (self.table_elements if self.tie_word_embeddings else 0)

    def kv_bytes_per_token(self, bytes_per_element: float = 2) -> int:
        """Bytes that the cache of the main model grows by with each token (DeepSeek-V3 2.1.1).

        With sliding windows this holds up to the shortest; `cache_bytes` knows the rest.
        """
        elements = sum(group.num_layers * group.layer.attention.cache_elements for group in self.groups)
        return round(elements * bytes_per_element)

    def cache_bytes(self, context: int, bytes_per_element: float = 2) -> int:
        """Bytes that the cache of one sequence needs at `context` tokens: windowed layers keep a window."""
        elements = sum(g.num_layers * g.layer.attention.cached_elements(context) for g in self.groups)
        return round(elements * bytes_per_element)

    def forward_flops_per_token(
        self,
        sequence_length: int,
        *,
        counted: AttentionCount = AttentionCount.CAUSAL,
        with_mtp: bool = False,
    ) -> Flops:
        """2 N_mm + A, averaged over the tokens of a sequence of `sequence_length` tokens.

        N_mm is `matmul_parameters`, A = L x 2 n_heads (d_qk + d_v) s c with c = 1/2 causal,
        1 full. With MTP each module adds its layer, its `eh_proj` and one more pass of the head.
        """
        groups, matrices = self.groups, self.matmul_parameters
        if with_mtp and self.mtp_layer is not None:
            groups = (*groups, LayerGroup(layer=self.mtp_layer, num_layers=self.num_mtp_modules))
            matrices += self.mtp_active.matrices + self.num_mtp_modules * self.table_elements
        attention = sum(g.num_layers * g.layer.attention.score_flops(sequence_length) for g in groups)
        times = 1 if counted is AttentionCount.CAUSAL else 2
        return Flops(matmul=2 * matrices, attention=times * attention, counted=counted)

    def training_flops_per_token(
        self,
        sequence_length: int,
        *,
        counted: AttentionCount = AttentionCount.CAUSAL,
        with_mtp: bool = False,
    ) -> Flops:
        """6 N_mm + 3 A: a backward pass costs two forward ones. Recomputation is not counted."""
        return self.forward_flops_per_token(sequence_length, counted=counted, with_mtp=with_mtp) * 3

    def decode_flops_per_token(self, context: int) -> Flops:
        """2 N_mm + A_dec of one generated token that reads `context` cached ones.

        A_dec is 2 n_heads (d_qk + d_v) a layer and cached token, and with latent attention
        in its absorbed form 2 n_heads (2 r_kv + d_r). A window caps the tokens.
        """
        attention = sum(g.num_layers * g.layer.attention.decode_flops(context) for g in self.groups)
        return Flops(matmul=2 * self.matmul_parameters, attention=attention, counted=AttentionCount.CAUSAL)

    def touched_parameters(self, num_tokens: float) -> float:
        """Matrix elements that a step over `num_tokens` tokens reads, experts by expectation.

        Each layer touches E (1 - (1 - K/E)^B) of its experts; all else is read once.
        """
        touched = float(self.matmul_parameters - self.active.experts)
        for group in self.groups:
            experts = group.layer.feed_forward
            if isinstance(experts, ExpertFeedForward):
                of_one = experts.num_matrices * self.hidden_size * experts.intermediate_size
                touched += group.num_layers * of_one * experts.experts_touched(num_tokens)
        return touched

    def _main(self, *, active: bool) -> Parts:
        between = 0 if self.embedding_size is None else 2 * self.embedding_size * self.hidden_size
        tables = Parts(
            embedding=self.table_elements,
            positions=self.num_position_elements,
            projections=between,
            head=0 if self.tie_word_embeddings else self.table_elements,
            norms=self.num_norm_elements,
            biases=self.num_bias_elements,
        )
        layers = (g.layer.parts(self.hidden_size, active=active) * g.num_layers for g in self.groups)
        return sum(layers, tables)

    def _mtp(self, *, active: bool) -> Parts:
        """enorm, hnorm, eh_proj, one layer and a final norm, for each module (DeepSeek-V3 2.2)."""
        if self.mtp_layer is None:
            return Parts()
        d = self.hidden_size
        frame = Parts(norms=3 * d, eh_proj=2 * d * d)
        return (frame + self.mtp_layer.parts(d, active=active)) * self.num_mtp_modules


def architecture_of(config: ModelConfig) -> Architecture:
    """The architecture of the network that `config` describes."""
    num_layers = config.num_hidden_layers
    return Architecture(
        model_type="openbook",
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        groups=group_layers([_layer(config, config.is_moe_layer(i)) for i in range(num_layers)]),
        tie_word_embeddings=config.tie_word_embeddings,
        num_norm_elements=config.hidden_size,
        num_mtp_modules=config.num_nextn_predict_layers,
        mtp_layer=_layer(config, config.moe is not None) if config.num_nextn_predict_layers else None,
        max_position_embeddings=config.max_position_embeddings,
    )


def _layer(config: ModelConfig, is_moe: bool) -> Layer:
    moe = config.moe
    feed_forward: DenseFeedForward | ExpertFeedForward
    if moe is None or not is_moe:
        feed_forward = DenseFeedForward(intermediate_size=config.intermediate_size)
    else:
        # Only this method carries a bias per expert (DeepSeek-V3 2.1.2; V2 had none).
        has_bias = moe.topk_method == "noaux_tc"
        feed_forward = ExpertFeedForward(
            num_experts=moe.n_routed_experts,
            num_experts_per_tok=moe.num_experts_per_tok,
            intermediate_size=moe.moe_intermediate_size,
            shared_intermediate_size=moe.n_shared_experts * moe.moe_intermediate_size,
            num_router_bias_elements=moe.n_routed_experts if has_bias else 0,
        )
    return Layer(
        attention=_attention(config), feed_forward=feed_forward, num_norm_elements=2 * config.hidden_size
    )


def _attention(config: ModelConfig) -> GroupedAttention | LatentAttention:
    heads, attention = config.num_attention_heads, config.attention
    if isinstance(attention, GQAConfig):
        width = (heads + 2 * attention.num_key_value_heads) * attention.head_dim
        return GroupedAttention(
            num_heads=heads,
            num_kv_heads=attention.num_key_value_heads,
            head_dim=attention.head_dim,
            num_norm_elements=2 * attention.head_dim if attention.qk_norm else 0,
            num_bias_elements=width if config.attention_bias else 0,
        )
    return _latent(attention, config)


def _latent(mla: MLAConfig, config: ModelConfig) -> LatentAttention:
    biases = (mla.q_lora_rank or 0) + mla.kv_lora_rank + mla.qk_rope_head_dim + config.hidden_size
    return LatentAttention(
        num_heads=config.num_attention_heads,
        q_lora_rank=mla.q_lora_rank,
        kv_lora_rank=mla.kv_lora_rank,
        qk_nope_head_dim=mla.qk_nope_head_dim,
        qk_rope_head_dim=mla.qk_rope_head_dim,
        v_head_dim=mla.v_head_dim,
        num_bias_elements=biases if config.attention_bias else 0,
    )
