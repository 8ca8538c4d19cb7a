"""The pipeline: which stage starts from which, in the order of the paper's Figure 2.

    base ---------------------+----------------+----------------+
     |                        |                |                |
    zero --(its answers)--> cold_start       (again)      reward_model
                              |                |                |
                         reasoning_rl --> rejection --> all_scenarios = R1
                                                                |
    student_base -----------------------------------------> distill          (and control, by RL alone)

Each stage is a run in a folder of its own and is skipped when it is done.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openbook.config import Recipe, dump
from openbook.errors import UserError, nearest
from openbook.model.checkpoint import Checkpoint
from openbook.model.config import ModelConfig
from openbook.r1.all_scenarios import all_scenarios
from openbook.r1.cold_start import cold_start
from openbook.r1.config import PretrainConfig, ReinforceConfig, StoryConfig
from openbook.r1.control import control
from openbook.r1.distill import distill
from openbook.r1.frame import Frame, ancestor, tokenizer_of
from openbook.r1.pretrain import pretrain
from openbook.r1.rejection import rejection
from openbook.r1.report import REPORT_FILE, write_report
from openbook.r1.reward_model import train_reward_model
from openbook.r1.summary import write_story
from openbook.r1.zero import reinforce_by_rule
from openbook.rl.config import RLConfig
from openbook.runs.journal import RunStatus
from openbook.runs.progress import Progress
from openbook.runs.run import MANIFEST_FILE, Run
from openbook.runs.stop import StopSignal
from openbook.tasks.chain import ChainFamily
from openbook.tasks.courtesy import CourtesyFamily
from openbook.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of the story: what it learns from, by role, and the verb it belongs to."""

    name: str
    verb: str
    inputs: Mapping[str, str]


STAGES = (
    Stage(name="pretrain", verb="pretrain", inputs={}),
    Stage(name="zero", verb="rl", inputs={"base": "pretrain"}),
    Stage(name="cold_start", verb="sft", inputs={"base": "pretrain", "teacher": "zero"}),
    Stage(name="reasoning_rl", verb="rl", inputs={"base": "cold_start"}),
    Stage(name="rejection", verb="sft", inputs={"base": "pretrain", "teacher": "reasoning_rl"}),
    Stage(name="reward_model", verb="sft", inputs={"base": "rejection"}),
    Stage(name="all_scenarios", verb="rl", inputs={"base": "rejection", "reward_model": "reward_model"}),
    Stage(name="student_base", verb="pretrain", inputs={"tokenizer": "pretrain"}),
    Stage(name="distill", verb="distill", inputs={"base": "student_base", "teacher": "all_scenarios"}),
    Stage(name="control", verb="rl", inputs={"base": "student_base", "budget": "distill"}),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which stages to run: all, or `only` some; without those to `skip`; doing those to `repeat` anew."""

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    repeat: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (*self.only, *self.skip, *self.repeat):
            if name not in STAGE_NAMES:
                raise UserError(f"there is no stage {name!r}", nearest(name, list(STAGE_NAMES)))

    def includes(self, name: str) -> bool:
        return name not in self.skip and (not self.only or name in self.only or name in self.repeat)


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """One telling of the story: its settings, its folder, who watches."""

    config: StoryConfig
    folder: Path
    seed: int
    progress: Progress
    stop: StopSignal

    def folder_of(self, name: str) -> Path:
        return self.folder / f"{STAGE_NAMES.index(name) + 1:02d}-{name}"

    def is_done(self, name: str) -> bool:
        folder = self.folder_of(name)
        return (folder / MANIFEST_FILE).exists() and Run.open(folder).status is RunStatus.DONE

    def checkpoint(self, name: str) -> Checkpoint:
        """What an earlier stage made. Raises UserError when it has not."""
        folder = self.folder_of(name) / "checkpoint"
        if not folder.is_dir():
            raise UserError(
                f"stage {name!r} has made no checkpoint in {self.folder}", f"run it: --only {name}"
            )
        return Checkpoint.open(folder)

    def frame(self, stage: Stage, settings: object) -> Frame:
        """The frame of a stage, with its ancestors by role."""
        made = {role: self.checkpoint(name) for role, name in stage.inputs.items()}
        return Frame(
            folder=self.folder_of(stage.name),
            verb=stage.verb,
            stage=stage.name,
            seed=self.seed,
            recipe={"settings": dump(settings), "seed": self.seed},
            parents=[ancestor(role, checkpoint) for role, checkpoint in made.items()],
            machine=self.config.machine,
            progress=self.progress,
            stop=self.stop,
        )


def run_story(
    config: StoryConfig,
    *,
    out: Path,
    seed: int,
    recipe: Recipe,
    only: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
    repeat: tuple[str, ...] = (),
    progress: Progress,
) -> Path:
    """Tell the story from where it stands -> the path of story.json."""
    choice = Choice(only=only, skip=skip, repeat=repeat)
    with StopSignal() as stop:
        story = Story(config=config, folder=out, seed=seed, progress=progress, stop=stop)
        has_news = False
        for stage in STAGES:
            if not choice.includes(stage.name):
                continue
            if stage.name in choice.repeat:
                set_aside(story.folder_of(stage.name))
            if not story.is_done(stage.name):
                stop.check()
                _RUNNERS[stage.name](story, stage)
                write_story(out, STAGE_NAMES)
                has_news = True
    written = write_story(out, STAGE_NAMES)
    if has_news or not (out / REPORT_FILE).exists():
        write_report(out)
    return written


def set_aside(folder: Path) -> None:
    """Keep a stage that is to be repeated: its run was paid for and stays in the books."""
    if not folder.exists():
        return
    number = 1
    while (target := folder.parent / "repeated" / f"{folder.name}-{number}").exists():
        number += 1
    target.parent.mkdir(exist_ok=True)
    shutil.move(folder, target)


def _pretrain(story: Story, stage: Stage) -> Checkpoint:
    settings = pretrain_settings(story.config, story.config.model, story.config.pretrain)
    return pretrain(settings, story.frame(stage, settings))


def _student_base(story: Story, stage: Stage) -> Checkpoint:
    settings = pretrain_settings(story.config, story.config.student, story.config.student_base)
    return pretrain(settings, story.frame(stage, settings), tokenizer_of(story.checkpoint("pretrain")))


def pretrain_settings(config: StoryConfig, model: ModelConfig, train: TrainConfig) -> PretrainConfig:
    """The pretraining of one of the story's two models; both read the same corpus."""
    return PretrainConfig(
        machine=config.machine,
        vocab_size=config.vocab_size,
        model=model,
        corpus=config.corpus,
        train=train,
        exam=config.exam,
    )


def _reinforce(rl_of: Callable[[StoryConfig], RLConfig]) -> Callable[[Story, Stage], Checkpoint]:
    def run(story: Story, stage: Stage) -> Checkpoint:
        settings = reinforce_settings(story.config, rl_of(story.config))
        return reinforce_by_rule(
            settings, story.frame(stage, settings), story.checkpoint(stage.inputs["base"])
        )

    return run


def _control(story: Story, stage: Stage) -> Checkpoint:
    settings = reinforce_settings(story.config, story.config.control)
    base, distilled = story.checkpoint("student_base"), story.folder_of("distill")
    return control(settings, story.frame(stage, settings), base=base, distilled=distilled)


def reinforce_settings(config: StoryConfig, rl: RLConfig) -> ReinforceConfig:
    """A reinforcement stage on the exercises that the corpus writes."""
    return ReinforceConfig(machine=config.machine, family=config.corpus.exercises, rl=rl, exam=config.exam)


def _cold_start(story: Story, stage: Stage) -> Checkpoint:
    settings = story.config.cold_start
    return cold_start(
        settings,
        story.config.exam,
        story.frame(stage, settings),
        base=story.checkpoint("pretrain"),
        zero=story.checkpoint("zero"),
        family=ChainFamily(story.config.corpus.exercises),
    )


def _rejection(story: Story, stage: Stage) -> Checkpoint:
    settings = story.config.rejection
    return rejection(
        settings,
        story.config.exam,
        story.frame(stage, settings),
        base=story.checkpoint("pretrain"),
        teacher=story.checkpoint("reasoning_rl"),
        family=ChainFamily(story.config.corpus.exercises),
        courtesy=CourtesyFamily(story.config.all_scenarios.courtesy),
    )


def _reward_model(story: Story, stage: Stage) -> Checkpoint:
    scenarios = story.config.all_scenarios
    frame = story.frame(stage, scenarios.reward_model)
    courtesy = CourtesyFamily(scenarios.courtesy)
    return train_reward_model(
        scenarios.reward_model, frame, start=story.checkpoint("rejection"), courtesy=courtesy
    )


def _all_scenarios(story: Story, stage: Stage) -> Checkpoint:
    settings = story.config.all_scenarios
    return all_scenarios(
        settings,
        story.config.exam,
        story.frame(stage, settings),
        start=story.checkpoint("rejection"),
        reward_model=story.checkpoint("reward_model"),
        family=ChainFamily(story.config.corpus.exercises),
        courtesy=CourtesyFamily(settings.courtesy),
    )


def _distill(story: Story, stage: Stage) -> Checkpoint:
    settings = story.config.distill
    return distill(
        settings,
        story.config.exam,
        story.frame(stage, settings),
        base=story.checkpoint("student_base"),
        teacher=story.checkpoint("all_scenarios"),
        family=ChainFamily(story.config.corpus.exercises),
    )


_RUNNERS: dict[str, Callable[[Story, Stage], Any]] = {
    "pretrain": _pretrain,
    "zero": _reinforce(lambda config: config.zero),
    "cold_start": _cold_start,
    "reasoning_rl": _reinforce(lambda config: config.reasoning_rl),
    "rejection": _rejection,
    "reward_model": _reward_model,
    "all_scenarios": _all_scenarios,
    "student_base": _student_base,
    "distill": _distill,
    "control": _control,
}
