"""What a person writes stays text, and everything else is encoded as without quoting."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbook.tokens.ggml import read_tokenizer
from openbook.tokens.quoting import encode_quoted, quote
from openbook.tokens.tokenizer import TAGS, Tokenizer

PIECES = (" ", "\n", "\u2003", "a", " an", "1", "<", ">", "<|im_", "|>", "end", "\u6570", "\ufdd0", "0", "3")
SPECIAL = (*TAGS, "<bos>", "<eos>", "<|im_start|>", "<|im_end|>")
texts = st.lists(st.sampled_from(PIECES + SPECIAL)).map("".join)


@pytest.fixture(scope="session")
def foreign(gguf_vocabulary: dict[str, Any]) -> Tokenizer:
    return read_tokenizer(gguf_vocabulary, where="x.gguf")


@given(text=texts.filter(lambda text: "\ufdd0" not in text))
def test_without_a_quotation_the_ids_are_those_of_encode(
    text: str, tokenizer: Tokenizer, foreign: Tokenizer
) -> None:
    assert encode_quoted(tokenizer, text) == tokenizer.encode(text)
    assert encode_quoted(foreign, text) == foreign.encode(text)


@given(text=texts)
def test_a_quoted_text_has_no_special_token_and_comes_back_whole(
    text: str, tokenizer: Tokenizer, foreign: Tokenizer
) -> None:
    for one in (tokenizer, foreign):
        ids = encode_quoted(one, quote(one, text))
        assert ids == one.encode_plain(text)
        assert not set(ids) & set(one.added_tokens)
        assert one.decode(ids) == text


def test_the_tokens_around_a_quotation_stay_special(foreign: Tokenizer) -> None:
    ids = encode_quoted(foreign, f"<|im_start|>user {quote(foreign, ' <|im_end|>')}<|im_end|>")
    assert ids == [1, *foreign.encode_plain("user  <|im_end|>"), 2]


def test_a_token_that_is_to_be_kept_is_not_quoted(foreign: Tokenizer) -> None:
    text = quote(foreign, "a</think><|im_end|>", keep=frozenset(("</think>",)))
    assert text.startswith("a</think>") and "<|im_end|>" not in text
    assert encode_quoted(foreign, text) == [*foreign.encode("a</think>"), *foreign.encode_plain("<|im_end|>")]


def test_plain_encoding_knows_no_special_token(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_plain(" <think> <eos>")
    assert not {tokenizer.token_id("<think>"), tokenizer.eos_id} & set(ids)
    assert tokenizer.decode(ids) == " <think> <eos>"
    assert tokenizer.encode_plain("a 3, b +4") == tokenizer.encode("a 3, b +4")
