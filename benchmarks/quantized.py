"""Score checkpoints in each weight format: accuracy beside size and speed -> a Markdown table for each.

    python benchmarks/quantized.py out/nano-0/07-all_scenarios out/nano-0/09-distill [--num-problems 400]

Each format is an `openbook quantize` and an `openbook eval` of their own processes, on the same problems and
seeds; what is there already is read and not done again. Accuracy is pass@1 with its 95 % interval, and the
last column pairs the formats problem by problem with the checkpoint as it is. Tokens a second are all tokens
that were sampled over the time that the device was held, prompts included.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

AS_IT_IS = "as it is"
FORMATS = ("bf16", "int8", "int4", "fp8")
NUM_RESAMPLES = 2000
CARD, SAMPLES = "scorecard.json", "samples.json"


def openbook(*words: str | Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "openbook", *map(str, words)], check=True, stdout=subprocess.DEVNULL
    )


def examine(checkpoint: Path, folder: Path, dials: dict[str, str]) -> dict[str, Any]:
    """Score one checkpoint -> its card, its samples, and what the examination took."""
    if not (folder / CARD).exists():
        settings = [word for key, value in dials.items() for word in ("--set", f"{key}={value}")]
        openbook("eval", checkpoint, "--out", folder, *settings)
    usage = [json.loads(line) for line in (folder / "usage.jsonl").read_text().splitlines()]
    return {
        "card": json.loads((folder / CARD).read_text()),
        "samples": json.loads((folder / SAMPLES).read_text()),
        "tokens": sum(line["completion_tokens"] for line in usage),
        "seconds": sum(line["device_microseconds"] for line in usage) / 1e6,
    }


def weights_bytes(checkpoint: Path) -> int:
    return sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))


def folder_of(path: Path) -> Path:
    return path / "checkpoint" if (path / "checkpoint").is_dir() else path


def paired_difference(found: list[Any], base: list[Any]) -> str:
    """Points of accuracy against the checkpoint as it is, with a 95 % bootstrap interval over problems."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
    for side, samples in enumerate((found, base)):
        for sample in samples:
            tally = sums[sample["problem"]]
            tally[2 * side] += sample["verdict"] == "correct"
            tally[2 * side + 1] += 1
    gains = [100 * (one[0] / one[1] - one[2] / one[3]) for one in sums.values()]
    draw = random.Random(0)
    means = sorted(statistics.fmean(draw.choices(gains, k=len(gains))) for _ in range(NUM_RESAMPLES))
    low, high = means[NUM_RESAMPLES // 40], means[-NUM_RESAMPLES // 40]
    return f"{statistics.fmean(gains):+.1f} ({low:+.1f} .. {high:+.1f})"


def row(name: str, checkpoint: Path, exam: dict[str, Any], base: dict[str, Any]) -> list[str]:
    score = exam["card"]["pass_at_1"]
    return [
        name,
        f"{weights_bytes(checkpoint):,}",
        f"{100 * weights_bytes(checkpoint) / base['bytes']:.0f} %",
        f"{100 * score['value']:.1f} % ({100 * score['low']:.1f} .. {100 * score['high']:.1f})",
        "" if name == AS_IT_IS else paired_difference(exam["samples"], base["samples"]),
        f"{exam['tokens'] / exam['seconds']:,.0f}",
    ]


def score(source: Path, out: Path, formats: list[str], dials: dict[str, str]) -> list[list[str]]:
    """One row for the checkpoint as it is, then one for each format."""
    checkpoint = folder_of(source)
    base = examine(checkpoint, out / f"{source.name}-exam", dials) | {"bytes": weights_bytes(checkpoint)}
    rows = [row(AS_IT_IS, checkpoint, base, base)]
    for wanted in formats:
        made = out / f"{source.name}-{wanted}"
        openbook("quantize", checkpoint, "--format", wanted, "--out", made)
        exam = examine(made, out / f"{source.name}-{wanted}-exam", dials)
        rows.append(row(wanted, made / "checkpoint", exam, base))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--out", type=Path, default=Path("out/quantized"))
    parser.add_argument("--num-problems", type=int, default=400)
    parser.add_argument("--num-samples", type=int, default=4)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A=B")
    arguments = parser.parse_args()
    dials = {"num_problems": str(arguments.num_problems), "num_samples": str(arguments.num_samples)}
    dials |= dict(override.split("=", 1) for override in arguments.overrides)
    columns = ["weights", "bytes", "of the source", "pass@1", "points against it", "tokens/s"]
    for source in arguments.checkpoints:
        print(f"\n{source}\n")
        print("| " + " | ".join(columns) + " |")
        print("|---" * len(columns) + "|")
        for cells in score(source, arguments.out, arguments.formats, dials):
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
