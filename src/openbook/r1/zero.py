"""Stage: R1-Zero. Reinforcement on the base alone, with accuracy and format for a reward (DeepSeek-R1 2.2).

The same function makes every later stage that learns by rule-checked reward: what changes is the
checkpoint it starts from and the weights of the reward's parts.
"""

from __future__ import annotations

from dataclasses import replace

from openbook.model.checkpoint import Checkpoint
from openbook.r1.config import ReinforceConfig
from openbook.r1.exam import examine, probe
from openbook.r1.frame import Frame, Work, stage_checkpoint
from openbook.r1.judges import rule_judge, training_problems
from openbook.r1.learn import Arena, reinforce
from openbook.rl.curriculum import Curriculum
from openbook.rl.curriculum_config import CurriculumConfig
from openbook.rl.step import Environment
from openbook.tasks.mixed import MixedFamily
from openbook.tasks.problem import Family, Split
from openbook.tasks.registry import make_family
from openbook.tokens.renderer import Renderer


def reinforce_by_rule(
    config: ReinforceConfig, frame: Frame, start: Checkpoint, *, budget_device_microseconds: int = 0
) -> Checkpoint:
    """GRPO on verified problems from `start`; a device-time budget can end it before its last step."""
    renderer = Renderer.of_folder(start.folder, config.prompt)
    family = make_family(config.family)
    environment = Environment(
        draw=training_problems(family, frame.seed),
        scorer=rule_judge(family, config.rl.rewards),
        renderer=renderer,
        seed=frame.seed,
        curriculum=_curriculum(config.curriculum, family, frame.seed),
    )
    arena = Arena(
        config=config.rl, environment=environment, budget_device_microseconds=budget_device_microseconds
    )
    if not budget_device_microseconds:  # out of a budget for learning, a probe would take its share
        arena = replace(arena, probe=probe(replace(renderer, config=config.exam.prompt), config.exam))

    def body(work: Work) -> Checkpoint:
        checkpoint = reinforce(work, start, arena)
        examine(work, checkpoint, config.exam)
        return checkpoint

    return stage_checkpoint(frame, body)


def _curriculum(settings: CurriculumConfig | None, family: Family, seed: int) -> Curriculum | None:
    """What draws the training problems of a mixture level by level, where that is wanted."""
    if settings is None:
        return None
    assert isinstance(family, MixedFamily), "the config has seen to that"
    return Curriculum(
        settings,
        list(family.members),
        lambda level, index: family.problem_of(level, seed, Split.TRAIN, index),
        seed=seed,
    )
