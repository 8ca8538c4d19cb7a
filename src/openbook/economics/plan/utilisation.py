"""A model FLOPs utilisation, never without its peak and how attention was counted. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from openbook.economics.accelerators import Accelerator, Precision
from openbook.errors import UserError
from openbook.model.counts import AttentionCount

REFERENCES = (Precision.BF16, Precision.FP16, Precision.FP32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Utilisation:
    """Counted FLOP/s over a dense peak. Recomputed FLOPs are never counted (that would be HFU)."""

    share: float
    peak: Precision
    counted: AttentionCount = AttentionCount.CAUSAL

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"an MFU of {self.share:g} is none", "give a share above 0 and at most 1: 0.39")

    def over(self, other: Utilisation) -> float:
        """This over `other`. Raises UserError when peak or convention differ."""
        require_same(self, other)
        return self.share / other.share


def require_same(one: Utilisation, other: Utilisation) -> None:
    """Raise UserError naming why two utilisations cannot be set beside each other."""
    if one.peak is not other.peak:
        raise UserError(
            f"an MFU over the {one.peak} peak cannot be compared with one over the {other.peak} peak: "
            "the same speed gives another number",
            "state both over the dense bf16 peak",
        )
    if one.counted is not other.counted:
        raise UserError(
            f"an MFU with {one.counted} attention cannot be compared with one with {other.counted} attention",
            "count both causally",
        )


def reference_peak(accelerator: Accelerator) -> tuple[Precision, float]:
    """The dense peak that an MFU is stated over: BF16, and where there is none FP16."""
    for precision in REFERENCES:
        if precision in accelerator.peak_flops:
            return precision, accelerator.peak_flops[precision].value
    raise UserError(f"no 16-bit peak of {accelerator.name} is known", "give one in --accelerators FILE")


def utilisation(
    flops: float, seconds: float, accelerator: Accelerator, counted: AttentionCount = AttentionCount.CAUSAL
) -> Utilisation:
    """The utilisation of `flops` counted in `seconds` of one device."""
    precision, peak = reference_peak(accelerator)
    return Utilisation(share=flops / (seconds * peak), peak=precision, counted=counted)
