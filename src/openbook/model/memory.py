"""What training a ModelConfig holds in memory, part by part, so that too much is refused by name. No torch.

    memory = training_memory(config, TrainingSetup(num_tokens=8192))
    memory.check_fits(available_bytes)      UserError: training needs 31.2 GB ... (weights 1.5 GB, ...)

Weights, gradients and optimizer state are exact. Activations count the tensors that autograd keeps for the
backward pass of this project's blocks, with fused attention (no score is ever stored); what the kernels
borrow for a moment is not in.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from openbook.errors import UserError
from openbook.model.config import GQAConfig, MLAConfig, ModelConfig
from openbook.model.cost import count
from openbook.units import show_bytes

NUM_KEPT_BY_NORM = 2
"""Tensors of its own size that a norm keeps: what came in and what it gave out."""

NUM_KEPT_BY_SWIGLU = 4
"""Gate, up, silu(gate), and the product of the last two."""

NUM_KEPT_BY_EXPERT = 5
"""The same, and the product times the expert's share."""

LOGIT_BYTES = 12
"""One logit during the loss: itself, its log-probability and its gradient, each in fp32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSetup:
    """How a step is laid out on one device; the defaults are AdamW with everything in fp32.

    The published recipes: bf16 with an fp32 master copy is 2, 4 and 12 bytes a parameter;
    DeepSeek-V3 is 1 (fp8), 4 and 8 (fp32 master, bf16 moments).
    """

    num_tokens: int
    """Tokens that go forward together: rows times length, padding included."""
    weight_bytes: int = 4
    gradient_bytes: int = 4
    optimizer_bytes: int = 8
    activation_bytes: int = 4
    recompute: bool = False
    """Whether each block keeps its input alone and is computed again in the backward pass."""
    logits_tokens: int | None = None
    """Tokens whose logits exist at once; null for all, as when the loss is not computed in pieces."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingMemory:
    """Bytes by part. They add up to `total`, the most that is held at the turn from forward to backward."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return sum(self.by_part().values())

    def by_part(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def check_fits(self, available_bytes: int) -> None:
        """UserError with every part, the largest first, if `total` is more than `available_bytes`."""
        if self.total <= available_bytes:
            return
        parts = sorted(self.by_part().items(), key=lambda part: -part[1])
        largest = parts[0][0]
        raise UserError(
            f"training needs {show_bytes(self.total)} and {show_bytes(available_bytes)} is there ("
            + ", ".join(f"{name} {show_bytes(size)}" for name, size in parts)
            + ")",
            _MENDS.get(largest, "take a smaller model, or fewer bytes a parameter"),
        )


_MENDS = {
    "activations": "take fewer tokens a step (and accumulate), or recompute activations",
    "logits": "take fewer tokens a step, or compute the loss in pieces",
}


def training_memory(config: ModelConfig, setup: TrainingSetup) -> TrainingMemory:
    """The memory of one training step, MTP modules included."""
    cost = count(config)
    num_parameters = cost.parameters.total + cost.mtp.total
    num_predictions = 1 + config.num_nextn_predict_layers
    logits_tokens = setup.num_tokens if setup.logits_tokens is None else setup.logits_tokens
    return TrainingMemory(
        weights=num_parameters * setup.weight_bytes,
        gradients=num_parameters * setup.gradient_bytes,
        optimizer=num_parameters * setup.optimizer_bytes,
        activations=setup.num_tokens * setup.activation_bytes * _elements_per_token(config, setup.recompute),
        logits=logits_tokens * LOGIT_BYTES * config.vocab_size * num_predictions,
    )


def _elements_per_token(config: ModelConfig, recompute: bool) -> int:
    """Activations kept for one token, over all blocks, MTP modules and final norms."""
    d, num_modules = config.hidden_size, config.num_nextn_predict_layers
    moe_layers = [config.is_moe_layer(layer) for layer in range(config.num_hidden_layers)]
    moe_layers += [config.moe is not None] * num_modules
    blocks = [_block_elements(config, is_moe) for is_moe in moe_layers]
    # The two normed inputs of a module are kept once more side by side.
    joins = num_modules * (2 * NUM_KEPT_BY_NORM + 2) * d
    final_norms = (1 + num_modules) * NUM_KEPT_BY_NORM * d
    kept = len(blocks) * d + max(blocks) if recompute else sum(blocks)
    return kept + joins + final_norms


def _block_elements(config: ModelConfig, is_moe: bool) -> int:
    norms = 2 * NUM_KEPT_BY_NORM * config.hidden_size
    return norms + _attention_elements(config) + _feed_forward_elements(config, is_moe)


def _attention_elements(config: ModelConfig) -> int:
    heads = config.num_attention_heads
    match config.attention:
        case MLAConfig() as mla:
            query = mla.qk_nope_head_dim + mla.qk_rope_head_dim
            latents = NUM_KEPT_BY_NORM * ((mla.q_lora_rank or 0) + mla.kv_lora_rank) + mla.qk_rope_head_dim
            # Values travel padded to the size of a key, and so does the output before it is cut again.
            return latents + heads * (4 * query + mla.v_head_dim)
        case GQAConfig() as gqa:
            query_and_output, key_and_value = 2 * heads, 2 * gqa.num_key_value_heads
            # What the norms give out is rotated, and only the rotated is kept.
            normed = (NUM_KEPT_BY_NORM - 1) * (heads + gqa.num_key_value_heads) if gqa.qk_norm else 0
            return gqa.head_dim * (query_and_output + key_and_value + normed)


def _feed_forward_elements(config: ModelConfig, is_moe: bool) -> int:
    moe = config.moe
    if moe is None or not is_moe:
        return NUM_KEPT_BY_SWIGLU * config.intermediate_size
    expert = config.hidden_size + NUM_KEPT_BY_EXPERT * moe.moe_intermediate_size
    shared = NUM_KEPT_BY_SWIGLU * moe.n_shared_experts * moe.moe_intermediate_size
    return moe.num_experts_per_tok * expert + shared + moe.n_routed_experts
