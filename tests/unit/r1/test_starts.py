"""What is known of a checkpoint as a start."""

from __future__ import annotations

import json
from pathlib import Path

from openbook.config import load_recipe
from openbook.r1.schemas import SCHEMAS
from openbook.r1.starts import Start, read_model, read_start, started
from openbook.r1.workload import stage_plans

RECIPES = Path(__file__).resolve().parents[3] / "recipes"


def checkpoint_in(folder: Path) -> Path:
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "openbook.json").write_text(json.dumps({"provenance": {"stage": "pretrain"}}))
    return checkpoint


def test_a_start_is_known_by_its_maker_and_its_examination(tmp_path: Path) -> None:
    checkpoint = checkpoint_in(tmp_path)
    assert read_start(checkpoint) == Start(stage="pretrain", mean_length=None, share_right=None)
    card = {"suite": "held_out", "mean_completion_tokens": {"value": 10.5}, "pass_at_1": {"value": 0.2}}
    (tmp_path / "scorecards.json").write_text(json.dumps([{"suite": "harder"}, card]))
    assert read_start(checkpoint) == Start(stage="pretrain", mean_length=10.5, share_right=0.2)


def test_a_checkpoint_from_elsewhere_is_no_known_start(tmp_path: Path) -> None:
    assert read_start(tmp_path) is None and read_model(tmp_path) is None
    (tmp_path / "config.json").write_text("{}")
    assert read_model(tmp_path) is None


def test_only_a_stage_of_its_own_is_told_where_it_starts() -> None:
    start = Start(stage="pretrain", mean_length=10.0, share_right=0.1)
    story = load_recipe(RECIPES / "run/nano.toml", SCHEMAS, ()).config
    plans = stage_plans("run", story)
    assert started(plans, start) == plans
    alone = stage_plans(
        "rl", load_recipe(RECIPES / "rl/tiny.toml", SCHEMAS, ()).config, {"base": story.model}
    )
    (told,) = started(alone, start)
    assert (told.base, told.starts_at, told.starts_right) == ("pretrain", 10.0, 0.1)
    assert started(alone, None) == alone
