"""What serving reaches of the hardware's limits: each share with its source. No torch.

All were measured on single kernels, or with one means switched on and off. None is fitted to a whole service,
so that a service can be set against them; see `benchmarks/day6.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date

from openbook.economics.accelerator import Accelerator, Precision
from openbook.economics.sourced import Mark, Sourced
from openbook.errors import UserError

_DEEP_GEMM = "deepseek-ai/DeepGEMM README, May 2025, H800"
_FLASH_MLA = "deepseek-ai/FlashMLA, deep dive into the new kernel"
_SGLANG = "LMSYS blog 2025-05-05, large-scale EP on 96 H100"


def _share(value: float, source: str, day: date, note: str, mark: Mark = Mark.PRIMARY) -> Sourced:
    return Sourced(value=value, unit="share", source=source, date=day, mark=mark, note=note)


WEIGHT_BANDWIDTH_SHARE = _share(
    2249e9 / 3.36e12,
    _DEEP_GEMM,
    date(2025, 5, 15),
    "Products of 128 rows with V3's expert matrices move 2,221 and 2,277 GB/s of 3,360.",
)
CACHE_BANDWIDTH_SHARE = _share(
    3000e9 / 3.36e12, _FLASH_MLA, date(2025, 4, 22), "3,000 GB/s of 3,360 where memory is the limit."
)
ATTENTION_SHARE = _share(
    660e12 / 989.5e12, _FLASH_MLA, date(2025, 4, 22), "660 TFLOP/s of BF16's 989.5 where compute is."
)
ATTENTION_SHARE_AT_RELEASE = _share(
    580e12 / 989.5e12, _FLASH_MLA, date(2025, 2, 24), "580 TFLOP/s: the first release, of the week of day 6."
)
GROUPED_GEMM_SHARE = _share(
    1 / (2 / 3 / 1297e12 + 1 / 3 / 1099e12) / 1979e12,
    _DEEP_GEMM,
    date(2025, 5, 15),
    "V3's experts, 4 groups of 8,192 rows: 1,297 and 1,099 TFLOP/s, weighed by their FLOPs two to one.",
)
PREFILL_OVERLAP = Sourced(
    value=1.31,
    unit="ratio",
    source=_SGLANG,
    date=date(2025, 5, 5),
    mark=Mark.PRIMARY,
    note="Two overlapping micro-batches raise prefill throughput by 27 to 35 %; the middle.",
)
DECODE_OVERLAP = Sourced(
    value=1.255,
    unit="ratio",
    source=_SGLANG,
    date=date(2025, 5, 5),
    mark=Mark.PRIMARY,
    note="Two overlapping micro-batches raise decode throughput by 25.5 % at 256 tokens a device.",
)
EXPERT_BALANCE = _share(
    50_302 / 59_337,
    _SGLANG,
    date(2025, 5, 5),
    "Prefill with redundant experts over prefill with experts drawn evenly: waiting for the fullest.",
)
COMPUTE_BESIDE_COMMUNICATION = _share(
    1 - 20 / 132,
    "DeepSeek-V3 technical report, arXiv 2412.19437, 3.2.2",
    date(2024, 12, 27),
    "20 of 132 processors move data while experts are spread over devices, in prefill.",
)
USABLE_MEMORY = _share(
    0.90,
    "ours",
    date(2026, 11, 24),
    "What weights and cache may fill; the rest is for activations, buffers and graphs. Not measured.",
    Mark.OURS,
)
LINK_SHARE = _share(
    0.80,
    "deepseek-ai/DeepEP, normal kernels: 153 to 158 of 200 GB/s",
    date(2025, 2, 25),
    "Of the fast link inside a node, for reductions as well, which were not measured.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Efficiency:
    """Shares of the limits that serving reaches; `replace` puts the user's own in."""

    gemm: Sourced
    """Of the peak of the precision that weights are multiplied in."""
    attention: Sourced = ATTENTION_SHARE
    """Of the 16-bit peak, for scores and values."""
    weight_bandwidth: Sourced = WEIGHT_BANDWIDTH_SHARE
    cache_bandwidth: Sourced = CACHE_BANDWIDTH_SHARE
    link: Sourced = LINK_SHARE
    prefill_overlap: Sourced = PREFILL_OVERLAP
    """Throughput with computing and communication overlapped, over one after the other."""
    decode_overlap: Sourced = DECODE_OVERLAP
    expert_balance: Sourced = EXPERT_BALANCE
    compute_beside_communication: Sourced = COMPUTE_BESIDE_COMMUNICATION
    usable_memory: Sourced = USABLE_MEMORY

    def __post_init__(self) -> None:
        for item in fields(self):
            figure = getattr(self, item.name)
            low, high = (1.0, 2.0) if figure.unit == "ratio" else (0.0, 1.0)
            if not low <= figure.value <= high or figure.value == 0:
                raise UserError(
                    f"efficiency {item.name} is {figure.value:g}", f"give one between {low:g} and {high:g}"
                )

    def assumptions(self) -> dict[str, Sourced]:
        return {f"efficiency_{item.name}": getattr(self, item.name) for item in fields(self)}


def default_efficiency(accelerator: Accelerator, precision: Precision) -> Efficiency:
    """The measured matrix share of the accelerator, and for the rest what was measured on Hopper.

    For FP8 the share is that of V3's own expert shapes where it is the smaller. Raises UserError when the
    accelerator's table has no matrix share for `precision`.
    """
    share = accelerator.matmul_share.get(precision)
    if share is None:
        raise UserError(
            f"no measured share of the {precision} peak is known for {accelerator.name}",
            "supply one with --accelerators FILE, or choose another --precision",
        )
    if precision is Precision.FP8 and GROUPED_GEMM_SHARE.value < share.value:
        share = GROUPED_GEMM_SHARE
    return Efficiency(gemm=share)
