"""The recipe of a plan: a model, a machine, and the stages from nothing to a served model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from openbook.config import config
from openbook.economics.accelerators import Precision


@config
class TrainingStage:
    """Tokens that the model is trained on. `mfu` is over the dense 16-bit peak, causal; none forecasts it."""

    kind: Literal["pretraining", "long_context_extension", "sft"]
    name: str = ""
    tokens: float
    epochs: float = 1.0
    sequence_length: int = 4096
    devices: int | None = None
    precision: Precision | None = None
    layout: str = ""
    batch_tokens: float | None = None
    mfu: float | None = None

    def __post_init__(self) -> None:
        _positive(tokens=self.tokens, epochs=self.epochs, sequence_length=self.sequence_length)


@config
class HoursStage:
    """Device-hours that are known, and who says so."""

    kind: Literal["hours"]
    name: str = ""
    device_hours: float
    source: str

    def __post_init__(self) -> None:
        _positive(device_hours=self.device_hours)


@config
class RLStage:
    """Rollouts, the passes that score them, and updates; the verifier and waiting apart."""

    kind: Literal["rl"]
    name: str = ""
    rollouts: float
    prompt_tokens: int = 256
    completion_tokens: int = 8192
    score_passes: float = 2.0
    """Forward passes over each rollout: the old policy's and the reference's log-probabilities."""
    update_epochs: float = 1.0
    devices: int | None = None
    idle_share: float = 0.2
    """Of the hours held: rollouts that others wait for, weights on their way."""
    verifier_seconds: float = 0.1
    """Host time for each rollout."""
    verifier_usd_per_hour: float = 0.0

    def __post_init__(self) -> None:
        _positive(rollouts=self.rollouts, completion_tokens=self.completion_tokens)
        if not 0 <= self.idle_share < 1:
            raise ValueError("idle_share is at least 0 and below 1")
        if min(self.prompt_tokens, self.score_passes, self.update_epochs, self.verifier_seconds) < 0:
            raise ValueError("counts and times are not negative")
        if self.verifier_usd_per_hour < 0:
            raise ValueError("a price is not negative")


@config
class DistillationStage:
    """A teacher writes, a student learns it; both are public configs, and the model teaches by default."""

    kind: Literal["distillation"]
    name: str = ""
    student: str
    teacher: str | None = None
    tokens: float
    """Kept for training."""
    kept_share: float = 1.0
    """Of what the teacher wrote."""
    epochs: float = 2.0
    sequence_length: int = 4096
    devices: int | None = None

    def __post_init__(self) -> None:
        _positive(tokens=self.tokens, kept_share=self.kept_share, epochs=self.epochs)
        if self.kept_share > 1:
            raise ValueError("kept_share is at most 1")


@config
class ServingStage:
    """Tokens served: prompts, of which a share is in the cache, and completions."""

    kind: Literal["serving"]
    name: str = ""
    input_tokens: float
    cached_share: float = 0.0
    output_tokens: float
    context: int = 4096
    """Mean length that a generated token looks back on."""
    busy_share: float = 1.0
    """Of the hours paid."""

    def __post_init__(self) -> None:
        _positive(output_tokens=self.output_tokens, context=self.context, busy_share=self.busy_share)
        if not 0 <= self.cached_share <= 1 or self.busy_share > 1 or self.input_tokens < 0:
            raise ValueError("cached_share and busy_share are shares, input_tokens is not negative")


@config
class PlanConfig:
    """What `openbook plan` forecasts stage by stage. Paths start at the recipe."""

    model: str
    accelerator: str = "h100"
    devices: int | None = None
    precision: Precision = Precision.BF16
    rent_usd_per_hour: float | None = None
    purchase_usd: float | None = None
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Other values for figures of the forecast: `[figures.goodput]`, `device_mtbf = 20000`."""
    stages: tuple[TrainingStage | HoursStage | RLStage | DistillationStage | ServingStage, ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages: at least one")
        _positive(**{"devices": 1 if self.devices is None else self.devices})


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be above 0, not {value:g}")
