from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from openbook.errors import UserError
from openbook.tokens.tokenizer import BOS, EOS, PAD, TAGS, Tokenizer

SPECIAL = (PAD, BOS, EOS, *TAGS)


def tokens_of(tokenizer: Tokenizer, text: str) -> list[str]:
    """Each token of a text, decoded alone."""
    return [tokenizer.decode([one]) for one in tokenizer.encode(text)]


@given(text=st.text())
def test_any_text_comes_back_whole(tokenizer: Tokenizer, text: str) -> None:
    assume(not any(token in text for token in SPECIAL))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_text_that_the_merges_never_saw_comes_back_whole(tokenizer: Tokenizer) -> None:
    for text in ("Ωμέγα, 数学 and 🤔", "\n\n\ttabs  and   runs of spaces ", "", " ", "\x00\x7f"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_is_one_token_and_takes_in_the_space_before_it(tokenizer: Tokenizer, tag: str) -> None:
    assert tokenizer.encode(tag) == [tokenizer.token_id(tag)]
    assert tokenizer.encode(f" \n {tag}") == [tokenizer.token_id(tag)]
    assert tokenizer.decode(tokenizer.encode(f"a {tag} b")) == f"a{tag} b"


def test_digits_are_split_one_by_one_though_the_training_text_repeats_a_number() -> None:
    tokenizer = Tokenizer.train(["1234 is 1234 and 1234"] * 50, vocab_size=320)
    assert tokens_of(tokenizer, "1234 is 1234") == ["1", "2", "3", "4", " is", " 1", "2", "3", "4"]


@given(text=st.text(alphabet="0123456789 +-*.ab"))
def test_no_token_holds_more_than_one_digit(tokenizer: Tokenizer, text: str) -> None:
    for token in tokens_of(tokenizer, text):
        assert sum(letter.isdigit() for letter in token) <= 1


def test_encoding_adds_no_special_token_and_decoding_hides_the_invisible_ones(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a 3")
    assert not {tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id} & set(ids)
    dressed = [tokenizer.bos_id, *ids, tokenizer.eos_id, tokenizer.pad_id, tokenizer.pad_id]
    assert tokenizer.decode(dressed) == "a 3"
    assert tokenizer.decode([tokenizer.bos_id, tokenizer.token_id("<think>")]) == "<think>"


def test_many_texts_encode_as_one_by_one(tokenizer: Tokenizer) -> None:
    texts = ["a 3, b +4. b?", "", " <think> b </think> <answer> 7 </answer>"]
    assert tokenizer.encode_many(texts) == [tokenizer.encode(text) for text in texts]


def test_the_vocabulary_has_the_size_that_was_asked_for_and_special_ids_are_distinct() -> None:
    tokenizer = Tokenizer.train(["the cat sat on the mat, the cat sat on the hat"] * 9, vocab_size=275)
    assert tokenizer.vocab_size == 275
    assert len({tokenizer.token_id(token) for token in SPECIAL}) == 7
    assert tokens_of(tokenizer, " the cat") == [" the", " cat"]


def test_a_saved_tokenizer_loads_with_the_same_digest_and_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "on the way"
    assert tokenizer.save(folder) == folder / "tokenizer.json"
    again = Tokenizer.load(folder)
    assert again.digest == tokenizer.digest
    text = "c = 12 <think> siete </think>"
    assert again.encode(text) == tokenizer.encode(text)
    assert (again.pad_id, again.bos_id, again.eos_id) == (
        tokenizer.pad_id,
        tokenizer.bos_id,
        tokenizer.eos_id,
    )


def test_the_digest_tells_tokenizers_apart_and_training_is_repeatable() -> None:
    texts = ["the cat sat on the mat"] * 5
    first = Tokenizer.train(texts, vocab_size=270)
    assert first.digest == Tokenizer.train(texts, vocab_size=270).digest
    assert first.digest != Tokenizer.train(texts, vocab_size=271).digest
    assert first.digest.startswith("sha256:") and len(first.digest) == 7 + 64


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"model": 3}', "half"])
def test_a_damaged_file_is_one_clear_line(tokenizer: Tokenizer, tmp_path: Path, damage: str) -> None:
    path = tokenizer.save(tmp_path)
    path.write_text(path.read_text()[: path.stat().st_size // 2] if damage == "half" else damage)
    with pytest.raises(UserError, match="is not a tokenizer"):
        Tokenizer.load(tmp_path)


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_without_our_tokens_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tokenizer.save(tmp_path)
    data = json.loads(path.read_text())
    data["added_tokens"] = [one for one in data["added_tokens"] if one["content"] != EOS]
    data["model"]["vocab"] = {"end" if k == EOS else k: v for k, v in data["model"]["vocab"].items()}
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match="no token '<eos>'"):
        Tokenizer.load(tmp_path)


def test_a_vocabulary_below_the_bytes_and_special_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="at least 263") as error:
        Tokenizer.train(["a"], vocab_size=262)
    assert "vocab_size is 262" in error.value.what
    assert Tokenizer.train(["a"], vocab_size=263).vocab_size == 263
