"""The pipeline: which stage starts from which, in the order of the paper's Figure 2.

    base ---------------------+----------------+----------------+
     |                        |                |                |
    zero --(its answers)--> cold_start       (again)      reward_model
                              |                |                |
                         reasoning_rl --> rejection --> all_scenarios = R1
                                                                |
    student_base -----------------------------------------> distill          (and control, by RL alone)

How the stages are told one after the other is `telling.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openbook.model.checkpoint import Checkpoint
from openbook.model.config import ModelConfig
from openbook.r1.all_scenarios import all_scenarios
from openbook.r1.cold_start import cold_start
from openbook.r1.config import PretrainConfig, ReinforceConfig, StoryConfig
from openbook.r1.control import control
from openbook.r1.distill import distill
from openbook.r1.frame import tokenizer_of
from openbook.r1.pretrain import pretrain
from openbook.r1.rejection import rejection
from openbook.r1.reward_model import train_reward_model
from openbook.r1.telling import Plot, Stage, Story
from openbook.r1.zero import reinforce_by_rule
from openbook.rl.config import RLConfig
from openbook.tasks.chain import ChainFamily
from openbook.tasks.courtesy import CourtesyFamily
from openbook.train.config import TrainConfig

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
Nano = Story[StoryConfig]


def _pretrain(story: Nano, stage: Stage) -> Checkpoint:
    settings = pretrain_settings(story.config, story.config.model, story.config.pretrain)
    return pretrain(settings, story.frame(stage, settings))


def _student_base(story: Nano, stage: Stage) -> Checkpoint:
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


def _reinforce(rl_of: Callable[[StoryConfig], RLConfig]) -> Callable[[Nano, Stage], Checkpoint]:
    def run(story: Nano, stage: Stage) -> Checkpoint:
        settings = reinforce_settings(story.config, rl_of(story.config))
        return reinforce_by_rule(
            settings, story.frame(stage, settings), story.checkpoint(stage.inputs["base"])
        )

    return run


def _control(story: Nano, stage: Stage) -> Checkpoint:
    settings = reinforce_settings(story.config, story.config.control)
    base, distilled = story.checkpoint("student_base"), story.folder_of("distill")
    return control(settings, story.frame(stage, settings), base=base, distilled=distilled)


def reinforce_settings(config: StoryConfig, rl: RLConfig) -> ReinforceConfig:
    """A reinforcement stage on the exercises that the corpus writes."""
    return ReinforceConfig(machine=config.machine, family=config.corpus.exercises, rl=rl, exam=config.exam)


def _cold_start(story: Nano, stage: Stage) -> Checkpoint:
    settings = story.config.cold_start
    return cold_start(
        settings,
        story.config.exam,
        story.frame(stage, settings),
        base=story.checkpoint("pretrain"),
        zero=story.checkpoint("zero"),
        family=ChainFamily(story.config.corpus.exercises),
    )


def _rejection(story: Nano, stage: Stage) -> Checkpoint:
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


def _reward_model(story: Nano, stage: Stage) -> Checkpoint:
    scenarios = story.config.all_scenarios
    frame = story.frame(stage, scenarios.reward_model)
    courtesy = CourtesyFamily(scenarios.courtesy)
    return train_reward_model(
        scenarios.reward_model, frame, start=story.checkpoint("rejection"), courtesy=courtesy
    )


def _all_scenarios(story: Nano, stage: Stage) -> Checkpoint:
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


def _distill(story: Nano, stage: Stage) -> Checkpoint:
    settings = story.config.distill
    return distill(
        settings,
        story.config.exam,
        story.frame(stage, settings),
        base=story.checkpoint("student_base"),
        teacher=story.checkpoint("all_scenarios"),
        family=ChainFamily(story.config.corpus.exercises),
    )


_RUNNERS: dict[str, Callable[[Nano, Stage], Any]] = {
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
PLOT = Plot(stages=STAGES, runners=_RUNNERS)
