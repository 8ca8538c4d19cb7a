"""story.json: the rows of the stages that were examined."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from openbook.r1.pipeline import STAGE_NAMES
from openbook.r1.summary import SCORES, stage_row, write_story
from openbook.runs.run import Run

NAMES = ("pretrain", "zero", "cold_start", "distill", "control")
"""The stages of the small made-up story, in its own numbering."""


def test_each_examined_stage_has_a_row_with_its_scores_times_and_cost(copy: Path) -> None:
    path = write_story(copy, NAMES)
    rows = json.loads(path.read_text())
    assert [row["stage"] for row in rows] == list(NAMES)
    for number, row in enumerate(rows, start=1):
        run = Run.open(copy / f"{number:02d}-{row['stage']}")
        held_out, harder = json.loads((run.folder / "scorecards.json").read_text())
        assert row["run_id"] == run.manifest.id
        assert set(SCORES) <= set(row)
        assert row["pass_at_1"] == held_out["pass_at_1"]["value"]
        assert row["pass_at_1_low"] == held_out["pass_at_1"]["low"]
        assert row["harder_pass_at_1"] == harder["pass_at_1"]["value"]
        assert row["device_seconds"] == run.usage().device_microseconds / 1e6
        assert row["cost_usd"] == pytest.approx(row["device_seconds"] / 3600 * 0.01, abs=1e-9)
        assert row["wall_seconds"] >= 0


def test_a_stage_that_was_not_examined_has_no_row(copy: Path) -> None:
    (copy / "03-cold_start" / "scorecards.json").unlink()
    shutil.rmtree(copy / "05-control")
    rows = json.loads(write_story(copy, NAMES).read_text())
    assert [row["stage"] for row in rows] == ["pretrain", "zero", "distill"]


def test_a_stage_in_another_place_than_its_own_is_no_stage_of_the_story(copy: Path) -> None:
    """As one that was set aside to be repeated."""
    rows = json.loads(write_story(copy, STAGE_NAMES).read_text())
    assert [row["stage"] for row in rows] == ["pretrain", "zero", "cold_start"]


def test_a_run_without_a_price_has_no_cost(copy: Path) -> None:
    row = stage_row(Run.open(copy / "02-zero"), None)
    assert row["cost_usd"] is None
    assert row["device_seconds"] > 0
