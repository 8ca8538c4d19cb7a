"""Stage: distillation. A small dense base learns R1's checked answers, without RL (DeepSeek-R1 2.4)."""

from __future__ import annotations

from openbook.model.checkpoint import Checkpoint
from openbook.r1.cold_start import learn_from
from openbook.r1.config import ExamConfig, SelfTaughtConfig
from openbook.r1.frame import Frame
from openbook.tasks.problem import Family


def distill(
    config: SelfTaughtConfig,
    exam: ExamConfig,
    frame: Frame,
    *,
    base: Checkpoint,
    teacher: Checkpoint,
    family: Family,
) -> Checkpoint:
    """The student after the teacher's answers. The device time of sampling them is the stage's own."""
    return learn_from(config, exam, frame, student=base, teacher=teacher, family=family)
