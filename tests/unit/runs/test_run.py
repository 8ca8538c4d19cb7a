from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from openbook.errors import UserError
from openbook.runs.journal import RunStatus
from openbook.runs.manifest import Ancestor
from openbook.runs.run import Run
from openbook.runs.usage import Usage

RECIPE: dict[str, Any] = {"steps": 100, "optim": {"lr": 0.001, "betas": (0.9, 0.95)}}


def new_run(folder: Path, **changes: Any) -> Run:
    defaults: dict[str, Any] = {"verb": "rl", "stage": "zero", "recipe": RECIPE, "seed": 7}
    return Run.create(folder, **(defaults | changes))


def leave_as_killed(run: Run) -> None:
    """Make the journal look as if the process of the last start had died."""
    path = run.folder / "journal.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    starts = [event for event in events if event["event"] == "start"]
    starts[-1]["process"]["started"] = "long ago"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def test_a_run_that_is_opened_again_has_the_same_manifest_and_recipe(tmp_path: Path) -> None:
    base = Ancestor(role="base", name="nano", digest="sha256:00", run_id="20260131-154500-pretrain-k3f9")
    made = new_run(tmp_path / "zero", parents=[base])
    opened = Run.open(tmp_path / "zero")
    assert opened.manifest == made.manifest
    assert opened.manifest.parents == (base,)
    assert (opened.manifest.verb, opened.manifest.stage, opened.manifest.seed) == ("rl", "zero", 7)
    assert opened.recipe == {"steps": 100, "optim": {"lr": 0.001, "betas": [0.9, 0.95]}}


def test_status_follows_an_attempt_from_its_start_to_its_end(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    assert run.status is RunStatus.CREATED
    run.start()
    assert run.status is RunStatus.RUNNING
    run.fail("the loss became nan")
    assert (run.status, run.reason) == (RunStatus.FAILED, "the loss became nan")
    run.start()
    run.interrupt()
    assert run.status is RunStatus.INTERRUPTED
    run.start()
    run.finish()
    assert Run.open(tmp_path).status is RunStatus.DONE


def test_attempts_are_kept_with_their_processes_devices_and_ends(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.start(device="NVIDIA H200")
    leave_as_killed(run)
    again = Run.open(tmp_path)
    again.start()
    again.finish()
    first, second = again.attempts
    assert (first.number, first.device, first.status) == (1, "NVIDIA H200", RunStatus.KILLED)
    assert (second.number, second.device, second.status) == (2, "cpu", RunStatus.DONE)
    assert first.process.pid == second.process.pid
    assert first.started_at < first.last_sign_at <= second.started_at < second.last_sign_at


def test_a_run_whose_process_is_gone_reads_as_killed(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.start()
    leave_as_killed(run)
    assert run.status is RunStatus.KILLED
    assert "is gone" in run.reason


def test_a_run_in_use_or_done_is_not_started_again(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.start()
    with pytest.raises(UserError, match="is in use: process"):
        Run.open(tmp_path).start()
    run.finish()
    with pytest.raises(UserError, match="is done"):
        Run.open(tmp_path).start()


def test_usage_adds_up_over_all_attempts_and_says_whose_it_was(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.start()
    run.record(Usage(trained_tokens=10, device_microseconds=5, peak_memory_bytes=300))
    run.interrupt()
    run.start()
    run.record(Usage(trained_tokens=20, device_microseconds=7, peak_memory_bytes=200))
    assert run.usage() == Usage(trained_tokens=30, device_microseconds=12, peak_memory_bytes=300)
    assert [line.attempt for line in run.usage_lines()] == [1, 2]
    assert run.usage_lines()[0].time < run.usage_lines()[1].time


def test_a_torn_last_line_is_ignored_and_gone_after_the_next_start(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.start()
    run.record(Usage(trained_tokens=10))
    run.log(1, {"loss": 2.0})
    leave_as_killed(run)
    for name in ("usage.jsonl", "metrics.jsonl", "journal.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"step": 2, "atte')
    assert run.usage() == Usage(trained_tokens=10)
    assert run.status is RunStatus.KILLED
    again = Run.open(tmp_path)
    again.start()
    again.record(Usage(trained_tokens=5))
    again.log(2, {"loss": 1.0})
    assert again.usage() == Usage(trained_tokens=15)
    assert [row["loss"] for row in again.metrics()] == [2.0, 1.0]
    assert again.status is RunStatus.RUNNING


def test_a_line_torn_just_before_its_newline_does_not_count(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.start()
    run.record(Usage(trained_tokens=10))
    run.record(Usage(trained_tokens=20))
    path = tmp_path / "usage.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    assert run.usage() == Usage(trained_tokens=10)


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.start()
    run.record(Usage(trained_tokens=10))
    with (tmp_path / "usage.jsonl").open("a") as file:
        file.write("\0\0\0\n")
    with pytest.raises(UserError, match=r"line 2 of .*usage\.jsonl is damaged"):
        run.usage()


def test_metrics_come_back_with_values_that_json_has_no_number_for(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.start()
    run.log(1, {"loss": math.nan, "grad_norm": math.inf, "reward": -0.25})
    (row,) = run.metrics()
    assert math.isnan(row["loss"])
    assert (row["step"], row["attempt"], row["grad_norm"], row["reward"]) == (1, 1, math.inf, -0.25)
    json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)


def test_going_back_to_a_step_drops_later_metrics_and_marks_the_work_as_lost(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.start()
    for step in range(1, 6):
        run.record(Usage(trained_tokens=step))
        run.log(step, {"loss": 1 / step})
    run.interrupt()
    run.start()
    run.truncate_metrics(3)
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    (rewind,) = run.journal.rewinds
    assert (rewind.step, rewind.first_line, rewind.end_line) == (3, 3, 5)
    assert run.usage() == Usage(trained_tokens=15), "what was paid stays paid"


def test_going_back_to_the_last_step_loses_nothing(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.start()
    run.record(Usage(trained_tokens=1))
    run.log(1, {"loss": 1})
    run.interrupt()
    run.start()
    run.truncate_metrics(1)
    assert run.journal.rewinds == ()
    assert len(run.metrics()) == 1


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    new_run(tmp_path)
    with pytest.raises(UserError, match=r"holds a run already.*--resume"):
        new_run(tmp_path)


def test_resuming_with_another_recipe_shows_the_difference(tmp_path: Path) -> None:
    new_run(tmp_path)
    assert Run.resume(tmp_path, recipe=RECIPE).manifest.seed == 7
    other = {"optim": {"lr": 0.01, "betas": [0.9, 0.95]}, "steps": 100, "warmup": 5}
    with pytest.raises(UserError, match=r"optim\.lr 0\.001 -> 0\.01, warmup \(absent\) -> 5;"):
        Run.resume(tmp_path, recipe=other)


def test_a_folder_without_a_run_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        Run.open(tmp_path)


def test_a_manifest_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    path = run.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(UserError, match="newer version of openbook"):
        Run.open(tmp_path)


def test_a_full_disk_says_so_and_how_to_go_on(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    run = new_run(tmp_path)
    run.start()
    (tmp_path / "usage.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"disk is full.*--resume"):
        run.record(Usage(trained_tokens=1))


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be written"):
        new_run(tmp_path / "file" / "run")


def test_the_card_names_ancestors_by_digest_in_both_forms(tmp_path: Path) -> None:
    teacher = Ancestor(role="teacher", name="zero|big", digest="sha256:11", run_id="r1")
    run = new_run(tmp_path, parents=[teacher])
    run.write_card({"pass@1": 0.5, "data": [{"name": "chain", "digest": "sha256:22"}], "limits": ["small"]})
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["ancestors"] == [
        {"role": "teacher", "name": "zero|big", "digest": "sha256:11", "run_id": "r1"}
    ]
    text = (tmp_path / "card.md").read_text()
    assert f"# Card of run {run.manifest.id}" in text
    assert "| teacher | zero\\|big | sha256:11 | r1 |" in text
    assert "| chain | sha256:22 |" in text
    assert "- pass@1: 0.5" in text
    assert "## limits\n\n- small" in text


def test_writing_without_a_start_is_a_programmers_mistake(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    with pytest.raises(AssertionError, match="start the run"):
        run.record(Usage())
