"""Stage: cold start. The base, fine-tuned on a small set of zero's own readable answers (DeepSeek-R1 2.3.1).

DeepSeek had zero's outputs rewritten by people and by V3; here a filter takes their place: correct,
well formed, and as consistent in language as zero ever was.
"""

from __future__ import annotations

from openbook.data.loader import EpochStream
from openbook.model.checkpoint import Checkpoint
from openbook.r1.config import ExamConfig, SelfTaughtConfig
from openbook.r1.exam import examine
from openbook.r1.frame import Frame, Work, stage_checkpoint
from openbook.r1.learn import supervise
from openbook.r1.traces import Lesson, sample_traces, to_examples
from openbook.tasks.problem import Family
from openbook.tokens.renderer import Renderer


def cold_start(
    config: SelfTaughtConfig,
    exam: ExamConfig,
    frame: Frame,
    *,
    base: Checkpoint,
    zero: Checkpoint,
    family: Family,
) -> Checkpoint:
    """The base after reading the best of zero."""
    return learn_from(config, exam, frame, student=base, teacher=zero, family=family)


def learn_from(
    config: SelfTaughtConfig,
    exam: ExamConfig,
    frame: Frame,
    *,
    student: Checkpoint,
    teacher: Checkpoint,
    family: Family,
    lesson: Lesson | None = None,
) -> Checkpoint:
    """Sample the teacher, keep what is right and readable, and train the student on it."""
    renderer = Renderer.of_folder(student.folder, None if lesson is None else lesson.taught)

    def body(work: Work) -> Checkpoint:
        documents = sample_traces(work, teacher, family, config.sampling, lesson)
        stream = EpochStream(to_examples(documents, renderer), seed=frame.seed)
        work.keep_companions(student)
        checkpoint = supervise(work, frame.learner(student), renderer.tokenizer, stream, config.train)
        examine(work, checkpoint, exam)
        return checkpoint

    return stage_checkpoint(frame, body)
