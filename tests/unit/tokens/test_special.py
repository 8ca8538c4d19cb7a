"""Tokenizers from elsewhere: the files of a public folder tell which tokens begin, end and fill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from openbook.errors import UserError
from openbook.tokens.tokenizer import Tokenizer

NAMES = ["<s>", "</s>", "<fill>", "<|eot_id|>", "<tool>"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a byte-level tokenizer: ids 0 to 4 are the added tokens, `<tool>` not a special one."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*NAMES, *letters])}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([AddedToken(name, special=name != "<tool>") for name in NAMES])
    backend.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def tell(folder: Path, **files: dict[str, Any]) -> Tokenizer:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return Tokenizer.load(folder)


def test_tokens_are_told_by_name(folder: Path) -> None:
    told = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "<fill>"}
    tokenizer = tell(folder, tokenizer_config=told)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, 2)
    assert tokenizer.stop_ids == (1, 3), "a special token that ends a turn in public families stops as well"
    assert not tokenizer.has_tags
    assert tokenizer.decode([0, *tokenizer.encode("a <tool>"), 1, 3, 2]) == "a <tool>"


def test_tokens_are_told_by_number(folder: Path) -> None:
    tokenizer = tell(
        folder,
        config={"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None},
        generation_config={"eos_token_id": [3, 1, 2]},
    )
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, 1)
    assert tokenizer.stop_ids == (1, 3, 2)


def test_the_name_is_preferred_and_every_end_stops(folder: Path) -> None:
    tokenizer = tell(folder, special_tokens_map={"eos_token": "<fill>"}, config={"eos_token_id": 1})
    assert tokenizer.eos_id == tokenizer.bos_id == tokenizer.pad_id == 2
    assert tokenizer.stop_ids == (2, 1, 3)


def test_an_end_of_turn_is_enough(folder: Path) -> None:
    assert tell(folder, config={}).stop_ids == (3,)


def test_whether_a_text_begins_with_bos_is_asked_of_the_tokenizer_itself(folder: Path) -> None:
    told = {"bos_token": "<s>", "eos_token": "</s>"}
    assert not tell(folder, tokenizer_config=told).adds_bos
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.adds_bos
    assert tokenizer.encode("") == [] == tokenizer.encode_plain("")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"eos_token": "<gone>"}, "'<gone>' is not in the vocabulary"),
        ({"eos_token": "</s>", "pad_token": "<gone>"}, "'<gone>' is not in the vocabulary"),
    ],
)
def test_a_name_that_is_no_token_is_told(folder: Path, content: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        tell(folder, tokenizer_config=content)


def test_a_number_that_is_no_token_is_told(folder: Path) -> None:
    with pytest.raises(UserError, match="token 9999 is not in the vocabulary"):
        tell(folder, config={"eos_token_id": 9999})


def test_a_damaged_file_beside_the_tokenizer_is_told(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer_config\.json cannot be read"):
        Tokenizer.load(folder)
