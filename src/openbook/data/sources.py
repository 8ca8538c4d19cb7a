"""Text of a person's own as addressable documents, of which only the places are held in memory.

    .txt       passages: paragraphs, gathered until there are `passage_bytes` of them
    .jsonl     a document a line, in one of its fields
    .parquet   a document a row, in one of its columns

All of it is read once, so that whatever does not fit is refused by file and line before a model is made.
What stays in memory is 32 bytes a document: where it lies, and a hash that decides whether it is held out.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from openbook.data.config import TextConfig
from openbook.data.files import (
    LINES,
    PARQUET,
    TEXT,
    check_unicode,
    find_files,
    open_parquet,
    read_lines,
    refuse,
)
from openbook.data.split import hash_of
from openbook.errors import UserError

MOST_PASSAGES = 8
"""A passage ends at a line end, blank or not, once it is so many times as long as asked for."""

Place = tuple[int, int]
"""Where a document lies in its file: first byte and number of bytes, or row group and row in it."""


class TextFile(Protocol):
    """One file as documents."""

    def scan(self) -> Iterator[tuple[Place, bytes]]:
        """Every document with its place, in order; blank ones are left out. UserError for what is none."""
        ...

    def read(self, place: Place) -> str:
        """The document at a place that `scan` gave."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSource:
    """Documents by number, in the order of files and places.

    `places_N3` holds file, and the two numbers of a Place; `hashes_N` what the split goes by.
    """

    files: tuple[TextFile, ...]
    places_N3: NDArray[np.int64]
    hashes_N: NDArray[np.uint64]

    @classmethod
    def open(cls, path: Path, config: TextConfig) -> TextSource:
        """Read all of it once. Raises UserError naming file and line of what is no document."""
        files = tuple(_file(one, config) for one in find_files(path, (TEXT, LINES, PARQUET)))
        places, hashes = array("q"), array("Q")
        for number, file in enumerate(files):
            for (first, second), text in file.scan():
                places.extend((number, first, second))
                hashes.append(hash_of(text))
        if not hashes:
            raise UserError(f"there is no text in {path}", "name a file with at least one document")
        return cls(
            files=files,
            places_N3=np.array(places, dtype=np.int64).reshape(-1, 3),
            hashes_N=np.array(hashes, dtype=np.uint64),
        )

    def __len__(self) -> int:
        return len(self.hashes_N)

    def text(self, number: int) -> str:
        file, first, second = self.places_N3[number].tolist()
        chosen: TextFile = self.files[file]
        return chosen.read((first, second))

    def shuffled(self, numbers_N: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
        """Document numbers in an order that the seed determines.

        A Parquet file is read a row group at a time: its groups are shuffled, and the rows inside each.
        """
        rng = np.random.default_rng([seed, len(numbers_N)])
        places_N3 = self.places_N3[numbers_N]
        # A first byte is met once in a file, a row group many times: so this numbers what is read as one.
        groups, group_of_N = np.unique(places_N3[:, 0] << 44 | places_N3[:, 1], return_inverse=True)
        rank_N = rng.permutation(len(groups))[group_of_N]
        return numbers_N[np.lexsort((rng.permutation(len(numbers_N)), rank_N))]


def _file(path: Path, config: TextConfig) -> TextFile:
    match path.suffix:
        case ".txt":
            return PlainText(path, config.passage_bytes)
        case ".jsonl":
            return JsonLines(path, config.field)
        case _:
            return ParquetColumn(path, config.field)


class PlainText:
    """A text file in passages; a paragraph far longer than one is cut at a line end, a line anywhere."""

    def __init__(self, path: Path, passage_bytes: int) -> None:
        self._path, self._passage_bytes = path, passage_bytes

    def scan(self) -> Iterator[tuple[Place, bytes]]:
        start, passage, line_number = 0, bytearray(), 1
        for line in self._lines():
            is_full = len(passage) >= self._passage_bytes
            if passage and ((is_full and not line.strip()) or len(passage) >= self._limit):
                yield from self._document(start, bytes(passage), line_number)
                start, line_number = start + len(passage), line_number + passage.count(b"\n")
                passage.clear()
            passage += line
        yield from self._document(start, bytes(passage), line_number)

    @property
    def _limit(self) -> int:
        return MOST_PASSAGES * self._passage_bytes

    def _lines(self) -> Iterator[bytes]:
        """Lines with their ends; what is longer than a passage may be comes in pieces of whole characters."""
        with self._path.open("rb") as stream:
            while line := stream.readline(self._limit):
                while not line.endswith(b"\n") and (byte := stream.read(1)):
                    if byte[0] & 0xC0 != 0x80:  # no continuation: the next character begins here
                        stream.seek(-1, 1)
                        break
                    line += byte
                yield line

    def _document(self, start: int, text: bytes, line_number: int) -> Iterator[tuple[Place, bytes]]:
        if not text.strip():
            return
        try:
            text.decode()
        except UnicodeDecodeError as error:
            number = line_number + text.count(b"\n", 0, error.start)
            refuse(self._path, number, f"no UTF-8 ({error.reason})", "save the file as UTF-8")
        yield (start, len(text)), text.strip(b"\r\n")

    def read(self, place: Place) -> str:
        start, num_bytes = place
        with self._path.open("rb") as stream:
            stream.seek(start)
            return stream.read(num_bytes).decode().strip("\r\n")


class JsonLines:
    """A file with a JSON object a line, the document in one of its fields."""

    def __init__(self, path: Path, field: str) -> None:
        self._path, self._field = path, field

    def scan(self) -> Iterator[tuple[Place, bytes]]:
        expected = f'each line is {{"{self._field}": "..."}}; another field is named by corpus.field'
        for line in read_lines(self._path, expected):
            text = line.value.get(self._field)
            if not isinstance(text, str):
                what = f"there is no text under {self._field!r}"
                keys = ", ".join(map(repr, line.value))
                refuse(self._path, line.number, what, f"{expected}; this one has: {keys or 'nothing'}")
            if text.strip():
                yield (line.start, 0), check_unicode(self._path, line.number, text)

    def read(self, place: Place) -> str:
        with self._path.open("rb") as stream:
            stream.seek(place[0])
            return str(json.loads(stream.readline())[self._field])


class ParquetColumn:
    """A Parquet file with a document a row; the row group that was read last is kept."""

    def __init__(self, path: Path, field: str) -> None:
        self._path, self._field = path, field
        self._opened = open_parquet(path, [field])
        self._group, self._texts = -1, cast(Any, None)

    def scan(self) -> Iterator[tuple[Place, bytes]]:
        number = 0
        for group in range(self._opened.num_row_groups):
            for row, value in enumerate(self._column(group)):
                number += 1
                text = value.as_py()
                if not isinstance(text, str):
                    what = f"{type(text).__name__} where text belongs in column {self._field!r}"
                    refuse(self._path, number, what, "name a column of text by corpus.field", unit="row")
                if text.strip():
                    yield (group, row), check_unicode(self._path, number, text, unit="row")

    def read(self, place: Place) -> str:
        group, row = place
        return str(self._column(group)[row].as_py())

    def _column(self, group: int) -> Any:
        if group != self._group:
            table = self._opened.read_row_group(group, columns=[self._field])
            self._group, self._texts = group, table.column(self._field)
        return self._texts
