"""Fit the efficiency model of `openbook plan` to its calibration runs and write the calibration page.

    python benchmarks/calibrate_plan.py           # print what the fit finds and each error
    python benchmarks/calibrate_plan.py --write   # and write docs/concepts/calibration.md

It fits with and without each run. The figures go by hand into src/openbook/economics/data/calibration.toml; a
test holds them to this fit.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from openbook.economics.accelerators import Precision, find_accelerator
from openbook.economics.plan.calibration import Calibration
from openbook.economics.plan.efficiency import matmul_share
from openbook.economics.plan.fit import EXPONENT, OVERHEAD, Outcome, fit, leave_one_out, predict
from openbook.economics.plan.runs import calibration_runs

PAGE = Path(__file__).resolve().parents[1] / "docs" / "concepts" / "calibration.md"

DEEPGEMM = (
    # rows (tokens), columns, inner, TFLOP/s of FP8 products on an H800: deepseek-ai/DeepGEMM README, 2025
    (4096, 2112, 7168, 1058),
    (4096, 24576, 1536, 990),
    (4096, 32768, 512, 590),
    (4096, 7168, 16384, 1358),
    (4096, 4096, 7168, 1304),
    (4096, 7168, 2048, 1025),
)
ATTENTION = (
    # length, TFLOP/s forward without a mask on an H100, of FlashAttention-2 and -3: pytorch/benchmark 2391
    (512, 328.9, 430.3),
    (1024, 389.7, 517.1),
    (2048, 433.7, 565.5),
    (4096, 458.4, 590.2),
    (8192, 470.7, 614.2),
    (16384, 476.8, 620.7),
)


def product_rate(rows: int, columns: int, inner: int) -> float:
    """TFLOP/s that the model gives an FP8 product on an H800: arithmetic at its share, and bytes, added."""
    h800 = find_accelerator("h800")
    assert h800.memory_bandwidth is not None
    flops = 2.0 * rows * columns * inner
    seconds = flops / (h800.peak(Precision.FP8).value * matmul_share(h800, Precision.FP8))
    moved = rows * inner + inner * columns + 2 * rows * columns
    seconds += moved / (h800.memory_bandwidth.value * Calibration.default()["kernels.memory_share"])
    return flops / seconds / 1e12


HEAD = """\
# How well the forecast knows itself

Written by `python benchmarks/calibrate_plan.py --write`. `openbook plan` predicts the utilisation
of a run from its parts ([the decision](../decisions/0015-efficiency-model.md)). Two figures are
fitted, to the five runs below and to no other; every other figure is a measurement of a component
or marked as ours, in `src/openbook/economics/data/calibration.toml`. Layout and batch are chosen by
the forecast, as for a user.

## By case
"""
CASES = """\
MFU is over the dense bf16 peak with causal attention at half. The error is that of the
device-hours, lost ones included, positive where the forecast is too high.
"""
COMPONENTS = """\
## By component

Where the model says that the time of each run goes:
"""
PRODUCTS = """\
Matrix products: FP8 on an H800 as published by DeepGEMM, against arithmetic at 70.9 % of the peak
plus the bytes that move. Nothing is fitted here.
"""
ATTENTION_BY_LENGTH = """\
Fused attention by length, without a mask: rate over the rate at 16,384 tokens on an H100, against s
/ (s + 230). With a mask half of the work is there, and the length of half rate doubles.
"""
TAIL = """\
## What the calibration does not reach

- The exponent of scale rests on one small run. It leans on a prior of 0.05 +- 0.03 (ten times the
  devices cost 12 %); with TinyLlama left out only the prior is left. Beyond 2,048 devices half of
  the exponent goes on: a figure of ours, as no run says.
- One mixture of experts, one FP8 run, no V100, no AMD, none beyond 2,048 devices, none longer than
  4,096 tokens. Each of these widens the band by a figure under `[spread]`, marked as ours.
- How many devices made Llama-2 is not published; the paper speaks of about 2,000, taken as 2,048.
"""


def page() -> str:
    """The calibration page."""
    figures, runs = Calibration.default(), calibration_runs()
    fitted = fit(runs, figures)
    blind = fit([run for run in runs if run.name != "DeepSeek-V3"], figures)
    left_out = leave_one_out(runs, figures)
    seen = [predict(run, fitted) for run in runs]
    said = f"""
Fitted to all five: overhead {fitted[OVERHEAD]:.4f}, scale exponent {fitted[EXPONENT]:.4f}. Without
DeepSeek-V3: {blind[OVERHEAD]:.4f} and {blind[EXPONENT]:.4f}. Root mean square of the errors left out, in
logarithms: {_rms(list(left_out.values())):.3f}; the band takes {figures["spread.base"]:.2f}, because the runs
that it is meant for are more varied than these five.
"""
    tables = (HEAD, _cases(seen, left_out), CASES, said, COMPONENTS, _components(seen))
    checks = (PRODUCTS, _products(), ATTENTION_BY_LENGTH, _attention(), TAIL)
    texts = (part if isinstance(part, str) else "\n".join(part) for part in (*tables, *checks))
    return "\n\n".join(text.strip("\n") for text in texts) + "\n"


def _cases(seen: Sequence[Outcome], left_out: Mapping[str, Outcome]) -> Iterator[str]:
    yield "| run | devices | published hours | MFU published | MFU forecast | error | error when left out |"
    yield "|---|---|---|---|---|---|---|"
    for one in seen:
        run = one.run
        devices = f"{run.num_devices:,} x {run.accelerator} {run.precision}"
        errors = f"{one.error:+.1%} | {left_out[run.name].error:+.1%}"
        yield (
            f"| {run.name} | {devices} | {run.device_hours:,.0f} | {one.published_mfu:.1%} | {one.mfu:.1%} "
            f"| {errors} |"
        )


def _components(seen: Sequence[Outcome]) -> Iterator[str]:
    yield "| part | " + " | ".join(one.run.name for one in seen) + " |"
    yield "|---" * (len(seen) + 1) + "|"
    for name in seen[0].placement.time.shares():
        shares = [one.placement.time.shares()[name] for one in seen]
        if max(shares) >= 0.0005:
            yield f"| {name.replace('_', ' ')} | " + " | ".join(f"{share:.1%}" for share in shares) + " |"


def _products() -> Iterator[str]:
    yield "| rows x columns x inner | published TFLOP/s | model | error |"
    yield "|---|---|---|---|"
    for rows, columns, inner, published in DEEPGEMM:
        found = product_rate(rows, columns, inner)
        yield f"| {rows} x {columns} x {inner} | {published} | {found:.0f} | {found / published - 1:+.0%} |"


def _attention() -> Iterator[str]:
    half = Calibration.default()["kernels.attention_half_length"] / 2
    yield "| length | FlashAttention-2 | FlashAttention-3 | model |"
    yield "|---|---|---|---|"
    best = ATTENTION[-1]
    for length, second, third in ATTENTION:
        model = length / (length + half) * (best[0] + half) / best[0]
        yield f"| {length:,} | {second / best[1]:.2f} | {third / best[2]:.2f} | {model:.2f} |"


def _rms(outcomes: Sequence[Outcome]) -> float:
    logs = [math.log(one.error + 1) for one in outcomes]
    return math.sqrt(sum(log * log for log in logs) / len(logs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    text = page()
    if parser.parse_args().write:
        PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
