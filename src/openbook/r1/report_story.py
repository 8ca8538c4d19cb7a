"""What lies in the folder of a story, read for the report.

    story.json                      one row for each finished stage, in their order
    launch.json                     the recipe and its digest
    01-pretrain/  02-zero/ ...      a run each; beside it
        scorecards.json             one scorecard for each suite (held_out, harder)
        samples.json                completions of a few problems, with their verdicts
        expert_loads.json           tokens by expert: {"steps": [...], "loads": [step][layer][expert]}
        compute.json                device time of learning, examinations left out

Whatever is missing or damaged is left out and told in `Story.troubles`, never raised: a report of a
story that broke is the one that is needed most.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openbook.errors import UserError
from openbook.evals.scorecard import Scorecard, scorecard_from_json
from openbook.runs.run import Run
from openbook.runs.store import find_runs

HELD_OUT, HARDER = "held_out", "harder"
"""The suites of scorecards that the report knows by name."""


STUDENT_STAGES = ("student_base", "distill", "control")


_TITLES = {
    "pretrain": "pre-training",
    "zero": "R1-Zero",
    "reasoning_rl": "reasoning RL",
    "rejection": "rejection sampling",
    "distill": "student, distilled",
    "control": "student, RL alone",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One completion of one problem, for the eyes of a person."""

    problem: str
    answer: str
    text: str
    verdict: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Loads:
    """Tokens that each expert got: `loads[step][layer][expert]`, a row for each of `steps`."""

    steps: tuple[float, ...]
    loads: tuple[tuple[tuple[float, ...], ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stage with whatever is known of it; `row` is its line of story.json, empty where it has none.

    `metrics` are the rows of its run. `learning_seconds` is the device time without examinations, NaN
    where it is not known.
    """

    name: str
    row: Mapping[str, Any]
    scorecards: Mapping[str, Scorecard]
    samples: tuple[Sample, ...]
    metrics: tuple[Mapping[str, float], ...]
    loads: Loads | None
    learning_seconds: float
    run: Run | None

    @property
    def title(self) -> str:
        return stage_title(self.name)

    def number(self, key: str) -> float:
        """A number of the stage's row; NaN where there is none."""
        return number(self.row, key)

    @property
    def is_student(self) -> bool:
        """Whether the stage makes the small model, which is distilled or trained by RL itself."""
        return self.name in STUDENT_STAGES


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """Everything the report tells. `runs` are all runs in the folder, retries and failures too."""

    name: str
    folder: Path
    launch: Mapping[str, Any]
    stages: tuple[Stage, ...]
    runs: tuple[Run, ...]
    troubles: tuple[str, ...]

    def stage(self, name: str) -> Stage | None:
        """The last stage of this name; None where the story has none."""
        return next((stage for stage in reversed(self.stages) if stage.name == name), None)

    @property
    def main_line(self) -> tuple[Stage, ...]:
        """The stages that have a score, without those of the student."""
        return tuple(
            stage
            for stage in self.stages
            if not stage.is_student and math.isfinite(stage.number("pass_at_1"))
        )


def read_story(folder: Path) -> Story:
    """Read a story's folder. Raises UserError only when nothing of a story is there."""
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder", "name the folder of a story, as `openbook run` printed it"
        )
    reader = _Reader(folder)
    runs = find_runs(folder, on_broken=lambda error: reader.troubles.append(str(error)))
    rows = reader.rows()
    if not rows and not runs:
        raise UserError(
            f"{folder} holds no story: no story.json and no run", "name the folder of an `openbook run`"
        )
    launch = reader.json(folder / "launch.json")
    stages = tuple(reader.stage(name, row, runs) for name, row in _order(rows, runs, folder))
    return Story(
        name=folder.resolve().name,
        folder=folder,
        launch=launch if isinstance(launch, Mapping) else {},
        stages=stages,
        runs=tuple(runs),
        troubles=tuple(reader.troubles),
    )


def number(row: Mapping[str, Any], key: str) -> float:
    """A number of a row of story.json; NaN where there is none."""
    value = row.get(key)
    return float(value) if isinstance(value, int | float) else math.nan


def stage_title(name: str) -> str:
    """A stage's name for people: `reasoning_rl` is `reasoning RL`."""
    return _TITLES.get(name, name.replace("_", " "))


def series(rows: Sequence[Mapping[str, float]], key: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The steps and the values of a metric, where it was logged and is finite."""
    found = [
        (row["step"], row[key]) for row in rows if key in row and "step" in row and math.isfinite(row[key])
    ]
    return tuple(step for step, _ in found), tuple(value for _, value in found)


def _order(
    rows: Sequence[Mapping[str, Any]], runs: Sequence[Run], folder: Path
) -> list[tuple[str, Mapping[str, Any]]]:
    """Stages as story.json has them; those that only have a run go where the number of their folder says."""
    ordered: list[tuple[str, Mapping[str, Any]]] = [(str(row.get("stage", "?")), row) for row in rows]
    numbers = {
        run.manifest.stage: int(match[1])
        for run in runs
        if run.folder.parent == folder and (match := re.match(r"(\d+)-", run.folder.name))
    }
    for name in dict.fromkeys(run.manifest.stage for run in runs):
        if all(name != known for known, _ in ordered):
            later = [
                at
                for at, (other, _) in enumerate(ordered)
                if numbers.get(other, -1) > numbers.get(name, math.inf)
            ]
            ordered.insert(min(later, default=len(ordered)), (name, {}))
    return ordered


class _Reader:
    """Reads files and remembers in words what could not be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.troubles: list[str] = []

    def json(self, path: Path) -> Any:
        """The JSON of a file; None where there is none or it is damaged."""
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.troubles.append(f"{path.relative_to(self.folder)} cannot be read ({error})")
            return None

    def rows(self) -> list[Mapping[str, Any]]:
        found = self.json(self.folder / "story.json")
        if isinstance(found, Mapping):
            found = found.get("stages")
        if not isinstance(found, list):
            self.troubles.append("story.json is missing or holds no list of stages")
            return []
        return [row for row in found if isinstance(row, Mapping)]

    def stage(self, name: str, row: Mapping[str, Any], runs: Sequence[Run]) -> Stage:
        """The stage with its run and the files that lie beside it."""
        run = self._run_of(name, row, runs)
        folder = run.folder if run else self._folder_of(name)
        return Stage(
            name=name,
            row=row,
            scorecards=self._scorecards(folder),
            samples=self._samples(folder),
            metrics=self._metrics(run),
            loads=self._loads(folder),
            learning_seconds=self._learning_seconds(folder),
            run=run,
        )

    def _run_of(self, name: str, row: Mapping[str, Any], runs: Sequence[Run]) -> Run | None:
        """The run that the row names, else the one in the stage's own folder, else the latest of the stage.

        Runs that were set aside, to be repeated, are in the bill but not in the curves.
        """
        mine = [run for run in runs if run.manifest.stage == name]
        named = [run for run in mine if run.manifest.id == row.get("run_id")]
        in_place = [run for run in mine if run.folder.parent == self.folder]
        return next((found[-1] for found in (named, in_place, mine) if found), None)

    def _folder_of(self, name: str) -> Path:
        matching = [
            path for path in self.folder.iterdir() if re.fullmatch(rf"(\d+-)?{re.escape(name)}", path.name)
        ]
        return max(matching, default=self.folder / name)

    def _beside(self, folder: Path, file_name: str) -> Any:
        """A file of the stage: in the run's folder, or in a folder above it that is the stage's."""
        for place in (folder, *folder.parents):
            if place == self.folder or not place.is_relative_to(self.folder):
                return None
            if (place / file_name).exists():
                return self.json(place / file_name)
        return None

    def _scorecards(self, folder: Path) -> dict[str, Scorecard]:
        cards: dict[str, Scorecard] = {}
        for data in _mappings(self._beside(folder, "scorecards.json")):
            try:
                card = scorecard_from_json(data)
            except UserError as error:
                self.troubles.append(f"a scorecard in {folder.name}: {error.what}")
            else:
                cards[card.suite] = card
        return cards

    def _samples(self, folder: Path) -> tuple[Sample, ...]:
        keys = ("problem", "answer", "text", "verdict")
        return tuple(
            Sample(**{key: str(data[key]) for key in keys})
            for data in _mappings(self._beside(folder, "samples.json"))
            if all(key in data for key in keys)
        )

    def _metrics(self, run: Run | None) -> tuple[Mapping[str, float], ...]:
        if run is None:
            return ()
        try:
            return tuple(run.metrics())
        except UserError as error:
            self.troubles.append(error.what)
            return ()

    def _learning_seconds(self, folder: Path) -> float:
        data = self._beside(folder, "compute.json")
        return number(data, "device_microseconds") / 1e6 if isinstance(data, Mapping) else math.nan

    def _loads(self, folder: Path) -> Loads | None:
        data = self._beside(folder, "expert_loads.json")
        if data is None:
            return None
        try:
            steps = tuple(float(step) for step in data["steps"])
            loads = tuple(
                tuple(tuple(float(tokens) for tokens in layer) for layer in step) for step in data["loads"]
            )
        except (KeyError, TypeError, ValueError):
            self.troubles.append(f"expert_loads.json in {folder.name} is damaged")
            return None
        shapes = {tuple(len(layer) for layer in step) for step in loads}
        if not steps or len(steps) != len(loads) or len(shapes) != 1 or not all(min(shapes, default=(0,))):
            self.troubles.append(f"expert_loads.json in {folder.name} is damaged: its rows differ in length")
            return None
        return Loads(steps=steps, loads=loads)


def _mappings(data: Any) -> list[Mapping[str, Any]]:
    return [item for item in data if isinstance(item, Mapping)] if isinstance(data, list) else []
