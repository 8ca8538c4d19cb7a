"""What one device has to hold while a model trains, by part. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from openbook.economics.accelerators import Precision
from openbook.economics.plan.goodput import Schedule
from openbook.economics.plan.layout import Layout, Recompute
from openbook.model.architecture import Architecture
from openbook.model.shapes import DenseFeedForward, ExpertFeedForward, GroupedAttention, Layer

LOGIT_COPIES = 2.5
"""Logits, their softmax and their gradient live together at the worst moment: two to three fp32 copies."""
FP8_ACTIVATION_SHARE = 0.6
"""Activations kept in 8 bits where a product reads them (DeepSeek-V3 3.3.3), the others in 16."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StateBytes:
    """Bytes that training holds for one parameter."""

    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer


MIXED = StateBytes(weights=2, gradients=2, optimizer=12)
"""16-bit weights and gradients, fp32 master weights and two fp32 moments."""
MIXED_FP32_GRADIENTS = StateBytes(weights=2, gradients=4, optimizer=12)
DEEPSEEK_V3 = StateBytes(weights=1, gradients=4, optimizer=8)
"""FP8 weights, fp32 gradients, fp32 master weights and two BF16 moments (DeepSeek-V3 3.3.3)."""
SINGLE = StateBytes(weights=4, gradients=4, optimizer=8)
"""Everything in fp32; the weights are their own master."""


def state_bytes(precision: Precision) -> StateBytes:
    """What AdamW holds by default when products are computed in `precision`."""
    if precision in (Precision.FP8, Precision.FP4):
        return DEEPSEEK_V3
    return SINGLE if precision in (Precision.FP32, Precision.TF32) else MIXED


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceMemory:
    """Bytes of the fullest device by part. The cache is what generation keeps; training has none."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    cache: float = 0.0

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.cache

    def parts(self) -> dict[str, float]:
        return {
            "weights": self.weights,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "activations": self.activations,
            "cache": self.cache,
            "logits": self.logits,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingShape:
    """What is computed in one pass: sequence length, precision, whether attention is one fused kernel."""

    sequence_length: int
    precision: Precision
    fused_attention: bool = True


def training_memory(architecture: Architecture, shape: TrainingShape, layout: Layout) -> DeviceMemory:
    """Bytes on the fullest device of `layout` (fact sheet 8.3; arXiv 2205.05198 for activations)."""
    per_parameter = state_bytes(shape.precision)
    dense, experts = local_parameters(architecture, layout)
    copies = 2 if layout.schedule is Schedule.DUALPIPE and layout.pp > 1 else 1
    expert_dp = max(1, layout.num_replicas * layout.tp // layout.ep)

    def spread(num_bytes: float, from_stage: int) -> float:
        if layout.zero < from_stage:
            return num_bytes * (dense + experts)
        return num_bytes * (dense / layout.num_replicas + experts / expert_dp)

    weights = spread(per_parameter.weights * copies, 3)
    if layout.zero == 3:
        weights += 2 * per_parameter.weights * (dense + experts) / stage_layers(architecture, layout)
    return DeviceMemory(
        weights=weights,
        gradients=spread(per_parameter.gradients, 2),
        optimizer=spread(per_parameter.optimizer, 1),
        activations=_activations(architecture, shape, layout),
        logits=shape.sequence_length
        * layout.micro_batch
        * architecture.vocab_size
        * 4
        * LOGIT_COPIES
        / (layout.tp * layout.cp),
    )


def stage_layers(architecture: Architecture, layout: Layout) -> int:
    """Layers of the fullest stage."""
    return math.ceil(architecture.num_layers / layout.pp)


def local_parameters(architecture: Architecture, layout: Layout) -> tuple[float, float]:
    """(dense, expert) parameters of the fullest device before ZeRO: by TP and PP, and by EP and PP."""
    dense, experts, embedding, head = _sizes(architecture)
    share = stage_layers(architecture, layout) / architecture.num_layers
    in_stage = embedding + head if layout.pp == 1 else max(embedding, head)
    return (dense * share + in_stage) / layout.tp, experts * share / layout.ep


@lru_cache(maxsize=64)
def _sizes(architecture: Architecture) -> tuple[int, int, int, int]:
    """Parameters outside experts and tables, of experts, of the embedding and of the head."""
    parts = architecture.parameters
    dense = parts.total - parts.experts - parts.embedding - parts.head
    return dense, parts.experts, parts.embedding, parts.head


def layer_activation_bytes(
    layer: Layer, width: int, shape: TrainingShape, recompute: Recompute = Recompute.NONE
) -> float:
    """Bytes that the backward pass needs of one token in one layer, kept in 16 bits.

    For heads of MHA and a plain FFN of 4 widths this is d (34 + 5 n_h s / d), without the second term when
    attention is fused. Selective recomputation also drops what is cheap to make again: outputs of norms and
    activations, and the expanded keys and values of latent attention (DeepSeek-V3 3.2.3).
    """
    if recompute is Recompute.FULL:
        return 2.0 * width
    attention, feed = layer.attention, layer.feed_forward
    cheap = recompute is Recompute.SELECTIVE
    projected = attention.cache_elements
    if isinstance(attention, GroupedAttention):
        projected += attention.num_heads * attention.head_dim
    elif cheap:
        projected += attention.q_lora_rank or attention.num_heads * attention.score_dims // 2
    else:
        projected += attention.num_heads * attention.score_dims
    kept = 2 * projected + attention.num_heads * attention.score_dims + (4 if cheap else 8) * width
    tensors = 2 * feed.num_matrices - (2 if cheap else 0)
    if isinstance(feed, DenseFeedForward):
        kept += 2 * width + tensors * feed.intermediate_size
    else:
        kept += feed.num_experts_per_tok * (2 * width + tensors * feed.intermediate_size)
        kept += tensors * feed.shared_intermediate_size
    if not shape.fused_attention and not cheap:
        kept += 5 * attention.num_heads * shape.sequence_length
    return kept * (FP8_ACTIVATION_SHARE if shape.precision is Precision.FP8 else 1.0)


def _activations(architecture: Architecture, shape: TrainingShape, layout: Layout) -> float:
    tokens = shape.sequence_length * layout.micro_batch / (layout.tp * layout.cp)
    share = stage_layers(architecture, layout) / architecture.num_layers
    in_flight = float(layout.pp)
    if layout.schedule is Schedule.DUALPIPE and layout.pp > 1:
        in_flight += 1
    if layout.schedule is Schedule.INTERLEAVED:
        in_flight += (layout.pp - 1) / layout.num_pieces(architecture.num_layers)
    kept, at_work = _kept_bytes(architecture, shape, layout.recompute)
    return tokens * (kept * share * in_flight + at_work)


@lru_cache(maxsize=256)
def _kept_bytes(
    architecture: Architecture, shape: TrainingShape, recompute: Recompute
) -> tuple[float, float]:
    """Bytes that all layers keep of one token, and what the layer at work holds beside them."""
    width = architecture.hidden_size
    kept = sum(
        group.num_layers * layer_activation_bytes(group.layer, width, shape, recompute)
        for group in architecture.groups
    )
    if recompute is Recompute.NONE:
        return kept, 0.0
    return kept, max(layer_activation_bytes(group.layer, width, shape) for group in architecture.groups)


def has_experts(architecture: Architecture) -> bool:
    """Whether any layer routes."""
    return any(isinstance(group.layer.feed_forward, ExpertFeedForward) for group in architecture.groups)
