"""One stage by itself, as `openbook pretrain|sft|rl|distill` asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openbook.config import dump
from openbook.data.loader import EpochStream
from openbook.errors import UserError
from openbook.model.checkpoint import Checkpoint
from openbook.r1.cold_start import learn_from
from openbook.r1.config import (
    DistillConfig,
    FinetuneConfig,
    PretrainConfig,
    ReinforceConfig,
    SelfTaughtConfig,
)
from openbook.r1.exam import examine
from openbook.r1.frame import Frame, Work, ancestor, stage_checkpoint, tokenizer_of
from openbook.r1.learn import supervise
from openbook.r1.pretrain import pretrain
from openbook.r1.traces import data_ancestor, read_documents, to_examples
from openbook.r1.zero import reinforce_by_rule
from openbook.runs.manifest import Ancestor
from openbook.runs.progress import Progress
from openbook.runs.stop import StopSignal
from openbook.tasks.registry import make_family


Body = Callable[[Frame], Checkpoint]
"""A stage whose inputs have been read: it computes, or goes on, inside a frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What was asked for: a verb, its settings, what it starts from, where it goes."""

    verb: str
    config: Any
    out: Path
    seed: int
    inputs: Mapping[str, Path]

    def checkpoint(self, role: str, option: str) -> Checkpoint:
        if role not in self.inputs:
            raise UserError(f"openbook {self.verb} needs a checkpoint", f"name it with {option} CHECKPOINT")
        return Checkpoint.open(self.inputs[role])


def open_stage(order: Order) -> Callable[[Progress], Path]:
    """Read and check what a stage is given -> what runs it, or goes on with it, to the folder of its checkpoint.

    Nothing is written before it runs. Raises UserError for anything missing or unfit.
    """
    body, parents = _OPENERS[order.verb](order), _parents(order)

    def run(progress: Progress) -> Path:
        with StopSignal() as stop:
            frame = Frame(
                folder=order.out,
                verb=order.verb,
                stage=order.verb,
                seed=order.seed,
                recipe={"settings": dump(order.config), "seed": order.seed},
                parents=parents,
                machine=order.config.machine,
                progress=progress,
                stop=stop,
            )
            return body(frame).folder

    return run


def _parents(order: Order) -> list[Ancestor]:
    roles = [role for role in ("base", "teacher") if role in order.inputs]
    parents = [ancestor(role, Checkpoint.open(order.inputs[role])) for role in roles]
    if "data" in order.inputs:
        parents.append(data_ancestor(order.inputs["data"]))
    return parents


def _pretrain(order: Order) -> Body:
    config: PretrainConfig = order.config
    return lambda frame: pretrain(config, frame)


def _reinforce(order: Order) -> Body:
    config: ReinforceConfig = order.config
    base = order.checkpoint("base", "--from")
    return lambda frame: reinforce_by_rule(config, frame, base)


def _finetune(order: Order) -> Body:
    config: FinetuneConfig = order.config
    base = order.checkpoint("base", "--from")
    if "data" not in order.inputs:
        raise UserError("openbook sft needs examples", "name a JSONL file with --data PATH")
    tokenizer = tokenizer_of(base)
    examples = to_examples(read_documents(order.inputs["data"]), tokenizer)

    def run(frame: Frame) -> Checkpoint:
        def body(work: Work) -> Checkpoint:
            stream = EpochStream(examples, seed=frame.seed)
            checkpoint = supervise(work, frame.learner(base), tokenizer, stream, config.train)
            examine(work, checkpoint, config.exam)
            return checkpoint

        return stage_checkpoint(frame, body)

    return run


def _distill(order: Order) -> Body:
    config: DistillConfig = order.config
    student = order.checkpoint("base", "--from")
    teacher = order.checkpoint("teacher", "--teacher")
    return lambda frame: learn_from(
        SelfTaughtConfig(sampling=config.sampling, train=config.train),
        config.exam,
        frame,
        student=student,
        teacher=teacher,
        family=make_family(config.family),
    )


_OPENERS: dict[str, Callable[[Order], Body]] = {
    "pretrain": _pretrain,
    "rl": _reinforce,
    "sft": _finetune,
    "distill": _distill,
}
