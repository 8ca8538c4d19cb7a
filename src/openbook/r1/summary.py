"""story.json: one row for each examined stage, with its scores, its time and what it cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openbook.evals.scorecard import METRICS, headline, scorecard_from_json
from openbook.ledger.prices import PricePlan
from openbook.ledger.statement import StatementRow
from openbook.r1.frame import SCORECARDS_FILE
from openbook.r1.report_bill import price_story
from openbook.r1.report_story import read_story
from openbook.runs.durable import replace_text
from openbook.runs.run import MANIFEST_FILE, Run
from openbook.units import to_usd

STORY_FILE = "story.json"
SCORES = ("pass_at_1_low", "pass_at_1_high", *METRICS)
"""What a row takes from the held-out scorecard."""


def write_story(folder: Path, names: Sequence[str]) -> Path:
    """Write story.json from what lies in the folder -> its path.

    A stage that was not examined (the reward model, which answers nothing) has no row; its time and
    cost are in the statement.
    """
    costs = {row.run_id: row for row in price_story(read_story(folder), PricePlan.default()).statement.rows}
    rows = []
    for number, name in enumerate(names, start=1):
        stage_folder = folder / f"{number:02d}-{name}"
        if (stage_folder / MANIFEST_FILE).exists() and (stage_folder / SCORECARDS_FILE).exists():
            run = Run.open(stage_folder)
            rows.append(stage_row(run, costs.get(run.manifest.id)))
    path = folder / STORY_FILE
    replace_text(path, json.dumps(rows, indent=2) + "\n")
    return path


def stage_row(run: Run, cost: StatementRow | None) -> dict[str, Any]:
    """One stage as numbers: held-out scores, the harder split, seconds and dollars."""
    cards = {
        card.suite: headline(card)
        for card in map(scorecard_from_json, json.loads((run.folder / SCORECARDS_FILE).read_text()))
    }
    held_out, harder = cards["held_out"], cards.get("harder", {})
    usage = run.usage()
    wall = sum((one.last_sign_at - one.started_at).total_seconds() for one in run.attempts)
    return {
        "stage": run.manifest.stage,
        "seed": run.manifest.seed,
        **{name: held_out[name] for name in SCORES},
        "harder_pass_at_1": harder.get("pass_at_1"),
        "harder_forgiven_pass_at_1": harder.get("forgiven_pass_at_1"),
        "suites": {name: card["pass_at_1"] for name, card in cards.items()},
        "wall_seconds": round(wall, 3),
        "device_seconds": usage.device_microseconds / 1e6,
        "cpu_seconds": usage.cpu_microseconds / 1e6,
        "peak_memory_bytes": usage.peak_memory_bytes,
        "cost_usd": float(to_usd(cost.amount_nano_usd)) if cost else None,
        "run_id": run.manifest.id,
    }
