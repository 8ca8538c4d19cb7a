from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbook.data.rows import RowPlan, TokenRows, cut, write_rows
from openbook.tokens.tokenizer import Tokenizer

TEXTS = ["a 3, b +4. b?", "c", "<think> is a word here </think> and <eos> too", "b +4 = seven, " * 9]


def rows_of(folder: Path, tokenizer: Tokenizer, length: int, **enough: int) -> TokenRows:
    write_rows(folder, iter(TEXTS), tokenizer, RowPlan(sequence_length=length, **enough))
    return TokenRows(folder, tokenizer)


@given(num_tokens=st.integers(2, 200), length=st.integers(2, 50))
def test_every_token_but_the_first_is_predicted_once(num_tokens: int, length: int) -> None:
    rows = list(cut(num_tokens, length))
    targets = [at for start, end in rows for at in range(start + 1, end)]
    assert targets == list(range(1, num_tokens))
    assert all(2 <= end - start <= length for start, end in rows)


def test_a_document_is_a_row_between_bos_and_eos_and_no_row_holds_two(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    rows = rows_of(tmp_path / "rows", tokenizer, 500)
    assert len(rows) == len(TEXTS)
    for row, text in zip(rows, TEXTS, strict=True):
        assert row.token_ids == (tokenizer.bos_id, *tokenizer.encode_plain(text), tokenizer.eos_id)
        assert set(row.weights) == {1.0}


def test_what_a_text_spells_of_special_tokens_is_letters(tmp_path: Path, tokenizer: Tokenizer) -> None:
    row = rows_of(tmp_path / "rows", tokenizer, 500)[2]
    assert row.token_ids.count(tokenizer.eos_id) == 1
    assert tokenizer.token_id("<think>") not in row.token_ids
    assert "<think> is a word here" in tokenizer.decode(row.token_ids)


def test_a_long_document_goes_on_in_rows_that_share_one_token(tmp_path: Path, tokenizer: Tokenizer) -> None:
    whole = rows_of(tmp_path / "whole", tokenizer, 500)[3].token_ids
    cut_up = rows_of(tmp_path / "cut", tokenizer, 7)
    num_rows = math.ceil((len(whole) - 1) / 6)
    rows = [row.token_ids for row in cut_up][-num_rows:]
    joined = rows[0] + tuple(token for row in rows[1:] for token in row[1:])
    assert joined == whole
    assert all(one[-1] == other[0] for one, other in pairwise(rows))


def test_no_more_is_encoded_than_is_read(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = rows_of(tmp_path / "rows", tokenizer, 500, max_rows=2)
    assert (len(rows), rows.counts.num_documents) == (2, 2)
    assert rows.counts.num_bytes == sum(len(text) for text in TEXTS[:2])
    assert rows.counts.num_tokens == sum(len(row.token_ids) for row in rows)
    assert len(rows_of(tmp_path / "rows", tokenizer, 500, max_bytes=14)) == 2


def test_rows_that_a_kill_left_unfinished_do_not_count(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = tmp_path / "rows"

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(folder, TEXTS, tokenizer, RowPlan(sequence_length=9), check=stop)
    assert folder.is_dir() and not TokenRows.are_in(folder)
    rows_of(folder, tokenizer, 9)
    assert TokenRows.are_in(folder)


def test_the_prediction_of_eos_may_count_otherwise(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows_of(tmp_path / "rows", tokenizer, 500)
    measured = TokenRows(tmp_path / "rows", tokenizer, eos_weight=0.0)
    assert measured[1].weights == (1.0,) * (len(measured[1].weights) - 1) + (0.0,)
