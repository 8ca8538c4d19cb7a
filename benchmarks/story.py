"""Tell the story for several seeds and hold it against what it must show -> a Markdown table.

    python benchmarks/story.py --seeds 0 1 2 [--recipe nano] [--out out] [--read-only]

Each seed is an `openbook run` of its own process; time is that of the stages, over all attempts,
and peak memory the operating system's. `--read-only` tabulates the stories that are there and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

RECORD = "benchmark.json"


def tell(recipe: str, seed: int, folder: Path) -> None:
    """Run one story and record its peak memory and the load beside it."""
    before = os.getloadavg()
    command = [sys.executable, "-m", "openbook", "run", recipe, "--out", str(folder), "--seed", str(seed)]
    subprocess.run(command, check=True)
    record = {
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "load_before": before,
        "load_after": os.getloadavg(),
        "processor_count": os.cpu_count(),
        "python": platform.python_version(),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2))


def findings(folder: Path) -> dict[str, Any]:
    """What one story shows, under the names of the claims; a stage that was left out has no line."""
    rows = {row["stage"]: row for row in json.loads((folder / "story.json").read_text())}
    record = json.loads((folder / RECORD).read_text()) if (folder / RECORD).exists() else {}
    found = {f"{stage}, pass@1": percent(row["pass_at_1"]) for stage, row in rows.items()}
    if "pretrain" in rows:
        found["base, pass@16"] = percent(rows["pretrain"]["pass_at_k"])
    if "pretrain" in rows and "zero" in rows:
        base, zero = rows["pretrain"], rows["zero"]
        forgiven = zero["forgiven_pass_at_1"] - base["forgiven_pass_at_1"]
        found["gain, points"] = f"{100 * (zero['pass_at_1'] - base['pass_at_1']):.1f}"
        found["gain, format forgiven"] = f"{100 * forgiven:.1f}"
        found["length of correct, ratio"] = f"{zero['mean_correct_tokens'] / base['mean_correct_tokens']:.2f}"
        found["zero, harder"] = percent(zero["harder_pass_at_1"])
    for stage in ("pretrain", "zero", "all_scenarios"):
        if stage in rows:
            found[f"{stage}, well formed"] = percent(rows[stage]["well_formed_share"])
            found[f"{stage}, language"] = percent(rows[stage]["language_consistency"])
    found["cost, USD"] = f"{sum(row['cost_usd'] for row in rows.values()):.5f}"
    found["minutes, all stages"] = f"{sum(row['wall_seconds'] for row in rows.values()) / 60:.1f}"
    if record:
        found["peak memory, GB"] = f"{record['peak_memory_bytes'] / 1e9:.2f}"
        found["load before / after"] = f"{record['load_before'][0]:.1f} / {record['load_after'][0]:.1f}"
    return found


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def table(columns: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row for each claim, a column for each seed."""
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(str(column.get(name, "")) for column in columns.values()) + " |"
        for name in names
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="nano")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--read-only", action="store_true")
    arguments = parser.parse_args()
    columns = {}
    for seed in arguments.seeds:
        folder = arguments.out / f"{arguments.recipe}-{seed}"
        if not arguments.read_only:
            tell(arguments.recipe, seed, folder)
        columns[f"seed {seed}"] = findings(folder)
    print(table(columns))


if __name__ == "__main__":
    main()
