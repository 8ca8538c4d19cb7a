"""What a person can get wrong: each mistake ends with one line that says what to do, and no traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openbook.runs.journal import RunStatus

Command = Callable[..., Any]
Tale = Any
ToldUntil = Callable[[str], Tale]

pytestmark = pytest.mark.timeout(600)

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "run" / "tiny.toml"
SMALL_EXAM = ("--set", "num_problems=3", "--set", "num_samples=2", "--set", "max_tokens=40")


def assert_refused(answer: Any, *parts: str, code: int = 2) -> None:
    """One line on stderr that says all of this, and nothing on stdout."""
    assert answer.code == code, answer.err
    assert answer.err.count("\n") == 1, answer.err
    assert_ended_with(answer, *parts, code=code)


def assert_ended_with(answer: Any, *parts: str, code: int = 2) -> None:
    """The last line on stderr says all of this; before it there is progress alone."""
    assert answer.code == code, answer.err
    assert answer.last_line.startswith("openbook: ")
    for part in parts:
        assert part in answer.last_line
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert "defect of openbook" not in answer.err


def test_an_unknown_recipe_is_answered_with_the_nearest(openbook: Command, tmp_path: Path) -> None:
    answer = openbook("run", "tinny", "--out", tmp_path / "out")
    assert_refused(answer, "there is no run recipe 'tinny'; did you mean 'tiny'?")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["pretrain", "rl", "sft", "distill"])
def test_a_verb_looks_among_its_own_recipes(inside: Command, verb: str) -> None:
    assert_refused(inside(verb, "nano"), f"there is no {verb} recipe 'nano'")
    assert_refused(inside(verb, RECIPE), f"use `openbook run {RECIPE}`")


def test_an_unknown_key_is_named_in_full_with_the_nearest(inside: Command, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(RECIPE.read_text().replace("save_every = 8", "safe_every = 8", 1))
    answer = inside("run", recipe, "--out", tmp_path / "out")
    assert_refused(answer, "pretrain.safe_every: unknown key; did you mean 'save_every'?")

    for override, line in {
        "pretrain.optim.muon_lr=1": "pretrain.optim.muon_lr: unknown key; did you mean 'muon_learning_rate'?",
        "zeros.beta=1": "zeros: unknown key; did you mean 'zero'?",
        "cold_start.sampling.num_problem=4": "cold_start.sampling.num_problem: unknown key; did you mean",
        "pretrain.num_steps=many": "pretrain.num_steps: input should be a valid integer, not 'many'",
        "pretrain.num_steps": "--set pretrain.num_steps: not of the form a.b=c",
    }.items():
        answer = inside("run", "tiny", "--out", tmp_path / "out", "--set", override)
        assert_refused(answer, line)
    assert not (tmp_path / "out").exists(), "nothing is begun with a recipe that does not fit"


def test_another_recipe_or_seed_in_a_begun_folder_is_refused_with_the_difference(
    tale: Tale, inside: Command
) -> None:
    before = (tale.folder / "launch.json").read_bytes()
    answer = inside(*tale.words("--set", "zero.num_steps=7", "--set", "exam.sampling.max_tokens=39"))
    assert_refused(
        answer, "config.zero.num_steps 4 -> 7", "config.exam.sampling.max_tokens 40 -> 39", "--resume"
    )
    answer = inside("run", "tiny", "--out", tale.folder, "--seed", 2)
    assert_refused(answer, "seed 1 -> 2")
    answer = inside("run", "tiny", "--resume", tale.folder)
    assert_refused(answer, "--resume goes on with a run as it was begun")
    assert (tale.folder / "launch.json").read_bytes() == before


def test_a_stage_that_was_begun_with_another_recipe_is_not_gone_on_with(
    told_until: ToldUntil, tale: Tale, inside: Command
) -> None:
    """Even when the record of the whole story is gone."""
    begun = told_until("zero")
    shutil.copytree(tale.place("zero"), begun.place("zero"))
    journal = begun.place("zero") / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:1]))  # as if it was killed
    (begun.folder / "launch.json").unlink()
    answer = inside(*begun.words("--only", "zero", "--set", "zero.num_steps=5"))
    assert_refused(answer, "was begun with another recipe", "settings.rl.num_steps 4 -> 5")
    assert begun.run("zero").status is RunStatus.KILLED


def test_a_truncated_checkpoint_is_named_with_its_file_and_tensor(
    told_until: ToldUntil, inside: Command
) -> None:
    begun = told_until("zero")
    weights = begun.place("pretrain") / "checkpoint" / "model.safetensors"
    whole = weights.read_bytes()
    os.truncate(weights, len(whole) - 100)
    for words in (
        begun.words("--only", "zero"),
        ("checkpoint", "verify", begun.place("pretrain")),
        ("eval", begun.place("pretrain"), *SMALL_EXAM),
        ("generate", begun.place("pretrain"), "a = 3. a?"),
    ):
        answer = inside(*words)
        assert_refused(answer, "model.safetensors", "truncated")
        assert re.search(r"\b(model|lm_head)\.[\w.]+", answer.last_line), "a tensor is named"
    assert not begun.place("zero").exists()

    damaged = bytearray(whole)
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    answer = inside("checkpoint", "verify", begun.place("pretrain"))
    assert_refused(answer, "model.safetensors", "content changed")


def test_a_missing_checkpoint_is_said_to_be_missing(
    told_until: ToldUntil, inside: Command, tmp_path: Path
) -> None:
    nowhere, out = tmp_path / "nowhere", tmp_path / "out"
    for words in (
        ("eval", nowhere),
        ("generate", nowhere, "a = 3. a?"),
        ("checkpoint", "show", nowhere),
        ("rl", "tiny", "--from", nowhere, "--out", out),
        ("run", "--resume", nowhere),
    ):
        assert_refused(inside(*words), str(nowhere))
    assert not out.exists()
    begun = told_until("zero")
    shutil.rmtree(begun.place("pretrain") / "checkpoint")
    assert_refused(inside(*begun.words("--only", "zero")), "stage 'pretrain' has made no checkpoint")
    (begun.place("pretrain") / "checkpoint").mkdir()
    assert_refused(inside(*begun.words("--only", "zero")), "config.json")


@pytest.mark.parametrize(
    ("verb", "given", "line"),
    [
        ("rl", (), "openbook rl needs a checkpoint; name it with --from CHECKPOINT"),
        ("sft", (), "openbook sft needs a checkpoint; name it with --from CHECKPOINT"),
        ("sft", ("--from",), "openbook sft needs examples; name conversations with --data PATH"),
        ("distill", ("--from",), "openbook distill needs a checkpoint; name it with --teacher CHECKPOINT"),
    ],
)
def test_a_verb_says_what_it_was_not_given(
    verb: str, given: tuple[str, ...], line: str, tale: Tale, inside: Command, tmp_path: Path
) -> None:
    options = [word for option in given for word in (option, tale.place("pretrain"))]
    answer = inside(verb, "tiny", *options, "--out", tmp_path / "out")
    assert_refused(answer, line)
    assert not (tmp_path / "out").exists(), "nothing is begun without it"


def test_examples_that_are_none_are_named_with_their_line(
    tale: Tale, inside: Command, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    for text, line in {
        '{"question": "a", "response": "b"}\n{"question": "a"}\n': f"{data}, line 2: no conversation",
        "hello\n": f"{data}, line 1: no JSON",
        "[1, 2]\n": f"{data}, line 1: list where an object belongs",
        "": f"{data} is empty",
    }.items():
        data.write_text(text)
        words = ("sft", "tiny", "--from", tale.place("pretrain"), "--data", data)
        assert_refused(inside(*words, "--out", tmp_path / "out"), line)
        assert not (tmp_path / "out").exists()
    words = ("sft", "tiny", "--from", tale.place("pretrain"), "--data", tale.place("pretrain"))
    assert_refused(
        inside(*words, "--out", tmp_path / "other"),
        "sampled no traces",
        "name data, or a run that sampled some",
    )
    turns = [{"role": role, "content": "a"} for role in ("user", "assistant") * 2]
    data.write_text(json.dumps({"messages": turns}))
    words = ("sft", "tiny", "--from", tale.place("pretrain"), "--data", tmp_path / "data.jsonl")
    assert_refused(
        inside(*words, "--out", tmp_path / "other"), f"{data}, line 1: the R1 prompt takes one question"
    )


def test_text_that_is_none_is_named_with_its_line(inside: Command, tmp_path: Path) -> None:
    data, out = tmp_path / "data.jsonl", tmp_path / "out"
    data.write_text('{"text": "a"}\n{"body": "b"}\n')
    assert_refused(inside("pretrain", "own", "--out", out), "openbook pretrain needs text for this recipe")
    answer = inside("pretrain", "own", "--data", data, "--out", out)
    assert_refused(answer, f"{data}, line 2: there is no text under 'text'", "corpus.field")
    answer = inside("pretrain", "tiny", "--data", data, "--out", out)
    assert_refused(answer, "this recipe writes its own corpus", "openbook pretrain own")
    data.write_text('{"text": "a"}\n')
    answer = inside("pretrain", "own", "--data", data, "--out", out)
    assert_refused(answer, "all 1 documents are held out", "held_out_share = 0")
    answer = inside("pretrain", "own", "--data", data, "--out", out, "--set", "corpus.sequence_length=1000")
    assert_refused(answer, "corpus.sequence_length is 1000, more than the 512")
    assert not out.exists()


def test_a_tokenizer_that_does_not_fit_is_refused(tale: Tale, inside: Command, tmp_path: Path) -> None:
    data, out = tmp_path / "data.txt", tmp_path / "out"
    data.write_text("a")
    words = ("pretrain", "own", "--data", data, "--out", out, "--set", "vocab_size=300")
    answer = inside(*words, "--tokenizer", tale.place("pretrain"), "--set", "model.vocab_size=300")
    assert_refused(answer, "tokens and the model only 300", "--set model.vocab_size=")
    (tmp_path / "mine.json").write_text("{}")
    assert_refused(inside(*words, "--tokenizer", tmp_path / "mine.json"), "mine.json is not a tokenizer")
    assert_refused(inside(*words, "--tokenizer", tmp_path / "none"), str(tmp_path / "none"))
    assert not out.exists()


def test_a_folder_that_cannot_be_written_is_named(inside: Command, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    for words in (("run", "tiny"), ("pretrain", "tiny")):
        answer = inside(*words, "--out", blocked / "story")
        assert_refused(answer, f"{blocked / 'story'} cannot be written", "name another --out")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if not os.access(locked, os.W_OK):  # root may write everywhere
        answer = inside("run", "tiny", "--out", locked / "story")
        assert_refused(answer, "cannot be written (Permission denied)")


@pytest.mark.parametrize(
    "override",
    [
        "pretrain.num_steps=-1",
        "pretrain.examples_per_step=0",
        "pretrain.save_every=-8",
        "exam.sampling.num_problems=-1",
        "exam.sampling.max_tokens=0",
        "exam.base_samples=0",
        "exam.num_kept_samples=-1",
        "corpus.exercises.min_operations=-1",
        "corpus.exercises.modulus=0",
        "zero.num_generations=-2",
        "cold_start.sampling.num_problems=-1",
        "cold_start.sampling.num_generations=0",
        "cold_start.sampling.max_tokens=-1",
        "cold_start.sampling.keep_per_problem=0",
        "cold_start.sampling.temperature=-1",
        "cold_start.sampling.min_consistency=2",
        "cold_start.train.num_steps=0",
        "all_scenarios.reward_model.num_pairs=0",
        "all_scenarios.reward_model.num_steps=-1",
        "all_scenarios.reward_model.pairs_per_step=-1",
        "all_scenarios.courtesy_share=2",
        "all_scenarios.courtesy.num_names=0",
        "machine.num_threads=-1",
        "model.vocab_size=100",
    ],
)
def test_a_size_that_cannot_be_is_refused_before_anything_is_begun(
    override: str, inside: Command, tmp_path: Path
) -> None:
    answer = inside("run", "tiny", "--out", tmp_path / "out", "--set", override)
    name = override.partition("=")[0].rpartition(".")[2]
    assert_refused(answer, "tokens" if name == "vocab_size" else name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "override",
    [
        "model.hidden_size=-3",
        "model.num_hidden_layers=-1",
        "model.num_attention_heads=0",
        "model.attention.kv_lora_rank=0",
        "model.moe.n_routed_experts=-4",
        "model.moe.num_experts_per_tok=9",
        "student.attention.head_dim=-16",
        "corpus.drill_share=-1",
        "pretrain.tokens_per_batch=-1",
        "pretrain.optim.max_grad_norm=-1",
        "pretrain.schedule.warmup_steps=-5",
        "zero.num_steps=0",
        "zero.num_problems=-2",
        "zero.max_tokens=-1",
        "zero.save_every=0",
        "zero.num_minibatches=0",
        "zero.temperature=0",
    ],
)
def test_a_size_that_cannot_be_is_refused_wherever_it_stands(override: str, inside: Command) -> None:
    answer = inside("recipe", "show", "run/tiny", "--set", override)
    assert_refused(answer, override.partition("=")[0].rpartition(".")[2])


def test_a_loss_that_is_no_number_ends_the_stage_and_keeps_the_last_state(
    inside: Command, tale: Tale, tmp_path: Path
) -> None:
    rates = ("pretrain.optim.muon_learning_rate=1e9", "pretrain.optim.adamw_learning_rate=1e9")
    begun = type(tale)(folder=tmp_path / "story")
    overrides = [word for text in (*rates, "pretrain.save_every=1") for word in ("--set", text)]
    answer = inside(*begun.words(*overrides))
    assert_ended_with(answer, "became nan at step", "lower the learning rate", code=3)
    run = begun.run("pretrain")
    assert run.status is RunStatus.FAILED
    (step,) = re.findall(r"at step (\d+)", run.reason)
    last_good = int(step) - 1
    assert answer.last_line.startswith(
        f"openbook: {run.reason}; the last good state, of step {last_good}, is"
    )
    assert str(run.state_folder) in answer.last_line
    assert run.metrics()[-1]["step"] == last_good
    assert [path.name for path in run.state_folder.iterdir()] == [f"step-{last_good:06d}"]
    assert not run.checkpoint_folder.exists()
    assert run.usage().trained_tokens > 0, "the work was paid for"


def test_what_no_rule_can_score_is_unscored_and_no_error(tale: Tale, inside: Command, tmp_path: Path) -> None:
    out = tmp_path / "exam"
    answer = inside("eval", tale.place("zero"), "--family", "courtesy", *SMALL_EXAM, "--out", out, "--json")
    assert answer.code == 0, answer.err
    card = json.loads(answer.out)
    assert card["num_unscored"] == 3 * 2
    assert card["pass_at_1"]["value"] == 0
    samples = json.loads((out / "samples.json").read_text())
    assert {sample["verdict"] for sample in samples} == {"unscorable"}
    answer = inside("tasks", "verify", "courtesy", "Dear Ann, the shop is open. Thank you.")
    assert (answer.code, answer.err) == (1, "")
    assert "unscorable: tone is a matter of judgement" in answer.out


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 600 KB, which the test may enlarge; only root may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk takes root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_a_run_that_goes_on_once_there_is_room(
    tale: Tale, inside: Command, small_disk: Path
) -> None:
    begun = type(tale)(folder=small_disk / "story")
    answer = inside(*begun.words("--only", "pretrain"))
    assert_ended_with(answer, "free some space")
    run = begun.run("pretrain")
    assert run.status is RunStatus.FAILED
    assert run.usage().trained_tokens > 0
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    answer = inside(*begun.words("--only", "pretrain"))
    assert answer.code == 0, answer.err
    assert [attempt.status for attempt in run.attempts] == [RunStatus.FAILED, RunStatus.DONE]
    assert begun.weights("pretrain") == tale.weights("pretrain")
