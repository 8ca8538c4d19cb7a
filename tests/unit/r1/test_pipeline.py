"""Which stage starts from which, which are run, and what becomes of one that is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from openbook.cli.shelf import all_recipes
from openbook.config import load_recipe
from openbook.errors import UserError
from openbook.r1.config import StoryConfig
from openbook.r1.pipeline import PLOT, STAGE_NAMES, STAGES, reinforce_settings
from openbook.r1.schemas import SCHEMAS
from openbook.r1.telling import Choice, Story, set_aside
from openbook.runs.progress import Silence
from openbook.runs.run import Run
from openbook.runs.stop import StopSignal

INPUTS = {stage.name: stage.inputs for stage in STAGES}


@pytest.fixture
def story(tmp_path: Path) -> Story[StoryConfig]:
    config: StoryConfig = load_recipe(all_recipes()["run/tiny"], SCHEMAS).config
    return Story(config=config, plot=PLOT, folder=tmp_path, seed=0, progress=Silence(), stop=StopSignal())


def ancestors(name: str) -> set[str]:
    """All stages that a stage is made from, near and far."""
    near = set(INPUTS[name].values())
    return near.union(*map(ancestors, near))


def test_a_stage_starts_only_from_earlier_ones() -> None:
    for number, stage in enumerate(STAGES):
        assert set(stage.inputs.values()) <= set(STAGE_NAMES[:number]), stage.name


def test_the_order_is_that_of_the_paper() -> None:
    """DeepSeek-R1 2.2 to 2.4: zero from the base alone; supervised stages restart from the base."""
    assert ancestors("zero") == {"pretrain"}
    for name in ("zero", "cold_start", "rejection"):
        assert INPUTS[name]["base"] == "pretrain"
    assert INPUTS["cold_start"]["teacher"] == "zero"
    assert INPUTS["reasoning_rl"]["base"] == "cold_start"
    assert INPUTS["rejection"]["teacher"] == "reasoning_rl"
    assert INPUTS["all_scenarios"]["base"] == "rejection"
    assert INPUTS["distill"]["teacher"] == "all_scenarios"
    assert INPUTS["control"]["base"] == INPUTS["distill"]["base"] == "student_base"
    assert not {"all_scenarios", "zero"} & set(INPUTS["control"].values())


def test_a_choice_says_which_stages_run() -> None:
    def chosen(**options: tuple[str, ...]) -> list[str]:
        choice = Choice(names=STAGE_NAMES, **options)
        return [name for name in STAGE_NAMES if choice.includes(name)]

    assert chosen() == list(STAGE_NAMES)
    assert chosen(only=("zero",)) == ["zero"]
    assert chosen(only=("distill", "zero")) == ["zero", "distill"]
    assert chosen(skip=("control",)) == list(STAGE_NAMES[:-1])
    assert chosen(only=("zero", "distill"), skip=("zero",)) == ["distill"]
    assert chosen(repeat=("zero",)) == list(STAGE_NAMES)
    assert chosen(only=("distill",), repeat=("zero",)) == ["zero", "distill"]


@pytest.mark.parametrize("option", ["only", "skip", "repeat"])
def test_a_stage_that_there_is_not_is_refused_with_the_nearest(option: str) -> None:
    with pytest.raises(UserError, match=r"no stage 'distil'; did you mean 'distill'\?"):
        Choice(names=STAGE_NAMES, **{option: ("distil",)})


def test_a_repeated_stage_is_set_aside_under_a_name_of_its_own(story: Story[StoryConfig]) -> None:
    set_aside(story.folder_of("zero"))
    assert list(story.folder.iterdir()) == [], "nothing was there"
    ids = []
    for _ in range(3):
        run = Run.create(story.folder_of("zero"), verb="rl", stage="zero", recipe={}, seed=0)
        ids.append(run.manifest.id)
        set_aside(story.folder_of("zero"))
    assert not story.folder_of("zero").exists()
    kept = [Run.open(story.folder / "repeated" / f"02-zero-{number}").manifest.id for number in (1, 2, 3)]
    assert kept == ids


def test_a_stage_is_done_only_when_its_run_says_so(story: Story[StoryConfig]) -> None:
    assert not story.is_done("zero")
    run = Run.create(story.folder_of("zero"), verb="rl", stage="zero", recipe={}, seed=0)
    assert not story.is_done("zero")
    run.start(device="cpu")
    run.checkpoint_folder.mkdir()
    assert not story.is_done("zero"), "a checkpoint is written before the examination"
    run.fail("full disk")
    assert not story.is_done("zero")
    run.start(device="cpu")
    run.finish()
    assert story.is_done("zero")


def test_a_stage_whose_parent_is_missing_says_which_to_run(story: Story[StoryConfig]) -> None:
    with pytest.raises(UserError, match=r"'pretrain' has made no checkpoint .*; run it: --only pretrain"):
        story.frame(STAGES[1], story.config.pretrain)


def test_reinforcement_asks_what_the_corpus_exercises(story: Story[StoryConfig]) -> None:
    settings = reinforce_settings(story.config, story.config.control)
    assert settings.family == story.config.corpus.exercises
    assert settings.rl == story.config.control
    assert settings.exam == story.config.exam
