"""Stage: pretraining. A tokenizer, a corpus and an empty network become a base (DeepSeek-V3 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from openbook.config import digest
from openbook.data.batch import Example
from openbook.data.config import CorpusConfig
from openbook.data.corpus import Corpus, to_example
from openbook.model.checkpoint import Checkpoint
from openbook.model.config import ModelConfig
from openbook.model.init import initialize
from openbook.model.transformer import Transformer
from openbook.r1.config import ExamConfig, PretrainConfig
from openbook.r1.exam import examine
from openbook.r1.fits import Load, require_fit
from openbook.r1.frame import Frame, Work, stage_checkpoint
from openbook.r1.learn import supervise
from openbook.tokens.template import prompt
from openbook.tokens.tokenizer import Tokenizer

NUM_TOKENIZER_DOCUMENTS = 4000
"""Documents of the corpus that the tokenizer learns its merges from."""


def pretrain(config: PretrainConfig, frame: Frame, tokenizer: Tokenizer | None = None) -> Checkpoint:
    """A base model from nothing. A given tokenizer is used as it is; without one, one is trained."""
    settings = config.corpus
    assert isinstance(settings, CorpusConfig), "text is the matter of pretrain_text"
    require_fit(Load(model=config.model, tokens_per_batch=config.train.tokens_per_batch), frame.device)

    def body(work: Work) -> Checkpoint:
        corpus = Corpus(settings, seed=frame.seed)
        work.card["corpus"] = f"{digest(settings)}, seed {frame.seed}"
        known = tokenizer or train_tokenizer(corpus, config.vocab_size)
        model = new_model(config.model, frame).to(frame.device)
        checkpoint = supervise(work, model, known, corpus_stream(corpus, known), config.train)
        if config.exam is not None:
            examine(work, checkpoint, base_exam(config.exam))
        return checkpoint

    return stage_checkpoint(frame, body)


def base_exam(exam: ExamConfig) -> ExamConfig:
    """A base is sampled more often: pass@16 says what it can do, pass@1 what it does."""
    k = exam.base_samples
    return replace(exam, sampling=replace(exam.sampling, num_samples=k, k=k))


def train_tokenizer(corpus: Corpus, vocab_size: int) -> Tokenizer:
    """A tokenizer that has read the first documents of the corpus."""
    documents = (corpus.document(index) for index in range(NUM_TOKENIZER_DOCUMENTS))
    return Tokenizer.train((prompt(one.question) + one.response for one in documents), vocab_size=vocab_size)


def new_model(config: ModelConfig, frame: Frame) -> Transformer:
    """A network with initial weights drawn from the stage's seed, on the CPU so that devices agree."""
    model = Transformer(config)
    initialize(model, config, torch.Generator().manual_seed(frame.seed))
    return model


def corpus_stream(corpus: Corpus, tokenizer: Tokenizer) -> Callable[[int, int], Sequence[Example]]:
    """The corpus as examples by position: the loader's whole state is one number."""
    return lambda position, count: [
        to_example(tokenizer, corpus.document(index)) for index in range(position, position + count)
    ]
