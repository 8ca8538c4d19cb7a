"""The tokenizer of a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openbook.errors import UserError
from openbook.tokens.ggml import read_tokenizer
from openbook.tokens.tokenizer import Tokenizer

GGML = "tokenizer.ggml"


def read(vocabulary: dict[str, Any], **changed: Any) -> Tokenizer:
    """The tokenizer after some values were changed, None taking one away."""
    merged = vocabulary | {f"{GGML}.{name}": value for name, value in changed.items()}
    return read_tokenizer({name: one for name, one in merged.items() if one is not None}, where="x.gguf")


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.decode([one]) for one in tokenizer.encode(text)]


def test_special_tokens_have_the_ids_of_the_file(gguf_vocabulary: dict[str, Any]) -> None:
    tokenizer = read(gguf_vocabulary)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 2, 2)
    assert tokenizer.stop_ids == (2, 0)  # <|im_end|>, and the end of a text
    assert not tokenizer.adds_bos and not tokenizer.has_tags
    assert tokenizer.vocab_size == len(gguf_vocabulary[f"{GGML}.tokens"])
    assert tokenizer.encode("<|im_start|>a<|im_end|></think>") == [1, tokenizer.token_id("a"), 2, 3]


@pytest.mark.parametrize("text", ["an ant an a", "\u03a9\u6570 \U0001f914", " \n\t ", "", "\x00", "1234 12"])
def test_any_text_comes_back_whole(text: str, gguf_vocabulary: dict[str, Any]) -> None:
    tokenizer = read(gguf_vocabulary)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_what_ends_and_fills_vanishes_and_a_thinking_tag_stays(gguf_vocabulary: dict[str, Any]) -> None:
    tokenizer = read(gguf_vocabulary)
    assert tokenizer.decode(tokenizer.encode("a</think> an<|im_end|><|endoftext|>")) == "a</think> an"


def test_merges_are_applied_within_words(gguf_vocabulary: dict[str, Any]) -> None:
    assert words(read(gguf_vocabulary), "an ant an") == ["a", "n", " an", "t", " an"]


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("gpt-2", ["x", " 123", "45", " !", "\n\n"]),
        ("smollm", ["x", " ", "1", "2", "3", "4", "5", " !", "\n\n"]),
        ("qwen2", ["x", " ", "1", "2", "3", "4", "5", " !\n\n"]),
        ("deepseek-r1-qwen", ["x", " ", "1", "2", "3", "4", "5", " !\n\n"]),
        ("llama-bpe", ["x", " ", "123", "45", " !\n\n"]),
    ],
)
def test_each_splitting_is_the_one_of_its_family(
    pre: str, expected: list[str], gguf_vocabulary: dict[str, Any]
) -> None:
    extra = ["12", "123", "45", "\u0120123", "\u0120!", "\u010a\u010a", "\u0120!\u010a\u010a"]
    pairs = ["1 2", "12 3", "4 5", "\u0120 123", "\u0120 !", "\u010a \u010a", "\u0120! \u010a\u010a"]
    tokenizer = read(
        gguf_vocabulary,
        pre=pre,
        tokens=gguf_vocabulary[f"{GGML}.tokens"] + extra,
        token_type=None,
        merges=gguf_vocabulary[f"{GGML}.merges"] + pairs,
        eos_token_id=2,
    )
    assert words(tokenizer, "x 12345 !\n\n") == expected


def test_a_word_that_is_a_token_is_taken_whole_where_merges_are_ignored(
    gguf_vocabulary: dict[str, Any],
) -> None:
    tokens = [*gguf_vocabulary[f"{GGML}.tokens"], "why"]
    kinds = [*gguf_vocabulary[f"{GGML}.token_type"], 1]
    assert words(read(gguf_vocabulary, tokens=tokens, token_type=kinds), "why") == ["w", "h", "y"]
    assert words(read(gguf_vocabulary, tokens=tokens, token_type=kinds, pre="llama-bpe"), "why") == ["why"]


def test_a_composed_and_a_decomposed_letter_are_one_where_the_family_composes(
    gguf_vocabulary: dict[str, Any],
) -> None:
    for pre, is_one in (("qwen2", True), ("smollm", False)):
        tokenizer = read(gguf_vocabulary, pre=pre)
        assert (tokenizer.encode("e\u0301") == tokenizer.encode("\u00e9")) is is_one


def test_the_file_or_its_family_says_whether_a_text_begins_with_bos(
    gguf_vocabulary: dict[str, Any], tmp_path: Path
) -> None:
    assert read(gguf_vocabulary, add_bos_token=True).adds_bos
    assert not read(gguf_vocabulary, add_bos_token=None).adds_bos
    assert read(gguf_vocabulary, add_bos_token=None, pre="llama-bpe").adds_bos
    assert not read(gguf_vocabulary, add_bos_token=True, bos_token_id=None).adds_bos


def test_a_saved_tokenizer_is_the_same_beside_its_ids(
    gguf_vocabulary: dict[str, Any], tmp_path: Path
) -> None:
    tokenizer = read(gguf_vocabulary, add_bos_token=True)
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text('{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}')
    again = Tokenizer.load(tmp_path)
    assert again.digest == tokenizer.digest
    assert (again.stop_ids, again.bos_id, again.adds_bos) == ((2, 0), 1, True)
    text = "<|im_start|> an 1234</think>"
    assert again.encode(text) == tokenizer.encode(text)
    assert again.encode_plain(text) == tokenizer.encode_plain(text)


def test_what_is_absent_falls_back_to_what_ends_a_text(gguf_vocabulary: dict[str, Any]) -> None:
    tokenizer = read(gguf_vocabulary, bos_token_id=None, eos_token_id=None, padding_token_id=None)
    assert tokenizer.stop_ids == (0, 2) and tokenizer.eos_id == 0
    assert (tokenizer.bos_id, tokenizer.pad_id) == (0, 0)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"model": "llama"}, "of kind 'llama'; only byte-level BPE"),
        ({"model": None}, "of kind None"),
        ({"pre": "smolm"}, "unknown tokenizer.ggml.pre 'smolm'; did you mean 'smollm'"),
        ({"pre": None}, "unknown tokenizer.ggml.pre None"),
        ({"tokens": None}, "tokenizer.ggml.tokens is missing"),
        ({"tokens": [1, 2]}, "no list of texts"),
        ({"merges": ["nothing here"]}, "merges do not fit the tokens"),
        ({"merges": ["\u0120"]}, "merges do not fit the tokens"),
        ({"token_type": [1, 1]}, "token_type has 2 entries"),
        ({"eos_token_id": 5000}, "special token 5000 is not in the vocabulary"),
        ({"eos_token_id": "2"}, "eos_token_id = '2' has to be of type int"),
        ({"eos_token_id": None, "token_type": None}, "no token '<eos>', nor another that ends a text"),
    ],
)
def test_a_tokenizer_that_we_cannot_follow_is_named(
    changed: dict[str, Any], told: str, gguf_vocabulary: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=told) as error:
        read(gguf_vocabulary, **changed)
    assert error.value.what.startswith("x.gguf: ")


def test_a_token_that_is_there_twice_is_refused(gguf_vocabulary: dict[str, Any]) -> None:
    tokens = gguf_vocabulary[f"{GGML}.tokens"]
    with pytest.raises(UserError, match="holds a token twice"):
        read(gguf_vocabulary, tokens=[*tokens[:-1], tokens[0]])
