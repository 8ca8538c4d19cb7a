"""The counts of an architecture that serving asks for again and again, made once. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from openbook.model.architecture import Architecture
from openbook.model.counts import Parts
from openbook.model.shapes import ExpertFeedForward


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Numbers of elements. `mixtures` has (elements of one expert in all its layers, the mixture)."""

    parameters: Parts
    active: Parts
    mtp: Parts
    draft_share: float
    """What one MTP module computes of what the main model does, for one token."""
    matmul_parameters: int
    mixtures: tuple[tuple[int, ExpertFeedForward], ...]

    @property
    def experts(self) -> ExpertFeedForward | None:
        """The mixture of the layers that have one; null for a dense model."""
        return self.mixtures[0][1] if self.mixtures else None

    def experts_touched(self, num_tokens: float) -> float:
        """Elements of the experts that a batch of `num_tokens` reads, in all layers."""
        return sum(size * mixture.experts_touched(num_tokens) for size, mixture in self.mixtures)


@lru_cache(maxsize=256)
def counts_of(architecture: Architecture) -> Counts:
    """The counts of `architecture`, made on its first call."""
    mixtures = [
        (
            group.num_layers * experts.num_matrices * architecture.hidden_size * experts.intermediate_size,
            experts,
        )
        for group in architecture.groups
        if isinstance(experts := group.layer.feed_forward, ExpertFeedForward)
    ]
    matmul, modules = architecture.matmul_parameters, architecture.num_mtp_modules
    draft = (
        (architecture.mtp_active.matrices / modules + architecture.table_elements) / matmul
        if modules
        else 0.0
    )
    return Counts(
        parameters=architecture.parameters,
        active=architecture.active,
        mtp=architecture.mtp,
        draft_share=draft,
        matmul_parameters=matmul,
        mixtures=tuple(mixtures),
    )


@lru_cache(maxsize=4096)
def decode_flops(architecture: Architecture, context: int) -> tuple[int, int]:
    """(matrix products, attention) of one generated token that reads `context` cached ones."""
    flops = architecture.decode_flops_per_token(context)
    return flops.matmul, flops.attention
