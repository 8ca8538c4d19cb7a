"""What pretraining begins from: a tokenizer, a network and a stream, each a function of the seed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from openbook.data.config import CorpusConfig
from openbook.data.corpus import Corpus
from openbook.model.checkpoint import Checkpoint
from openbook.r1 import pretrain
from openbook.r1.frame import Frame
from openbook.r1.pretrain import corpus_stream, new_model, train_tokenizer
from openbook.tasks.chain import ChainConfig
from openbook.tokens.template import prompt
from openbook.tokens.tokenizer import Tokenizer

CORPUS = Corpus(CorpusConfig(exercises=ChainConfig(min_operations=1, max_operations=2)), seed=4)


def test_the_tokenizer_learns_the_same_merges_from_the_same_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "NUM_TOKENIZER_DOCUMENTS", 200)
    tokenizer = train_tokenizer(CORPUS, 320)
    assert tokenizer.digest == train_tokenizer(CORPUS, 320).digest
    assert tokenizer.vocab_size <= 320
    text = prompt(CORPUS.document(7).question) + CORPUS.document(7).response
    assert tokenizer.decode(tokenizer.encode(text)).replace(" ", "") == text.replace(" ", "")
    assert len(tokenizer.encode(text)) < len(text.encode()) / 2, "merges were learned"


def test_a_new_network_depends_on_the_seed_alone(
    make_frame: Callable[..., Frame], checkpoint: Checkpoint
) -> None:
    torch.manual_seed(1)
    one = new_model(checkpoint.config, make_frame(seed=3)).state_dict()
    torch.manual_seed(2)
    again = new_model(checkpoint.config, make_frame(seed=3)).state_dict()
    other = new_model(checkpoint.config, make_frame(seed=4)).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_stream_is_addressed_by_position(tokenizer: Tokenizer) -> None:
    draw = corpus_stream(CORPUS, tokenizer)
    whole = draw(0, 8)
    assert [*draw(0, 3), *draw(3, 5)] == list(whole)
    for index, example in enumerate(whole):
        text = tokenizer.decode(example.token_ids)
        assert CORPUS.document(index).question in text
        assert example.token_ids[-1] == tokenizer.eos_id
        assert example.weights[0] == 0.0
        assert example.weights[-1] == 1.0
