"""ObjectiveConfig: which advantage, loss and corrections, under TRL's names where it has one. No torch.

    rewards -> advantages -> ratio -> surrogate -> weights -> aggregation

What makes no sense together is refused here, before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Literal

from openbook.config import config, require_at_least

LossType = Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "gspo", "sapo", "reinforce"]
Level = Literal["token", "sequence"]
KLEstimator = Literal["k1", "k2", "k3"]
Correction = Literal["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]

_CLIP = ("epsilon", "epsilon_high", "delta", "clip_ratio_c", "importance_sampling_level")
OPTIONS: Mapping[LossType, tuple[str, ...]] = {
    "grpo": _CLIP,
    "dr_grpo": _CLIP,
    "dapo": _CLIP,
    "bnpo": _CLIP,
    "gspo": _CLIP,
    "cispo": ("epsilon_high", "cispo_ratio_min", "importance_sampling_level"),
    "sapo": ("sapo_temperature_pos", "sapo_temperature_neg", "importance_sampling_level"),
    "reinforce": (),
}
"""The options that each loss reads; another one set beside it would do nothing, and is refused."""


@config
class ObjectiveConfig:
    """From rewards to the loss. The defaults are GRPO as DeepSeekMath equation 3 writes it."""

    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Divide advantages by the standard deviation of the group's rewards, of the whole batch's, or not."""
    baseline: Literal["mean", "leave_one_out"] = "mean"
    """What a reward is compared with: the group's mean, or the mean of the others in it (RLOO)."""
    advantage_epsilon: float = 1e-4
    """Added to that standard deviation (TRL's value; the papers print none)."""
    loss_type: LossType = "grpo"
    """The surrogate and how its tokens are added up."""
    epsilon: float = 0.2
    """How far the ratio may fall below 1 before it is clipped; R1 used 10, which hardly clips."""
    epsilon_high: float | None = None
    """How far it may rise above 1; none is `epsilon`, DAPO has 0.28. For cispo the cap itself: 5.0."""
    delta: float | None = None
    """Cap of the ratio also where the advantage is negative (INTELLECT-2's two-sided clip)."""
    clip_ratio_c: float | None = None
    """A negative advantage costs at most this many times itself (dual clip); verl has 3.0."""
    cispo_ratio_min: float = 0.0
    """Lower bound of cispo's ratio; TRL has none, verl 1 - clip_ratio_low."""
    importance_sampling_level: Level = "token"
    """A ratio for each token, or their geometric mean for the sequence; gspo always has the latter."""
    sapo_temperature_pos: float = 1.0
    """Steepness of sapo's gate where the advantage is positive."""
    sapo_temperature_neg: float = 1.05
    """The same where it is not."""
    beta: float = 0.001
    """Coefficient of the KL to the reference; 0 loads no reference."""
    kl_estimator: KLEstimator = "k3"
    """How the KL is estimated at a sampled token."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Added to each token's loss, or taken from the reward, summed over the completion."""
    use_bias_correction_kl: bool = False
    """Multiply the KL of the loss by the ratio, which makes its gradient that of the KL (DeepSeek-V3.2)."""
    entropy_coef: float = 0.0
    """Weight of the mean entropy, which is taken from the loss."""
    top_entropy_quantile: float = 1.0
    """Only this share of the tokens, those of the highest entropy, has a policy loss (0.2 in the paper)."""
    old_logprobs: Literal["sampler", "trainer"] = "sampler"
    """What the ratio is against: what the sampler reported, or the trainer's own before its first update."""
    importance_correction: Correction = "none"
    """Weights w = pi_trainer / pi_sampler on the loss, truncated or masked; needs old_logprobs "trainer"."""
    importance_cap: float | None = None
    """Most that w may be; none is 2.0 where it is truncated (verl), 3.0 where it masks (TRL)."""
    importance_floor: float = 0.0
    """Least that w may be: truncated to it, or masked below it (IcePop: 0.5 to 5.0)."""
    off_policy_mask_threshold: float | None = None
    """Drop a sequence of negative advantage whose mean log(pi_sampler / pi) is above this (DeepSeek-V3.2)."""

    def __post_init__(self) -> None:
        require_at_least(
            0,
            advantage_epsilon=self.advantage_epsilon,
            epsilon=self.epsilon,
            epsilon_high=self.epsilon_high or 0.0,
            cispo_ratio_min=self.cispo_ratio_min,
            beta=self.beta,
            entropy_coef=self.entropy_coef,
            importance_floor=self.importance_floor,
        )
        refusals = (*self._about_the_loss(), *self._about_the_kl(), *self._about_corrections())
        for complaint in refusals:
            raise ValueError(complaint)

    @property
    def clip_high(self) -> float:
        """Most that the ratio is allowed to count: 1 + epsilon_high; for cispo epsilon_high itself."""
        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        return high if self.loss_type == "cispo" else 1 + high

    @property
    def ratio_level(self) -> Level:
        return "sequence" if self.loss_type == "gspo" else self.importance_sampling_level

    @property
    def weight_cap(self) -> float:
        if self.importance_cap is not None:
            return self.importance_cap
        return 2.0 if self.importance_correction.endswith("truncate") else 3.0

    @property
    def kl_in_loss(self) -> bool:
        return self.beta > 0 and self.kl_in == "loss"

    def _about_the_loss(self) -> list[str]:
        read = OPTIONS[self.loss_type]
        every = {name for names in OPTIONS.values() for name in names}
        ignored = [name for name in changed(self) if name in every and name not in read]
        complaints = [
            f"{name} is {getattr(self, name)}, but loss_type {self.loss_type!r} does not read it: "
            f"it reads {', '.join(read) or 'no option'}"
            for name in ignored
        ]
        if self.loss_type == "cispo" and (self.epsilon_high is None or self.epsilon_high <= 1):
            complaints.append(
                f"epsilon_high is {_show(self.epsilon_high)}; for cispo it is the cap of the ratio "
                "itself and must be above 1: TRL's 5.0 is verl's clip_ratio_high = 4.0"
            )
        if self.delta is not None and self.delta <= self.clip_high:
            complaints.append(
                f"delta is {self.delta}, not above the clip at 1 + {self.clip_high - 1:g} = "
                f"{self.clip_high:g}: it would cut positive advantages before the clip does"
            )
        if self.clip_ratio_c is not None and self.clip_ratio_c <= 1:
            complaints.append(
                f"clip_ratio_c is {self.clip_ratio_c}; at 1 or below nothing of a negative advantage is left"
            )
        if min(self.sapo_temperature_pos, self.sapo_temperature_neg) <= 0:
            complaints.append("sapo's temperatures must be above 0")
        if not 0 < self.top_entropy_quantile <= 1:
            complaints.append(
                f"top_entropy_quantile is a share above 0 and at most 1, not {self.top_entropy_quantile}"
            )
        return complaints

    def _about_the_kl(self) -> list[str]:
        if self.beta == 0:
            names = ("kl_estimator", "kl_in", "use_bias_correction_kl")
            return [
                f"{name} is {getattr(self, name)!r}, but beta is 0: there is no KL"
                for name in changed(self)
                if name in names
            ]
        if self.kl_in == "reward" and self.use_bias_correction_kl:
            return ["use_bias_correction_kl corrects the KL of the loss, but kl_in is 'reward'"]
        return []

    def _about_corrections(self) -> list[str]:
        correction = self.importance_correction
        if correction == "none":
            return [
                f"{name} is {getattr(self, name)}, but importance_correction is 'none'"
                for name in changed(self)
                if name in ("importance_cap", "importance_floor")
            ]
        if self.old_logprobs == "sampler":
            return [
                f"importance_correction is {correction!r}, but with old_logprobs = 'sampler' its weight is "
                "exp(sampler - sampler) = 1: set old_logprobs = 'trainer'"
            ]
        if not self.importance_floor <= 1 <= self.weight_cap:
            return [
                f"importance weights between {self.importance_floor} and {self.weight_cap} leave out 1, "
                "where sampler and trainer agree"
            ]
        return []


def changed(settings: ObjectiveConfig) -> list[str]:
    """The fields that differ from their defaults, in order."""
    return [field.name for field in fields(settings) if getattr(settings, field.name) != field.default]


def _show(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"
