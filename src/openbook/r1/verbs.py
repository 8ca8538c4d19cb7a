"""One stage by itself, as `openbook pretrain|sft|rl|distill` asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openbook.config import dump
from openbook.data.config import TextConfig
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
from openbook.r1.finetune import finetune, open_lessons
from openbook.r1.frame import Frame, ancestor
from openbook.r1.pretrain import pretrain
from openbook.r1.pretrain_text import open_text, pretrain_on_text
from openbook.r1.traces import data_ancestor, data_path
from openbook.r1.zero import reinforce_by_rule
from openbook.runs.manifest import Ancestor
from openbook.runs.progress import Progress
from openbook.runs.stop import StopSignal
from openbook.tasks.jsonl import JsonlConfig, JsonlFamily
from openbook.tasks.registry import make_family
from openbook.tokens.tokenizer import Tokenizer

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
    limit: Callable[[], str] | None = None
    """What may stop the work: see StopSignal."""

    def checkpoint(self, role: str, option: str) -> Checkpoint:
        if role not in self.inputs:
            raise UserError(f"openbook {self.verb} needs a checkpoint", f"name it with {option} CHECKPOINT")
        return Checkpoint.open(self.inputs[role])


def open_stage(order: Order) -> Callable[[Progress], Path]:
    """Read and check what a stage is given -> what runs it, or goes on with it -> its checkpoint's folder.

    Nothing is written before it runs. Raises UserError for anything missing or unfit.
    """
    body, parents = _OPENERS[order.verb](order), _parents(order)

    def run(progress: Progress) -> Path:
        with StopSignal(order.limit) as stop:
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
    family = getattr(order.config, "family", None)
    if isinstance(family, JsonlConfig):
        parents += _parents_of_problems(family, is_data_known="data" in order.inputs)
    if "tokenizer" in order.inputs:
        path = order.inputs["tokenizer"]
        parents.append(Ancestor(role="tokenizer", name=path.name, digest=_load_tokenizer(path).digest))
    return parents


def _parents_of_problems(config: JsonlConfig, *, is_data_known: bool) -> list[Ancestor]:
    """A person's own problems, and the file of the function that judges them."""
    parents = [] if is_data_known else [data_ancestor(config.path)]
    family = make_family(config)
    if isinstance(family, JsonlFamily) and family.reward_digest:
        parents.append(Ancestor(role="reward", name=config.reward, digest=family.reward_digest))
    return parents


def _pretrain(order: Order) -> Body:
    config: PretrainConfig = order.config
    tokenizer = _load_tokenizer(order.inputs["tokenizer"]) if "tokenizer" in order.inputs else None
    if tokenizer is not None and tokenizer.vocab_size > config.model.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} tokens and the model only {config.model.vocab_size}",
            f"--set model.vocab_size={tokenizer.vocab_size}",
        )
    path = order.inputs.get("data")
    if isinstance(config.corpus, TextConfig):
        if path is None:
            raise UserError("openbook pretrain needs text for this recipe", "name it with --data PATH")
        text = open_text(path, config.corpus)
        return lambda frame: pretrain_on_text(config, frame, text, tokenizer)
    if path is not None:
        raise UserError(
            "this recipe writes its own corpus and reads no --data",
            '`openbook pretrain own` reads it, as does any recipe with corpus.kind = "text"',
        )
    return lambda frame: pretrain(config, frame, tokenizer)


def _load_tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.load_file(path) if path.is_file() else Tokenizer.load(path)


def _reinforce(order: Order) -> Body:
    config: ReinforceConfig = order.config
    for family in (config.family, config.exam.family, config.exam.harder):
        if isinstance(family, JsonlConfig):
            make_family(family)  # read and checked now; who asks later gets the same
    base = order.checkpoint("base", "--from")
    return lambda frame: reinforce_by_rule(config, frame, base)


def _finetune(order: Order) -> Body:
    config: FinetuneConfig = order.config
    base = order.checkpoint("base", "--from")
    if "data" not in order.inputs:
        raise UserError("openbook sft needs examples", "name conversations with --data PATH")
    lessons = open_lessons(data_path(order.inputs["data"]), config, base)
    return lambda frame: finetune(config, frame, base, lessons)


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
