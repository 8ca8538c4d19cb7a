"""Stage: pretraining on text of one's own, measured in bits a byte on documents that are held out.

documents -> train and held out, by a hash -> tokenizer -> rows on disk -> the one training loop
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openbook.data.config import TextConfig
from openbook.data.loader import EpochStream
from openbook.data.rows import RowPlan, TokenRows, write_rows
from openbook.data.sources import TextSource
from openbook.data.split import split
from openbook.model.checkpoint import Checkpoint
from openbook.r1.config import PretrainConfig
from openbook.r1.exam import examine
from openbook.r1.fits import Load, require_fit
from openbook.r1.frame import Frame, Work, stage_checkpoint
from openbook.r1.held_out import watch_held_out
from openbook.r1.learn import supervise
from openbook.r1.pretrain import base_exam, new_model
from openbook.tokens.tokenizer import Tokenizer

TOKENIZER_BYTES = 32 << 20
"""Text that the tokenizer learns its merges from, at most."""
TEXT_FOLDER = "text"
"""Inside the run: the rows and the tokenizer that made them, for as long as the stage is at work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A source whose documents are shared out: `train_N` to read, `held_out_N` to measure on."""

    source: TextSource
    train_N: NDArray[np.int64]
    held_out_N: NDArray[np.int64]

    def texts(self, numbers_N: NDArray[np.int64]) -> Iterator[str]:
        return (self.source.text(number) for number in numbers_N.tolist())


def open_text(path: Path, config: TextConfig) -> Text:
    """Read text once and share it out. Raises UserError naming file and line of what does not fit."""
    source = TextSource.open(path, config)
    train_N, held_out_N = split(source.hashes_N, config.held_out_share)
    return Text(source=source, train_N=train_N, held_out_N=held_out_N)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """What the stage reads; `held_out` is None where nothing is."""

    tokenizer: Tokenizer
    train: TokenRows
    held_out: TokenRows | None


def pretrain_on_text(
    config: PretrainConfig, frame: Frame, text: Text, tokenizer: Tokenizer | None = None
) -> Checkpoint:
    """A base from text. A given tokenizer is used as it is; without one, one is trained on the text."""
    settings = config.corpus
    assert isinstance(settings, TextConfig), "written exercises are the matter of pretrain"
    require_fit(Load(model=config.model, tokens_per_batch=config.train.tokens_per_batch), frame.device)

    def body(work: Work) -> Checkpoint:
        rows = make_rows(work, config, settings, text, tokenizer)
        model = new_model(config.model, frame).to(frame.device)
        watch = None
        if rows.held_out is not None:
            watch = watch_held_out(
                work,
                rows.held_out,
                rows.tokenizer,
                config.train,
                every=settings.held_out_every,
                num_bytes=rows.held_out.counts.num_bytes,
            )
        stream = EpochStream(rows.train, seed=frame.seed)
        checkpoint = supervise(work, model, rows.tokenizer, stream, config.train, watch=watch)
        if config.exam is not None:
            examine(work, checkpoint, base_exam(config.exam))
        shutil.rmtree(work.run.folder / TEXT_FOLDER)
        return checkpoint

    return stage_checkpoint(frame, body)


def make_rows(
    work: Work, config: PretrainConfig, settings: TextConfig, text: Text, tokenizer: Tokenizer | None
) -> Rows:
    """The tokenizer and the rows, or those that an earlier attempt of this run has left complete."""
    frame, folder = work.frame, work.run.folder / TEXT_FOLDER
    order_N = text.source.shuffled(text.train_N, seed=frame.seed)
    places = {"train": folder / "train", "held_out": folder / "held_out"}
    if all(map(TokenRows.are_in, places.values())):
        known = tokenizer or Tokenizer.load(folder)
    else:
        known = tokenizer or train_tokenizer(text.texts(order_N), config.vocab_size)
        known.save(folder)
        needed = config.train.num_steps * config.train.examples_per_step
        plans = {
            "train": (order_N, RowPlan(sequence_length=settings.sequence_length, max_rows=needed)),
            "held_out": (
                text.held_out_N,
                RowPlan(sequence_length=settings.sequence_length, max_bytes=settings.held_out_bytes),
            ),
        }
        for name, (numbers_N, plan) in plans.items():
            write_rows(places[name], text.texts(numbers_N), known, plan, check=frame.stop.check)
    train = TokenRows(places["train"], known)
    # A byte of EOS there is none: what it costs to predict is no part of the bits a byte.
    held_out = TokenRows(places["held_out"], known, eos_weight=0.0) if len(text.held_out_N) else None
    _tell(work, config, text, train)
    return Rows(tokenizer=known, train=train, held_out=held_out)


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> Tokenizer:
    """A tokenizer that has read the first `TOKENIZER_BYTES` of some texts."""

    def first() -> Iterator[str]:
        num_bytes = 0
        for text in texts:
            yield text
            num_bytes += len(text.encode())
            if num_bytes >= TOKENIZER_BYTES:
                return

    return Tokenizer.train(first(), vocab_size=vocab_size)


def _tell(work: Work, config: PretrainConfig, text: Text, train: TokenRows) -> None:
    read = config.train.num_steps * config.train.examples_per_step
    shared = f"{len(text.train_N)} documents, and {len(text.held_out_N)} held out"
    work.card["text"] = shared
    work.card["rows"] = f"{len(train)}, of {train.counts.num_bytes} bytes; read {read / len(train):.1f} times"
    work.frame.progress.note(f"{work.frame.stage}: {shared}; {work.card['rows']}")
