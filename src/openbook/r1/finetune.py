"""Supervised training on conversations of one's own, in the form in which the model will meet them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openbook.data.batch import Example
from openbook.data.conversations import Conversation, read_conversations, to_examples
from openbook.data.loader import EpochStream
from openbook.data.split import hash_of, split
from openbook.errors import UserError
from openbook.model.checkpoint import Checkpoint
from openbook.r1.config import FinetuneConfig
from openbook.r1.exam import examine
from openbook.r1.frame import Frame, Work, stage_checkpoint
from openbook.r1.held_out import watch_held_out
from openbook.r1.learn import supervise
from openbook.tokens.renderer import Renderer
from openbook.tokens.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Lessons:
    """Conversations as examples of one model, shared out; `num_skipped` were too long."""

    tokenizer: Tokenizer
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    num_skipped: int


def open_lessons(path: Path, config: FinetuneConfig, base: Checkpoint) -> Lessons:
    """Read conversations and write them in the template of `base`. UserError naming file and line."""
    renderer = Renderer.of_folder(base.folder)
    longest = min(base.config.max_position_embeddings, config.train.tokens_per_batch)
    kept: list[tuple[Conversation, list[Example]]] = []
    conversations = read_conversations(path)
    for one in conversations:
        examples = to_examples(one, renderer.tokenizer, renderer.template)
        num_tokens = max(len(example.token_ids) for example in examples)
        if num_tokens <= longest:
            kept.append((one, examples))
        elif config.data.too_long == "refuse":
            raise one.refused(
                f"{num_tokens} tokens, and the model and a batch take {longest}",
                'shorten it, raise train.tokens_per_batch, or set data.too_long = "skip"',
            )
    if not kept:
        raise UserError(f"every conversation in {path} has more than {longest} tokens", "give shorter ones")
    hashes_N = np.array([hash_of(one.text) for one, _ in kept], dtype=np.uint64)
    train_N, held_out_N = split(hashes_N, config.data.held_out_share)
    return Lessons(
        tokenizer=renderer.tokenizer,
        train=tuple(example for number in train_N for example in kept[number][1]),
        held_out=tuple(example for number in held_out_N for example in kept[number][1]),
        num_skipped=len(conversations) - len(kept),
    )


def finetune(config: FinetuneConfig, frame: Frame, base: Checkpoint, lessons: Lessons) -> Checkpoint:
    """The base after these conversations; its chat template stays with it."""
    tokenizer = lessons.tokenizer

    def body(work: Work) -> Checkpoint:
        if lessons.num_skipped:
            frame.progress.note(f"{frame.stage}: left out {lessons.num_skipped} conversations as too long")
        work.keep_companions(base)
        watch = None
        if lessons.held_out:
            watch = watch_held_out(
                work, lessons.held_out, tokenizer, config.train, every=config.data.held_out_every
            )
        stream = EpochStream(lessons.train, seed=frame.seed)
        checkpoint = supervise(work, frame.learner(base), tokenizer, stream, config.train, watch=watch)
        if config.exam is not None:
            examine(work, checkpoint, config.exam)
        return checkpoint

    return stage_checkpoint(frame, body)
