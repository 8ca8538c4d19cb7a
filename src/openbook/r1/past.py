"""Past runs below some folders, each with the plan that its launch tells. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from openbook.config import parse_schema
from openbook.economics.local.history import PastRun, read_past_run
from openbook.economics.local.stages import StagePlan
from openbook.errors import UserError
from openbook.model.config import ModelConfig
from openbook.r1.schemas import SCHEMAS
from openbook.r1.starts import read_model
from openbook.r1.workload import stage_plans
from openbook.runs.run import Run
from openbook.runs.store import find_runs

LAUNCH_FILE = "launch.json"
MOST_RUNS = 40
"""The latest stages that are read: older ones say less and cost as much to read."""
FOLDERS_ABOVE = 3
"""How far above a run's folder the record of its launch may lie: a stage set aside lies two below it."""


def past_runs(roots: Iterable[Path], *, leave_out: Path | None = None) -> list[PastRun]:
    """The latest runs below `roots` that can be read, oldest first, without those in `leave_out`."""
    runs: dict[str, Run] = {}
    for root in roots:
        for run in find_runs(root, on_broken=lambda _: None):
            if leave_out is None or not run.folder.resolve().is_relative_to(leave_out.resolve()):
                runs[run.manifest.id] = run
    latest = sorted(runs.values(), key=lambda run: run.manifest.created_at)[-MOST_RUNS:]
    reader = PastReader()
    return [past for run in latest if (past := reader.read(run)) is not None and past.lines]


class PastReader:
    """Reads runs as past runs, each launch once."""

    def __init__(self) -> None:
        self._records: dict[Path, dict[str, Any]] = {}
        self._plans: dict[tuple[Path, ModelConfig | None], dict[str, StagePlan]] = {}

    def read(self, run: Run) -> PastRun | None:
        """The run with its plan; None for one that was started otherwise, or that is damaged."""
        try:
            plan = self.plan(run)
            return None if plan is None else read_past_run(run, plan)
        except (UserError, OSError, ValueError, KeyError):
            return None

    def plan(self, run: Run) -> StagePlan | None:
        """What the run was told to do; None where nothing beside it says so."""
        launch = _launch(run.folder)
        if launch is None:
            return None
        if launch not in self._records:
            self._records[launch] = json.loads(launch.read_text(encoding="utf-8"))
        record = self._records[launch]
        # What a stage makes has the shape of what it began with; a story from nothing says it all itself.
        result = None if "model" in record["config"] else read_model(run.checkpoint_folder)
        key = (launch, result)
        if key not in self._plans:
            self._plans[key] = {plan.name: plan for plan in launched_plans(record, result)}
        return self._plans[key].get(run.manifest.stage)


def launched_plans(record: dict[str, Any], result: ModelConfig | None = None) -> tuple[StagePlan, ...]:
    """The plans of a launch; networks that it does not describe are read from its inputs, or are `result`."""
    config = parse_schema(SCHEMAS[record["verb"]], record["config"])
    models: dict[str, ModelConfig] = {}
    for role in ("base", "teacher"):
        path = record.get("inputs", {}).get(role)
        model = read_model(Path(path)) if path else None
        if model is None and (role == "base" or path):
            model = result
        if model is not None:
            models[role] = model
    return stage_plans(record["verb"], config, models)


def _launch(folder: Path) -> Path | None:
    for place in (folder, *list(folder.parents)[:FOLDERS_ABOVE]):
        if (place / LAUNCH_FILE).is_file():
            return place / LAUNCH_FILE
    return None
