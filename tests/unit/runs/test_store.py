from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from openbook.errors import UserError
from openbook.runs.manifest import new_run_id
from openbook.runs.run import Run
from openbook.runs.store import find_runs, resolve_run


def make(folder: Path, run_id: str) -> Run:
    return Run.create(folder, verb="run", stage="zero", recipe={}, seed=1, run_id=run_id)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make(tmp_path / "story", "20260131-100000-story-aaaa")
    make(tmp_path / "story" / "2-zero", "20260131-100200-zero-bbbb")
    make(tmp_path / "story" / "1-pretrain", "20260131-100100-pretrain-cccc")
    make(tmp_path / "story" / "checkpoint" / "copy", "20260131-100300-zero-dddd")
    make(tmp_path / ".hidden", "20260131-100400-zero-eeee")
    (tmp_path / "notes").mkdir()
    return tmp_path


def test_runs_are_found_inside_runs_but_not_inside_their_results(root: Path) -> None:
    found = [run.manifest.id for run in find_runs(root)]
    assert found == [
        "20260131-100000-story-aaaa",
        "20260131-100200-zero-bbbb",
        "20260131-100100-pretrain-cccc",
    ]


def test_runs_are_sorted_by_creation(root: Path) -> None:
    created = [run.manifest.created_at for run in find_runs(root)]
    assert created == sorted(created)


def test_a_broken_run_is_handed_over_and_the_others_are_still_found(root: Path) -> None:
    (root / "story" / "2-zero" / "manifest.json").write_text("{")
    broken: list[UserError] = []
    assert len(find_runs(root, on_broken=broken.append)) == 2
    assert "2-zero" in broken[0].what
    with pytest.raises(UserError, match="cannot be read"):
        find_runs(root)


@pytest.mark.parametrize("text", ["20260131-1002", "bbbb", "20260131-100200-zero-bbbb", "story/2-zero"])
def test_a_run_is_named_by_the_beginning_or_end_of_its_id_or_its_folder(root: Path, text: str) -> None:
    assert resolve_run(text, root).manifest.id == "20260131-100200-zero-bbbb"


def test_a_name_that_fits_several_runs_lists_them(root: Path) -> None:
    with pytest.raises(UserError, match="names 3 runs"):
        resolve_run("2026", root)


def test_an_unknown_name_gets_the_nearest(root: Path) -> None:
    with pytest.raises(UserError, match=r"did you mean '20260131-100200-zero-bbbb'\?"):
        resolve_run("20260131-100200-zero-bbbx", root)


def test_no_runs_at_all_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none at all below"):
        resolve_run(new_run_id("zero", datetime.now(UTC)), tmp_path)
