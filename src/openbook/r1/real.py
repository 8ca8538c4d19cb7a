"""The story of a language model from elsewhere: reward alone, then a cold start and reasoning RL.

    adopt --> zero (reward alone; the last number of a reply is its answer)
      |         |
      |    (its right replies, thinking and answer put into tags)
      |         |
      +--> cold_start --> reasoning_rl (reward for the answer in its tags)

Each stage is examined as it was trained, and adopt both as zero is: so what reinforcement added is the
difference of two scores with the same prompt and the same reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openbook.engine.speaker import read_texts
from openbook.model.checkpoint import Checkpoint
from openbook.model.packaged import find_gguf, open_gguf
from openbook.quant.store import load_weights
from openbook.r1.cold_start import learn_from
from openbook.r1.config import ReinforceConfig
from openbook.r1.exam import examine
from openbook.r1.frame import Frame, Work, stage_checkpoint
from openbook.r1.real_config import RealStoryConfig
from openbook.r1.telling import Plot, Stage, Story
from openbook.r1.traces import Lesson
from openbook.r1.zero import reinforce_by_rule
from openbook.rl.config import RLConfig
from openbook.tasks.registry import make_family
from openbook.tokens.chat import ChatTemplate
from openbook.tokens.renderer import PromptConfig

if TYPE_CHECKING:
    from openbook.model.gguf import GgufCheckpoint

Real = Story[RealStoryConfig]

STAGES = (
    Stage(name="adopt", verb="pretrain", inputs={}),
    Stage(name="zero", verb="rl", inputs={"base": "adopt"}),
    Stage(name="cold_start", verb="sft", inputs={"base": "adopt", "teacher": "zero"}),
    Stage(name="reasoning_rl", verb="rl", inputs={"base": "cold_start"}),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def open_base(config: RealStoryConfig) -> Checkpoint | GgufCheckpoint:
    """What the story begins with, its weights not read yet. Raises UserError."""
    path = Path(config.base)
    file = find_gguf(path)
    return Checkpoint.open(path) if file is None else open_gguf(file)


def adopt(config: RealStoryConfig, frame: Frame) -> Checkpoint:
    """The base as a checkpoint of ours, every weight plain, and how good it is before anything is learned."""
    base = open_base(config)

    def body(work: Work) -> Checkpoint:
        tokenizer, template = read_texts(base)
        model = load_weights(base, frame.device, dequantized=True)
        if isinstance(template, ChatTemplate):
            work.beside.append(template.save(work.run.folder))
        checkpoint = work.save(model, tokenizer, step=0)
        examine(work, checkpoint, replace(config.exam, prompt=config.zero_prompt))
        return checkpoint

    return stage_checkpoint(frame, body)


def _adopt(story: Real, stage: Stage) -> Checkpoint:
    return adopt(story.config, story.frame(stage, story.config))


def _cold_start(story: Real, stage: Stage) -> Checkpoint:
    config = story.config
    return learn_from(
        config.cold_start,
        replace(config.exam, prompt=config.r1_prompt),
        story.frame(stage, config.cold_start),
        student=story.checkpoint("adopt"),
        teacher=story.checkpoint("zero"),
        family=make_family(config.family),
        lesson=Lesson(asked=config.zero_prompt, taught=config.r1_prompt),
    )


def _reinforce(
    rl_of: Callable[[RealStoryConfig], RLConfig], prompt_of: Callable[[RealStoryConfig], PromptConfig]
) -> Callable[[Real, Stage], Checkpoint]:
    def run(story: Real, stage: Stage) -> Checkpoint:
        config, prompt = story.config, prompt_of(story.config)
        settings = ReinforceConfig(
            machine=config.machine,
            family=config.family,
            prompt=prompt,
            rl=rl_of(config),
            exam=replace(config.exam, prompt=prompt),
        )
        return reinforce_by_rule(
            settings, story.frame(stage, settings), story.checkpoint(stage.inputs["base"])
        )

    return run


_RUNNERS: dict[str, Callable[[Real, Stage], Any]] = {
    "adopt": _adopt,
    "zero": _reinforce(lambda config: config.zero, lambda config: config.zero_prompt),
    "cold_start": _cold_start,
    "reasoning_rl": _reinforce(lambda config: config.reasoning_rl, lambda config: config.r1_prompt),
}
PLOT = Plot(stages=STAGES, runners=_RUNNERS)
