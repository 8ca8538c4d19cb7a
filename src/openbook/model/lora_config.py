"""What low-rank adapters can be told. No torch."""

from __future__ import annotations

from openbook.config import config, require_at_least
from openbook.errors import UserError, nearest

TARGETS = (
    *("q_proj", "k_proj", "v_proj", "o_proj"),
    *("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"),
    *("gate_proj", "up_proj", "down_proj"),
)
"""Matrices that can be adapted: of grouped-query attention, of latent attention, of dense networks."""


@config
class LoraConfig:
    """Adapters of low rank are trained instead of the weights; a checkpoint is written with them merged."""

    rank: int = 8
    alpha: float = 16.0
    """An adapter counts alpha / rank times."""
    targets: tuple[str, ...] = TARGETS
    """Which matrices of the blocks; what a model does not have is passed over. Routed experts stay frozen."""

    def __post_init__(self) -> None:
        require_at_least(1, rank=self.rank)
        if self.alpha <= 0:
            raise ValueError(f"alpha must be above 0, not {self.alpha:g}: the adapters would count nothing")
        for target in self.targets:
            if target not in TARGETS:
                raise UserError(f"targets: unknown matrix {target!r}", nearest(target, list(TARGETS)))
        if not self.targets:
            raise ValueError("targets is empty; name at least one matrix")
