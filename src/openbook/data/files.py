"""Files of a person's own data: found, read line by line, refused by file and line where they do not fit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from openbook.errors import UserError

MAX_LINE_BYTES = 16 << 20
"""The longest line of JSON that is read: what is longer is no list of lines."""

TEXT, LINES, PARQUET = ".txt", ".jsonl", ".parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of a file: its number from 1, the byte at which it begins, and the JSON object on it."""

    number: int
    start: int
    value: dict[str, Any]


def find_files(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """The file itself, or all files with such names below a folder, in the order of their paths.

    Raises UserError if there are none, or one cannot be read.
    """
    known = ", ".join(f"*{suffix}" for suffix in suffixes)
    if path.is_file():
        files = [path]
        if path.suffix not in suffixes:
            raise UserError(f"{path} is of no known kind", f"give it a name like {known}")
    else:
        files = sorted(file for file in path.rglob("*") if file.suffix in suffixes and _is_seen(file, path))
        if not files:
            raise UserError(f"there is no {known} in {path}", "name a file or a folder that holds some")
    for file in files:
        if not os.access(file, os.R_OK):
            raise UserError(f"{file} cannot be read", "change its permissions or leave it out")
    return files


def _is_seen(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.is_file() and not hidden


def read_lines(file: Path, expected: str) -> Iterator[Line]:
    """The objects of a JSON lines file, blank lines left out. `expected` says what a line should look like.

    Raises UserError naming file and line for one that is no JSON object.
    """
    start = 0
    with file.open("rb") as stream:
        for number in range(1, 1 << 62):
            line = stream.readline(MAX_LINE_BYTES)
            if not line:
                return
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                refuse(file, number, f"the line is longer than {MAX_LINE_BYTES >> 20} MiB", expected)
            if line.strip():
                yield Line(number=number, start=start, value=_object(file, number, line, expected))
            start += len(line)


def _object(file: Path, number: int, line: bytes, expected: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        refuse(file, number, f"no JSON ({error})", expected)
    if not isinstance(value, dict):
        refuse(file, number, f"{type(value).__name__} where an object belongs", expected)
    return value


def refuse(file: Path, number: int, what: str, mend: str, *, unit: str = "line") -> NoReturn:
    """UserError naming the place. A Parquet file has rows where others have lines."""
    raise UserError(f"{file}, {unit} {number}: {what}", mend)


def check_unicode(file: Path, number: int, text: str, *, unit: str = "line") -> bytes:
    """The text in UTF-8. UserError for half a surrogate pair, which JSON can spell and no text can hold."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        refuse(file, number, f"{half} is half a character", "write the whole character", unit=unit)


def open_parquet(file: Path, columns: Sequence[str]) -> Any:
    """A `pyarrow.parquet.ParquetFile` that has these columns. Raises UserError, also without the library."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            f"{file}: reading Parquet takes the `pyarrow` library",
            "`pip install 'openbook[parquet]'` brings it",
        ) from None
    try:
        opened = pyarrow.parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{file} is no Parquet file ({error})", "restore it") from error
    present = opened.schema_arrow.names
    missing = [column for column in columns if column not in present]
    if missing:
        raise UserError(f"{file} has no column {missing[0]!r}", f"it has: {', '.join(present)}")
    return opened
