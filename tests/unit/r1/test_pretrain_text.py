"""Pretraining on text: what is held out, what the rows are made of, and what is measured."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from openbook.data.batch import Example
from openbook.data.config import TextConfig
from openbook.model.checkpoint import Checkpoint
from openbook.model.config import GQAConfig, ModelConfig
from openbook.r1 import pretrain_text
from openbook.r1.config import PretrainConfig
from openbook.r1.frame import Frame, Work
from openbook.r1.pretrain_text import make_rows, open_text, pretrain_on_text, train_tokenizer
from openbook.runs.run import Run
from openbook.tokens.tokenizer import Tokenizer
from openbook.train.config import OptimConfig, TrainConfig
from openbook.train.held_out import held_out_loss

TEXT = TextConfig(sequence_length=24, held_out_share=0.2, held_out_every=4)
CONFIG = PretrainConfig(
    vocab_size=300,
    model=ModelConfig(
        vocab_size=320,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        attention=GQAConfig(num_key_value_heads=1, head_dim=16, qk_norm=True),
        max_position_embeddings=64,
    ),
    corpus=TEXT,
    train=TrainConfig(
        num_steps=10,
        examples_per_step=8,
        tokens_per_batch=256,
        optim=OptimConfig(muon_learning_rate=0.02, adamw_learning_rate=0.01),
    ),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Sixty documents with a pattern that a model can learn."""
    file = tmp_path / "data.jsonl"
    words = ["red", "green", "blue", "white", "black", "grey"]
    documents = [
        f"number {number}: {' '.join(words[number % 6 :] + words[: number % 6])}" for number in range(60)
    ]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return file


def test_no_document_is_both_read_and_measured(data: Path, work: Work) -> None:
    text = open_text(data, TEXT)
    rows = make_rows(work, CONFIG, TEXT, text, None)
    assert rows.held_out is not None
    decoded = [
        {rows.tokenizer.decode(row.token_ids) for row in part if row.token_ids[0] == rows.tokenizer.bos_id}
        for part in (rows.train, rows.held_out)
    ]
    assert len(decoded[0]) == len(text.train_N) and len(decoded[1]) == len(text.held_out_N) > 3
    assert not decoded[0] & decoded[1]
    assert rows.held_out.counts.num_bytes == sum(len(one) for one in text.texts(text.held_out_N))


def test_what_is_held_out_does_not_depend_on_the_seed_and_the_rest_is_shuffled_by_it(
    data: Path, make_frame: Callable[..., Frame], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    text, parts = open_text(data, TEXT), []
    enough = replace(CONFIG, train=replace(CONFIG.train, num_steps=100))
    for seed in (0, 1):
        frame = make_frame(folder=tmp_path / str(seed), seed=seed)
        run = Run.create(frame.folder, verb="pretrain", stage="pretrain", recipe=frame.recipe, seed=seed)
        rows = make_rows(Work(frame=frame, run=run), enough, TEXT, text, tokenizer)
        assert rows.held_out is not None
        parts.append(([row.token_ids for row in rows.train], [row.token_ids for row in rows.held_out]))
    assert parts[0][1] == parts[1][1]
    assert parts[0][0] != parts[1][0] and sorted(parts[0][0]) == sorted(parts[1][0])


def test_a_stage_learns_measures_and_leaves_no_rows_behind(
    data: Path, make_frame: Callable[..., Frame], one_thread: None
) -> None:
    frame = make_frame(verb="pretrain", stage="pretrain")
    text = open_text(data, TEXT)
    checkpoint = pretrain_on_text(CONFIG, frame, text)
    run = Run.open(frame.folder)
    rows = {row["step"]: row["held_out_bits_per_byte"] for row in run.metrics() if "held_out_loss" in row}
    assert list(rows) == [4, 8, 10]
    assert rows[10] < rows[4] < 8
    measured = json.loads((frame.folder / "held_out.json").read_text())
    assert measured["bits_per_byte"] == rows[10]
    assert measured["perplexity"] == pytest.approx(math.exp(measured["loss"]))
    assert not (frame.folder / "text").exists()

    # The same number from the checkpoint alone, document by document.
    tokenizer = Tokenizer.load(checkpoint.folder)
    assert tokenizer.vocab_size <= 300
    held_out = list(text.texts(text.held_out_N))
    examples = []
    for one in held_out:
        ids = (tokenizer.bos_id, *tokenizer.encode_plain(one))
        assert len(ids) < TEXT.sequence_length, "one row a document"
        examples.append(Example(token_ids=ids, weights=(1.0,) * len(ids)))
    loss = held_out_loss(checkpoint.load(), examples, tokens_per_batch=256, pad_id=tokenizer.pad_id)
    assert loss.bits_per_byte(sum(map(len, held_out))) == pytest.approx(rows[10], rel=1e-4)


def test_a_given_tokenizer_is_kept_and_nothing_may_be_held_out(
    data: Path, make_frame: Callable[..., Frame], tokenizer: Tokenizer
) -> None:
    corpus = replace(TEXT, held_out_share=0.0)
    frame = make_frame(verb="pretrain", stage="pretrain")
    settings = replace(CONFIG, corpus=corpus, train=replace(CONFIG.train, num_steps=1))
    checkpoint = pretrain_on_text(settings, frame, open_text(data, corpus), tokenizer)
    assert Tokenizer.load(checkpoint.folder).digest == tokenizer.digest
    assert not (frame.folder / "held_out.json").exists()


def test_a_killed_stage_takes_up_the_rows_it_left(
    data: Path, make_frame: Callable[..., Frame], one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = open_text(data, TEXT)
    whole = pretrain_on_text(CONFIG, make_frame(), text)
    frame = make_frame(folder=whole.folder.parents[1] / "again")

    def killed(*_: object, **__: object) -> Checkpoint:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(pretrain_text, "supervise", killed)
        with pytest.raises(RuntimeError, match="killed"):
            pretrain_on_text(CONFIG, frame, text)
    with monkeypatch.context() as patch:  # what is complete is not made again
        patch.setattr(pretrain_text, "train_tokenizer", killed)
        patch.setattr(pretrain_text, "write_rows", killed)
        again = pretrain_on_text(CONFIG, frame, text)
    one, other = whole.load().state_dict(), again.load().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_tokenizer_reads_no_more_than_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain_text, "TOKENIZER_BYTES", 10)
    stream = iter(["abcd"] * 5)
    train_tokenizer(stream, 300)
    assert len(list(stream)) == 2
