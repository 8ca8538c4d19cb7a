"""What a training stage can be told: optimizer, schedule, loss weights, sizes of a step."""

from __future__ import annotations

from typing import Literal

from openbook.config import config, require_at_least
from openbook.errors import UserError
from openbook.model.lora_config import LoraConfig

Precision = Literal["auto", "fp32", "bf16"]
"""Of the products of a pass; weights and optimizer stay fp32. `auto` is bf16 on a GPU alone."""


@config
class OptimConfig:
    """Muon for the two-dimensional matrices of the blocks, AdamW for everything else."""

    matrix_optimizer: Literal["muon", "adamw"] = "muon"
    muon_learning_rate: float = 0.02
    adamw_learning_rate: float = 3e-3
    beta1: float = 0.9
    beta2: float = 0.95
    momentum: float = 0.95
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this global norm; 0 leaves them as they are."""

    @property
    def learning_rate(self) -> float:
        """The rate of the matrices, which is what a log shows."""
        return self.muon_learning_rate if self.matrix_optimizer == "muon" else self.adamw_learning_rate

    def __post_init__(self) -> None:
        require_at_least(
            0,
            muon_learning_rate=self.muon_learning_rate,
            adamw_learning_rate=self.adamw_learning_rate,
            weight_decay=self.weight_decay,
            max_grad_norm=self.max_grad_norm,
        )


@config
class ScheduleConfig:
    """Linear warm-up, a constant stretch, then a decay over the last part (the shape of V3 4.2)."""

    warmup_steps: int = 20
    decay_share: float = 0.4
    """Share of all steps, at the end, over which the rate falls."""
    decay: Literal["linear", "cosine", "none"] = "linear"
    final_share: float = 0.05
    """The last rate as a share of the highest."""

    def __post_init__(self) -> None:
        require_at_least(
            0, warmup_steps=self.warmup_steps, decay_share=self.decay_share, final_share=self.final_share
        )


@config
class LossConfig:
    """Weights of what is added to the next-token loss."""

    mtp_weight: float = 0.3
    """lambda of DeepSeek-V3 2.2: 0.3, later 0.1."""
    balance_weight: float = 1e-4
    """alpha of the sequence-wise balance loss (DeepSeek-V3 eq. 17 to 20)."""
    bias_update_rate: float = 1e-3
    """gamma: how far an expert's bias moves after each step (DeepSeek-V3 2.1.2)."""


def require_adamw(lora: LoraConfig | None, optim: OptimConfig) -> None:
    """UserError if adapters were to be trained by Muon, which is for whole matrices."""
    if lora is not None and optim.matrix_optimizer != "adamw":
        raise UserError(
            f"optim.matrix_optimizer is {optim.matrix_optimizer!r}, and adapters (lora) are trained by AdamW",
            'set optim.matrix_optimizer = "adamw" and optim.adamw_learning_rate, or lora = "none"',
        )


@config
class TrainConfig:
    """One supervised stage."""

    num_steps: int
    examples_per_step: int
    tokens_per_batch: int = 4096
    """Positions of one forward pass; a step adds up the gradients of as many as it needs."""
    lora: LoraConfig | None = None
    """Train low-rank adapters beside frozen weights; none trains every weight."""
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    precision: Precision = "auto"
    save_every: int = 100
    """Steps between two saved states."""

    def __post_init__(self) -> None:
        require_at_least(
            1,
            num_steps=self.num_steps,
            examples_per_step=self.examples_per_step,
            tokens_per_batch=self.tokens_per_batch,
            save_every=self.save_every,
        )
        require_adamw(self.lora, self.optim)
