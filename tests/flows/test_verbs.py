"""One stage at a time, each verb on what another made, and the nouns that look at the results."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from openbook.runs.journal import RunStatus
from openbook.runs.run import Run

Command = Callable[..., Any]
Tale = Any

pytestmark = pytest.mark.timeout(600)

ANCESTORS = {
    "pretrain": {},
    "rl": {"base": "pretrain"},
    "distill": {"base": "pretrain", "teacher": "rl"},
    "sft": {"base": "pretrain", "data": "distill"},
}
QUESTION = "a 1, b +4. b?"


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What the verbs made, a folder each below `root`, and what they printed."""

    root: Path
    answers: dict[str, Any]

    def folder(self, verb: str) -> Path:
        return self.root / verb


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, inside: Command) -> Made:
    root = tmp_path_factory.mktemp("verbs")
    base, policy = root / "pretrain", root / "rl"
    inputs = {
        "pretrain": (),
        "rl": ("--from", base),
        "distill": ("--from", base / "checkpoint", "--teacher", policy),
        "sft": ("--from", base, "--data", root / "distill" / "traces.jsonl"),
    }
    answers = {}
    for verb, given in inputs.items():
        answers[verb] = inside(verb, "tiny", *given, "--out", root / verb, "--seed", 3)
        assert answers[verb].code == 0, answers[verb].err
    return Made(root=root, answers=answers)


def digest_of(made: Made, role: str, verb: str) -> str:
    """The digest of what a verb made: its traces where they are the data, else its checkpoint."""
    if role == "data":
        return "sha256:" + hashlib.sha256((made.folder(verb) / "traces.jsonl").read_bytes()).hexdigest()
    return str(json.loads((made.folder(verb) / "checkpoint" / "openbook.json").read_text())["digest"])


def weights(folder: Path) -> bytes:
    return (folder / "checkpoint" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("verb", ANCESTORS)
def test_a_verb_prints_the_checkpoint_it_made_and_names_its_ancestors(made: Made, verb: str) -> None:
    folder = made.folder(verb)
    assert made.answers[verb].out == f"{folder / 'checkpoint'}\n"
    run = Run.open(folder)
    assert run.status is RunStatus.DONE
    assert (run.manifest.verb, run.manifest.stage, run.manifest.seed) == (verb, verb, 3)
    assert {parent.role: (parent.digest, parent.run_id) for parent in run.manifest.parents} == {
        role: (digest_of(made, role, name), Run.open(made.folder(name)).manifest.id)
        for role, name in ANCESTORS[verb].items()
    }
    suites = [card["suite"] for card in json.loads((folder / "scorecards.json").read_text())]
    assert suites == ["held_out", "harder"]


def test_the_same_command_again_gives_the_same_checkpoint_without_work(made: Made, inside: Command) -> None:
    folder = made.folder("rl")
    before = Run.open(folder).usage_lines()
    again = inside("rl", "tiny", "--from", made.folder("pretrain"), "--out", folder, "--seed", 3)
    assert (again.code, again.out) == (0, made.answers["rl"].out)
    assert inside("rl", "--resume", folder).out == again.out
    assert Run.open(folder).usage_lines() == before


def test_every_verb_changes_the_weights_and_distillation_is_training_on_traces(made: Made) -> None:
    made_of = {verb: weights(made.folder(verb)) for verb in ANCESTORS}
    assert made_of["distill"] == made_of["sft"], "the same base, traces and seed"
    assert len(set(made_of.values())) == 3


def test_supervised_training_reads_the_traces_of_a_run_as_of_a_file(
    made: Made, inside: Command, tmp_path: Path
) -> None:
    given = ("--from", made.folder("pretrain"), "--data", made.folder("distill"))
    answer = inside("sft", "tiny", *given, "--out", tmp_path / "sft", "--seed", 3)
    assert answer.code == 0, answer.err
    assert weights(tmp_path / "sft") == weights(made.folder("sft"))


def test_a_stage_is_not_gone_on_with_from_another_base_or_other_data(
    made: Made, inside: Command, tmp_path: Path
) -> None:
    """Even when what differs has the same path as before."""
    data, out = tmp_path / "data.jsonl", tmp_path / "sft"
    shutil.copyfile(made.folder("distill") / "traces.jsonl", data)
    shutil.copytree(made.folder("pretrain") / "checkpoint", tmp_path / "base")
    words = ("sft", "tiny", "--from", tmp_path / "base", "--data", data, "--out", out)
    assert inside(*words).code == 0
    journal = out / "journal.jsonl"
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])  # as if it was killed
    data.write_text(data.read_text() + data.read_text())
    answer = inside(*words)
    assert (answer.code, "was begun from another data" in answer.err) == (2, True), answer.err
    shutil.copyfile(made.folder("distill") / "traces.jsonl", data)
    shutil.rmtree(tmp_path / "base")
    shutil.copytree(made.folder("rl") / "checkpoint", tmp_path / "base")
    answer = inside(*words)
    assert (answer.code, "was begun from another base" in answer.err) == (2, True), answer.err
    assert len(Run.open(out).attempts) == 1, "no attempt was begun"


def test_an_examination_is_a_run_of_its_own_with_a_price(made: Made, inside: Command, tmp_path: Path) -> None:
    out = tmp_path / "exam"
    sizes = ("--set", "num_problems=5", "--set", "num_samples=2", "--set", "max_tokens=40")
    answer = inside("eval", made.folder("sft"), *sizes, "--out", out, "--json")
    assert answer.code == 0, answer.err
    card = json.loads(answer.out)
    assert (card["num_problems"], card["num_samples"]) == (5, 2)
    assert card["pass_at_1"]["low"] <= card["pass_at_1"]["value"] <= card["pass_at_1"]["high"]
    run = Run.open(out)
    assert run.status is RunStatus.DONE
    assert card["run"] == run.manifest.id
    (subject,) = run.manifest.parents
    assert subject.run_id == Run.open(made.folder("sft")).manifest.id
    assert run.usage().completion_tokens > 0
    billed = json.loads(inside("bill", "--root", tmp_path, "--json").out)
    assert billed["total_nano_usd"] > 0
    assert [row["run_id"] for row in billed["rows"]] == [run.manifest.id]
    table = inside("eval", made.folder("sft"), *sizes, "--out", tmp_path / "again").out
    assert "accuracy (pass@1)" in table
    assert "95 % interval" in table


def test_generate_gives_equal_texts_for_equal_seeds(made: Made, inside: Command) -> None:
    words = ("generate", made.folder("sft"), QUESTION, "--num", 3, "--max-tokens", 40)
    texts = {
        seed: [one["text"] for one in json.loads(inside(*words, "--seed", seed, "--json").out)["completions"]]
        for seed in (0, 1)
    }
    assert texts[0] != texts[1]
    assert len(texts[0]) == 3
    answer = inside(*words)
    assert answer.code == 0
    assert answer.out.rstrip("\n").split("\n\n") == [text.rstrip("\n") for text in texts[0]]
    assert " tokens in " in answer.err


def test_a_report_can_be_written_of_runs_that_are_no_story(
    made: Made, inside: Command, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    answer = inside("report", made.root, "--out", page)
    assert (answer.code, answer.out) == (0, f"{page}\n")
    text = page.read_text(encoding="utf-8")
    assert all(Run.open(made.folder(verb)).manifest.id in text for verb in ANCESTORS)


def test_a_report_of_a_story_is_written_where_it_is_asked_for(
    tale: Tale, inside: Command, tmp_path: Path
) -> None:
    answer = inside("report", tale.folder, "--out", tmp_path / "page.html")
    assert answer.code == 0, answer.err
    page, own = tmp_path / "page.html", tale.folder / "report.html"
    assert abs(page.stat().st_size - own.stat().st_size) < 0.02 * own.stat().st_size


def test_runs_are_listed_and_shown(made: Made, inside: Command) -> None:
    listed = json.loads(inside("runs", "list", "--root", made.root, "--json").out)
    assert [(run["verb"], run["status"]) for run in listed] == [(verb, "done") for verb in made.answers]
    table = inside("runs", "list", "--root", made.root).out
    for run in listed:
        assert run["id"] in table
        shown = json.loads(inside("runs", "show", run["id"], "--root", made.root, "--json").out)
        assert shown["id"] == run["id"]
        assert shown["usage"] == run["usage"]
        assert [parent["role"] for parent in shown["parents"]] == list(ANCESTORS[run["verb"]])
    text = inside("runs", "show", made.folder("distill")).out
    assert "teacher" in text
    assert "attempts" in text


def test_checkpoints_are_shown_and_verified(made: Made, inside: Command) -> None:
    for verb in ANCESTORS:
        folder = made.folder(verb)
        shown = json.loads(inside("checkpoint", "show", folder, "--json").out)
        assert shown["provenance"]["run_id"] == Run.open(folder).manifest.id
        assert shown["parameters_active"] < shown["parameters_total"], "experts that are not chosen rest"
        verified = json.loads(inside("checkpoint", "verify", folder, "--json").out)
        assert (verified["sound"], verified["digest"]) == (True, shown["digest"])
        assert inside("checkpoint", "verify", folder).out.endswith(f"is sound: {shown['digest']}\n")
