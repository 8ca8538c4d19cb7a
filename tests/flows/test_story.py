"""The tiny story from the tokenizer to the bill: what lies in its folder, and what its command does again."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from openbook.ledger.book import Book
from openbook.ledger.booking import book_run
from openbook.ledger.entry import amount_nano_usd
from openbook.ledger.prices import PricePlan
from openbook.ledger.statement import statement
from openbook.r1.pipeline import STAGE_NAMES
from openbook.runs.journal import RunStatus
from openbook.runs.manifest import recipe_digest
from openbook.runs.run import Run
from openbook.runs.store import find_runs

Command = Callable[..., Any]
Tale = Any

pytestmark = pytest.mark.timeout(600)  # the first of these tests waits for the story

ANCESTORS = {
    "pretrain": {},
    "zero": {"base": "pretrain"},
    "cold_start": {"base": "pretrain", "teacher": "zero"},
    "reasoning_rl": {"base": "cold_start"},
    "rejection": {"base": "pretrain", "teacher": "reasoning_rl"},
    "reward_model": {"base": "rejection"},
    "all_scenarios": {"base": "rejection", "reward_model": "reward_model"},
    "student_base": {"tokenizer": "pretrain"},
    "distill": {"base": "student_base", "teacher": "all_scenarios"},
    "control": {"base": "student_base", "budget": "distill"},
}
"""What each stage is made from (DeepSeek-R1, Figure 2 of the Nature paper)."""
SUPERVISED = ("cold_start", "rejection", "distill")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def digest_on_disk(checkpoint: Path) -> str:
    """The digest of a checkpoint, from the bytes of its configuration and weights."""
    names = ("config.json", "model.safetensors")
    files = {name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in names}
    recorded = read(checkpoint / "openbook.json")
    assert {name: digest.removeprefix("sha256:") for name, digest in recorded["files"].items()} == files
    return str(recorded["digest"])


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file of the stages with its time and its content."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent != folder]
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in files
    }


def device_nano_usd(run: Run) -> int:
    """What a run comes to: all its device time, at the price of its device on its day, rounded once."""
    plan = PricePlan.default()
    price = plan.price(plan.resource_of("cpu"), run.manifest.created_at.date())
    seconds = Decimal(run.usage().device_microseconds).scaleb(-6)
    return amount_nano_usd(seconds, price.price_usd, price.unit)


def bill(command: Command, root: Path) -> Any:
    answer = command("bill", "--root", root, "--verify", "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


@pytest.fixture
def copied(tale: Tale, tmp_path: Path) -> Tale:
    """A copy of the whole story, to be changed."""
    copy = type(tale)(folder=tmp_path / "copied")
    shutil.copytree(tale.folder, copy.folder)
    return copy


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_every_stage_is_a_finished_run_with_its_papers(tale: Tale, stage: str) -> None:
    run = tale.run(stage)
    assert run.status is RunStatus.DONE
    assert run.manifest.stage == stage
    assert run.manifest.seed == 1
    assert run.manifest.recipe_digest == recipe_digest(run.recipe)
    assert run.recipe["seed"] == 1
    assert [attempt.status for attempt in run.attempts] == [RunStatus.DONE]
    assert run.usage().device_microseconds > 0
    assert run.usage().trained_tokens > 0
    steps = [row["step"] for row in run.metrics()]
    first = 0 if stage in SUPERVISED else 1  # step 0 samples what the later ones learn from
    assert steps == list(range(first, first + len(steps)))
    assert len(steps) > first


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_the_card_of_a_stage_names_its_ancestors_by_digest(tale: Tale, stage: str) -> None:
    card = read(tale.place(stage) / "card.json")
    found = {one["role"]: (one["name"], one["digest"], one["run_id"]) for one in card["ancestors"]}
    assert found == {
        role: (name, digest_on_disk(tale.place(name) / "checkpoint"), tale.run(name).manifest.id)
        for role, name in ANCESTORS[stage].items()
    }
    text = (tale.place(stage) / "card.md").read_text(encoding="utf-8")
    assert all(digest in text for _, digest, _ in found.values())
    assert card["checkpoint"] == digest_on_disk(tale.place(stage) / "checkpoint")
    if stage in SUPERVISED:
        traces = (tale.place(stage) / "traces.jsonl").read_bytes()
        assert card["traces"] == "sha256:" + hashlib.sha256(traces).hexdigest()


def test_zero_has_no_supervised_ancestor_and_rejection_restarts_from_the_base(tale: Tale) -> None:
    base = digest_on_disk(tale.place("pretrain") / "checkpoint")
    for stage in ("zero", "cold_start", "rejection"):
        (parent,) = [one for one in tale.run(stage).manifest.parents if one.role == "base"]
        assert parent.digest == base, stage
    assert [one.role for one in tale.run("zero").manifest.parents] == ["base"]
    assert not (tale.place("zero") / "traces.jsonl").exists()
    assert not (tale.place("pretrain") / "traces.jsonl").exists()
    for stage in SUPERVISED:
        traces = (tale.place(stage) / "traces.jsonl").read_text(encoding="utf-8").splitlines()
        assert traces, f"{stage} kept nothing to learn from"
        assert {tuple(json.loads(line)) for line in traces} == {("question", "response")}


def test_story_json_has_a_row_for_each_examined_stage(tale: Tale) -> None:
    rows = read(tale.folder / "story.json")
    assert [row["stage"] for row in rows] == [name for name in STAGE_NAMES if name != "reward_model"]
    for row in rows:
        assert 0 <= row["pass_at_1_low"] <= row["pass_at_1"] <= row["pass_at_1_high"] <= 1
        assert 0 <= row["majority_at_k"] <= 1
        assert 1 <= row["mean_completion_tokens"] <= 40
        assert 0 < row["device_seconds"] <= row["wall_seconds"] + 0.001
        assert row["cost_usd"] > 0
        assert row["seed"] == 1
        run = tale.run(row["stage"])
        assert row["run_id"] == run.manifest.id
        assert row["cost_usd"] == device_nano_usd(run) / 1e9


class Resources(HTMLParser):
    """Collects the addresses that a page names in its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = ("src", "srcset", "href", "xlink:href", "action", "data", "poster")
        self.addresses += [value or "" for name, value in attrs if name in names]


def test_the_report_loads_nothing_from_anywhere(tale: Tale) -> None:
    text = (tale.folder / "report.html").read_text(encoding="utf-8")
    page = Resources()
    page.feed(text)
    addresses = page.addresses + re.findall(r"url\(\s*['\"]?([^)'\"]*)", text)
    assert "#zero" in addresses, "the page should have links within itself"
    assert [one for one in addresses if not one.startswith(("#", "data:"))] == []
    assert "@import" not in text
    assert not re.findall(r"https?://", text)
    for run in find_runs(tale.folder):
        assert run.manifest.id in text


def test_the_ledger_is_the_sum_of_its_runs(tale: Tale, tmp_path: Path) -> None:
    runs = find_runs(tale.folder)
    assert len(runs) == len(STAGE_NAMES)
    with Book.open(tmp_path / "ledger.sqlite") as book:
        for run in runs:
            book_run(book, run, PricePlan.default())
        found = statement(book)
    assert {row.run_id: row.amount_nano_usd for row in found.rows} == {
        run.manifest.id: device_nano_usd(run) for run in runs
    }
    assert found.total_nano_usd == sum(map(device_nano_usd, runs))
    assert found.lost_nano_usd == 0
    for row, run in zip(found.rows, runs, strict=True):
        usage = run.usage()
        assert row.device_seconds * 1_000_000 == usage.device_microseconds
        assert row.num_tokens.get("trained_tokens", 0) == usage.trained_tokens
        assert row.num_tokens.get("completion_tokens", 0) == usage.completion_tokens


def test_the_bill_agrees_with_the_story_and_with_the_runs(copied: Tale, inside: Command) -> None:
    found = bill(inside, copied.folder)
    runs = find_runs(copied.folder)
    assert {row["run_id"]: row["amount_nano_usd"] for row in found["rows"]} == {
        run.manifest.id: device_nano_usd(run) for run in runs
    }
    assert found["total_nano_usd"] == sum(map(device_nano_usd, runs))
    assert set(found["by_stage"]) == set(STAGE_NAMES)
    assert list(found["by_status"]) == ["done"]
    rows = read(copied.folder / "story.json")
    told = sum(round(row["cost_usd"] * 1e9) for row in rows)
    assert told + device_nano_usd(copied.run("reward_model")) == found["total_nano_usd"]
    assert bill(inside, copied.folder) == found, "a second bill books nothing twice"


def test_the_same_command_again_does_nothing_and_ends_at_once(
    told: tuple[Tale, Any], copied: Tale, openbook: Command
) -> None:
    before = snapshot(copied.folder)
    story = (copied.folder / "story.json").read_bytes()
    again = openbook(*copied.words())
    assert again.code == 0, again.err
    assert snapshot(copied.folder) == before
    assert (copied.folder / "story.json").read_bytes() == story
    assert again.out.replace(str(copied.folder), "") == told[1].out.replace(str(told[0].folder), "")
    assert " steps" not in again.err
    assert again.cpu_seconds < told[1].cpu_seconds / 2


def test_the_control_stops_at_the_device_time_of_distill(tale: Tale) -> None:
    budget = read(tale.place("distill") / "compute.json")["device_microseconds"]
    distill, control = tale.run("distill"), tale.run("control")
    # Learning alone: the examination comes after the last logged step.
    learned = int(distill.metrics()[-1]["usage_lines"])
    assert budget == sum(line.usage.device_microseconds for line in distill.usage_lines()[:learned])
    steps = [line.usage.device_microseconds for line in control.usage_lines()][: len(control.metrics())]
    assert sum(steps[:-1]) < budget <= sum(steps)
    assert len(steps) < control.recipe["settings"]["rl"]["num_steps"]
    assert read(tale.place("control") / "compute.json")["device_microseconds"] == sum(steps)


def test_only_runs_one_stage_and_says_what_is_missing_before_it(
    told_until: Callable[[str], Tale], inside: Command, tmp_path: Path
) -> None:
    started = told_until("student_base")
    before = snapshot(started.folder)
    answer = inside(*started.words("--only", "student_base"))
    assert answer.code == 0, answer.err
    assert {name: one for name, one in snapshot(started.folder).items() if name in before} == before
    assert started.run("student_base").status is RunStatus.DONE
    assert not started.place("distill").exists()
    assert [row["stage"] for row in read(started.folder / "story.json")][-1] == "student_base"

    empty = type(started)(folder=tmp_path / "empty")
    answer = inside(*empty.words("--only", "zero"))
    assert answer.code == 2
    assert answer.last_line.startswith("openbook: stage 'pretrain' has made no checkpoint")
    assert "--only pretrain" in answer.last_line


def test_skip_leaves_stages_out(told_until: Callable[[str], Tale], inside: Command) -> None:
    started = told_until("student_base")
    answer = inside(*started.words("--skip", "distill", "--skip", "control"))
    assert answer.code == 0, answer.err
    assert started.run("student_base").status is RunStatus.DONE
    assert not started.place("distill").exists()
    assert not started.place("control").exists()


def test_repeat_keeps_the_old_run_and_its_cost_as_a_run_of_its_own(
    tale: Tale, copied: Tale, inside: Command
) -> None:
    before = bill(inside, copied.folder)
    answer = inside(*copied.words("--only", "cold_start", "--repeat", "cold_start"))
    assert answer.code == 0, answer.err
    old, new = Run.open(copied.folder / "repeated" / "03-cold_start-1"), copied.run("cold_start")
    assert old.manifest.id == tale.run("cold_start").manifest.id
    assert old.manifest.id != new.manifest.id
    assert old.status is new.status is RunStatus.DONE
    assert old.usage() == tale.run("cold_start").usage()
    assert copied.weights("cold_start") == tale.weights("cold_start"), "equal seeds, equal weights"
    after = bill(inside, copied.folder)
    assert after["by_stage"]["cold_start"]["num_runs"] == 2
    assert after["total_nano_usd"] == before["total_nano_usd"] + device_nano_usd(new)
    rows = {row["stage"]: row["run_id"] for row in read(copied.folder / "story.json")}
    assert rows["cold_start"] == new.manifest.id
    assert list(rows) == [row["stage"] for row in read(tale.folder / "story.json")]


def test_a_stage_that_does_not_exist_is_named_with_the_nearest(copied: Tale, inside: Command) -> None:
    for option in ("--only", "--skip", "--repeat"):
        answer = inside(*copied.words(option, "zeros"))
        assert (answer.code, answer.err) == (
            2,
            "openbook: there is no stage 'zeros'; did you mean 'zero'?\n",
        )
