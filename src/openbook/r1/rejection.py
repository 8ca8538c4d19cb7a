"""Stage: rejection sampling and supervised training, from the base again (DeepSeek-R1 2.3.3).

The reasoning policy is sampled on fresh problems and only right, readable answers are kept; replies
that need no reasoning are added, as V3's own data were. Training restarts from the base: what
reinforcement left behind besides good answers stays behind.
"""

from __future__ import annotations

import random

from openbook.config import digest
from openbook.data.corpus import Document
from openbook.data.loader import EpochStream
from openbook.model.checkpoint import Checkpoint
from openbook.r1.config import ExamConfig, SelfTaughtConfig
from openbook.r1.exam import examine
from openbook.r1.frame import Frame, Work, stage_checkpoint
from openbook.r1.learn import supervise
from openbook.r1.traces import sample_traces, to_examples
from openbook.tasks.courtesy import CourtesyFamily
from openbook.tasks.problem import Family, Split
from openbook.tokens.renderer import Renderer
from openbook.tokens.template import response

GENERAL_PER_TRACE = 1 / 3
"""Replies that need no reasoning, for each kept trace: 200K beside 600K in the paper."""


def rejection(
    config: SelfTaughtConfig,
    exam: ExamConfig,
    frame: Frame,
    *,
    base: Checkpoint,
    teacher: Checkpoint,
    family: Family,
    courtesy: CourtesyFamily,
) -> Checkpoint:
    """The base after the kept answers of the reasoning policy and a third as many general replies."""
    renderer = Renderer.of_folder(base.folder)

    def body(work: Work) -> Checkpoint:
        documents = sample_traces(work, teacher, family, config.sampling)
        work.card["general_replies"] = f"{digest(courtesy.config)}, seed {frame.seed}"
        documents += general_replies(courtesy, frame.seed, round(GENERAL_PER_TRACE * len(documents)))
        stream = EpochStream(to_examples(documents, renderer), seed=frame.seed)
        checkpoint = supervise(work, frame.learner(base), renderer.tokenizer, stream, config.train)
        examine(work, checkpoint, exam)
        return checkpoint

    return stage_checkpoint(frame, body)


def general_replies(courtesy: CourtesyFamily, seed: int, count: int) -> list[Document]:
    """Replies in any tone, without thinking: the paper gives simple requests no chain of thought."""
    documents = []
    for index in range(count):
        problem = courtesy.problem(seed, Split.TRAIN, index)
        replies = courtesy.replies(problem, random.Random(f"general/{seed}/{index}"))
        tone = sorted(replies)[index % len(replies)]
        documents.append(Document(question=problem.question, response=response("", replies[tone])))
    return documents
