"""Text of a person's own: cut into documents, addressable, shuffled, and refused by file and line."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openbook.data.config import TextConfig
from openbook.data.files import MAX_LINE_BYTES
from openbook.data.sources import TextSource
from openbook.data.split import hash_of
from openbook.errors import UserError

SMALL = TextConfig(passage_bytes=40)


def all_texts(source: TextSource) -> list[str]:
    return [source.text(number) for number in range(len(source))]


def write_lines(path: Path, *values: Any) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def write_parquet(path: Path, columns: dict[str, Any], rows_per_group: int = 3) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    parquet.write_table(pyarrow.table(columns), path, row_group_size=rows_per_group)
    return path


def test_a_text_file_is_cut_at_blank_lines_and_nothing_is_lost(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {number} has\ntwo lines.\n\n" for number in range(20)]
    file = tmp_path / "a.txt"
    file.write_text("".join(paragraphs))
    texts = all_texts(TextSource.open(file, SMALL))
    assert texts == ["".join(paragraphs[at : at + 2]).strip() for at in range(0, 20, 2)]


def test_a_text_without_blank_lines_is_cut_at_line_ends_and_at_whole_characters(tmp_path: Path) -> None:
    lines = "".join(f"line {number}\n" for number in range(200))
    (tmp_path / "lines.txt").write_text(lines)
    texts = all_texts(TextSource.open(tmp_path / "lines.txt", SMALL))
    assert "\n".join(texts) + "\n" == lines
    assert all(320 <= len(text) + 1 < 340 for text in texts[:-1])
    one_line = "\u00e4\u20ac" * 1000
    (tmp_path / "one.txt").write_text(one_line)
    pieces = all_texts(TextSource.open(tmp_path / "one.txt", SMALL))
    assert "".join(pieces) == one_line
    assert len(pieces) > 10


def test_files_of_all_kinds_below_a_folder_are_one_source(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.txt").write_text("plain\n")
    write_lines(tmp_path / "a.jsonl", {"text": "first"}, {"text": "  "}, {"text": "second", "more": 1})
    write_parquet(tmp_path / "c.parquet", {"text": ["p", "", "q", "r", "s"], "n": [1, 2, 3, 4, 5]}, 2)
    (tmp_path / ".hidden.txt").write_text("not seen")
    (tmp_path / "notes.md").write_text("not read")
    source = TextSource.open(tmp_path, TextConfig())
    assert all_texts(source) == ["first", "second", "plain", "p", "q", "r", "s"]
    assert source.text(3) == "p", "back again, to an earlier row group"
    assert source.hashes_N.tolist() == [hash_of(text.encode()) for text in all_texts(source)]


def test_the_field_and_the_column_have_a_name_that_can_be_given(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "a.jsonl", {"body": "x"})
    column = write_parquet(tmp_path / "a.parquet", {"body": ["y"]})
    for file, text in ((lines, "x"), (column, "y")):
        assert all_texts(TextSource.open(file, TextConfig(field="body"))) == [text]


def test_the_order_is_a_permutation_that_the_seed_determines(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", *({"text": str(number)} for number in range(50)))
    source = TextSource.open(tmp_path, TextConfig())
    numbers_N = np.arange(10, 50)
    orders = [source.shuffled(numbers_N, seed=seed).tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert all(sorted(order) == numbers_N.tolist() != order for order in orders)


def test_a_parquet_file_is_read_a_row_group_at_a_time(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", {"text": [str(number) for number in range(30)]}, 5)
    source = TextSource.open(tmp_path, TextConfig())
    order = source.shuffled(np.arange(30), seed=3)
    groups = [number // 5 for number in order]
    assert sorted(order.tolist()) == list(range(30))
    assert sum(one != other for one, other in pairwise(groups)) == 5
    assert order.tolist() != sorted(order.tolist())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\nhello\n', r"a\.jsonl, line 2: no JSON"),
        ('{"text": "a"}\n\n{"txt": "b"}\n', r"line 3: there is no text under 'text'.*this one has: 'txt'"),
        ('{"text": 3}\n', "line 1: there is no text under 'text'"),
        ("[1]\n", "line 1: list where an object belongs"),
        ('{"text": "\\ud800"}\n', r"line 1: \\ud800 is half a character"),
        ('\n{"text": ""}\n', "there is no text in"),
    ],
)
def test_a_line_that_does_not_fit_is_named_with_the_mend(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(content)
    with pytest.raises(UserError, match=message) as refusal:
        TextSource.open(file, TextConfig())
    assert refusal.value.mend


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b" " * (MAX_LINE_BYTES + 1))
    with pytest.raises(UserError, match=r"line 1: the line is longer than 16 MiB"):
        TextSource.open(file, TextConfig())


def test_text_that_is_no_utf8_is_named_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"good line\n" * 30 + b"b\xe9d line\n")
    with pytest.raises(UserError, match=r"a\.txt, line 31: no UTF-8"):
        TextSource.open(file, SMALL)


def test_a_column_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", {"text": ["x", None, "y"], "n": [1, 2, 3]})
    with pytest.raises(UserError, match=r"a\.parquet has no column 'body'; it has: text, n"):
        TextSource.open(file, TextConfig(field="body"))
    with pytest.raises(UserError, match=r"row 1: int where text belongs in column 'n'"):
        TextSource.open(file, TextConfig(field="n"))
    with pytest.raises(UserError, match=r"row 2: NoneType where text belongs"):
        TextSource.open(file, TextConfig())
    file.write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="is no Parquet file"):
        TextSource.open(file, TextConfig())


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'openbook\[parquet\]'"):
        TextSource.open(tmp_path, TextConfig())


def test_what_is_no_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no \*\.txt, \*\.jsonl, \*\.parquet in"):
        TextSource.open(tmp_path, TextConfig())
    (tmp_path / "a.csv").write_text("a,b")
    with pytest.raises(UserError, match=r"a\.csv is of no known kind"):
        TextSource.open(tmp_path / "a.csv", TextConfig())
