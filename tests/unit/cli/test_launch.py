"""From options to work: what is computed where, what a second start refuses, what a resume takes up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openbook.config import config, digest
from openbook.errors import Interrupted, UserError
from openbook.r1.schemas import SCHEMAS
from openbook.r1.verbs import Order
from openbook.runs.progress import Progress

Command = Callable[..., Any]


@config
class Toy:
    """A recipe small enough for a test."""

    num_steps: int = 3
    title: str = "toy"


class ScriptedStory:
    """Stands where the pipeline stands: remembers what it was told, and does one step."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}
        self.ends_with: BaseException | None = None

    def run_story(self, config: Toy, *, out: Path, progress: Progress, **told: Any) -> Path:
        self.told = {"config": config, "out": out, **told}
        progress.start("toy", config.num_steps)
        progress.advance(1, {"loss": 2.0})
        progress.finish("toy", "it works")
        if self.ends_with:
            raise self.ends_with
        (out / "story.json").write_text("[]")
        return out / "story.json"

    def open_stage(self, order: Order) -> Callable[[Progress], Path]:
        self.told = {"order": order}
        return lambda progress: order.out


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedStory:
    """A scripted pipeline, the toy recipe under `run` and `rl`, and the current folder elsewhere."""
    scripted = ScriptedStory()
    monkeypatch.setattr("openbook.r1.story.run_story", scripted.run_story)
    monkeypatch.setattr("openbook.r1.verbs.open_stage", scripted.open_stage)
    monkeypatch.setitem(SCHEMAS, "run", Toy)
    monkeypatch.setitem(SCHEMAS, "rl", Toy)
    monkeypatch.chdir(tmp_path)
    Path("toy.toml").write_text('verb = "run"\nnum_steps = 5\n')
    Path("toy-rl.toml").write_text('verb = "rl"\n')
    return scripted


def test_a_recipe_goes_to_a_folder_of_its_name_and_seed(openbook: Command, story: ScriptedStory) -> None:
    answer = openbook("run", "toy.toml", "--set", "title=two words", "--seed", "4", "--skip", "zero")
    assert answer.code == 0, answer.err
    assert story.told["config"] == Toy(num_steps=5, title="two words")
    assert (story.told["out"], story.told["seed"]) == (Path("out/toy-4"), 4)
    assert (story.told["only"], story.told["skip"], story.told["repeat"]) == ((), ("zero",), ())
    assert answer.out.splitlines()[-1] == "out/toy-4/story.json"
    record = json.loads(Path("out/toy-4/launch.json").read_text())
    assert record["digest"] == digest(story.told["config"])
    assert record["config"] == {"num_steps": 5, "title": "two words"}


def test_progress_goes_to_stderr(openbook: Command, story: ScriptedStory) -> None:
    answer = openbook("run", "toy.toml")
    assert "it works" in answer.err and "it works" not in answer.out
    assert "\033" not in answer.err


def test_the_same_command_again_goes_on(openbook: Command, story: ScriptedStory) -> None:
    assert openbook("run", "toy.toml").code == 0
    assert openbook("run", "toy.toml").code == 0


def test_another_recipe_in_the_same_folder_is_refused_by_what_differs(
    openbook: Command, story: ScriptedStory
) -> None:
    openbook("run", "toy.toml")
    answer = openbook("run", "toy.toml", "--set", "num_steps=6")
    assert answer.code == 2
    assert "out/toy-0 was begun otherwise (config.num_steps 5 -> 6)" in answer.err
    assert "--resume out/toy-0" in answer.err


def test_resume_takes_recipe_seed_and_folder_from_the_record(openbook: Command, story: ScriptedStory) -> None:
    openbook("run", "toy.toml", "--seed", "9", "--out", "elsewhere", "--set", "num_steps=8")
    story.told = {}
    Path("toy.toml").unlink()
    assert openbook("run", "--resume", "elsewhere").code == 0
    assert story.told["config"] == Toy(num_steps=8)
    assert (story.told["out"], story.told["seed"]) == (Path("elsewhere"), 9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--resume", "gone"), "there is no run 'gone'"),
        (("run", "toy.toml", "--resume", "out/toy-0"), "--resume goes on with a run as it was begun"),
        (("rl", "--resume", "out/toy-0"), "out/toy-0 was begun by another verb; use `openbook run --resume`"),
        (("rl", "toy.toml"), "toy.toml is a recipe of another verb; use `openbook run toy.toml`"),
        (("run", "toy.toml", "--set", "num_stesp=1"), "num_stesp: unknown key; did you mean 'num_steps'?"),
        (("run", "other.toml"), "there is no file other.toml"),
        (("rl", "toy-rl.toml", "--from", "gone"), "there is no run 'gone'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_done(
    openbook: Command, story: ScriptedStory, words: tuple[str, ...], message: str
) -> None:
    openbook("run", "toy.toml")
    story.told = {}
    answer = openbook(*words)
    assert answer.code == 2 and message in answer.err
    assert not story.told


def test_a_dry_run_prints_the_forecast_and_computes_nothing(openbook: Command, story: ScriptedStory) -> None:
    answer = openbook("run", "toy.toml", "--dry-run")
    assert json.loads(answer.out)["config"] == {"num_steps": 5, "title": "toy"}
    assert not story.told and not Path("out").exists()


@pytest.mark.parametrize("stop", [Interrupted("stopped after step 1 of 5", "saved"), KeyboardInterrupt()])
def test_a_stop_says_which_command_goes_on(
    openbook: Command, story: ScriptedStory, stop: BaseException
) -> None:
    story.ends_with = stop
    answer = openbook("run", "toy.toml")
    assert answer.code == 130
    assert answer.err.splitlines()[-1].endswith("go on with: openbook run --resume out/toy-0")


def test_a_stage_gets_its_checkpoints_by_role(
    openbook: Command, story: ScriptedStory, checkpoint: Path
) -> None:
    answer = openbook("rl", "toy-rl.toml", "--from", checkpoint)
    assert answer.code == 0, answer.err
    order = story.told["order"]
    assert (order.verb, order.config, order.seed) == ("rl", Toy(), 0)
    assert order.inputs == {"base": checkpoint}
    assert answer.out == "out/rl-toy-rl-0\n"


def test_a_folder_that_cannot_be_written_is_named(openbook: Command, story: ScriptedStory) -> None:
    Path("file").write_text("")
    answer = openbook("run", "toy.toml", "--out", "file/below")
    assert answer.code == 2 and "file/below cannot be written" in answer.err


def test_a_wrong_user_error_is_not_swallowed(openbook: Command, story: ScriptedStory) -> None:
    story.ends_with = UserError("the data is gone", "restore it")
    assert openbook("run", "toy.toml").err.splitlines()[-1] == "openbook: the data is gone; restore it"
