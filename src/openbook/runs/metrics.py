"""Metrics as lines: `{"step": 40, "time": ..., "attempt": 1, "usage_lines": 40, "loss": 2.1}`.

`usage_lines` says how much usage had been recorded when the step was logged, so that going back
to a step also says which recorded work is lost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

RESERVED = ("step", "time", "attempt", "usage_lines")


def metrics_line(step: int, time: float, counts: Mapping[str, int], metrics: Mapping[str, float]) -> str:
    """One line of metrics.jsonl. Values that JSON has no number for are written as words."""
    clash = metrics.keys() & set(RESERVED)
    assert not clash, f"these names are taken: {sorted(clash)}"
    values = {name: float(value) for name, value in metrics.items()}
    shown = {name: value if math.isfinite(value) else str(value) for name, value in values.items()}
    return json.dumps({"step": step, "time": time, **counts, **shown}, allow_nan=False)


def parse_metrics(records: Iterable[Mapping[str, Any]]) -> list[dict[str, float]]:
    """The rows of metrics.jsonl; words such as `nan` are numbers again."""
    return [
        {name: float(value) if isinstance(value, str) else value for name, value in record.items()}
        for record in records
    ]


def up_to_step(records: Iterable[dict[str, Any]], step: int) -> tuple[list[dict[str, Any]], int]:
    """The records of steps up to and including `step`, and how much usage the last of them had seen."""
    kept = [record for record in records if record["step"] <= step]
    return kept, kept[-1]["usage_lines"] if kept else 0
