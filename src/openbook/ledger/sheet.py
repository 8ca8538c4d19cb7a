"""Sheets: CSV files read cell by cell, so that a mistake is named by file, line and column."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TypeVar

from openbook.errors import UserError, nearest

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A CSV file: its columns and its rows, in order."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[SheetRow, ...]

    def require(self, columns: Iterable[str], layout: str) -> None:
        """Raises UserError when a column of the layout is missing."""
        missing = [column for column in columns if column not in self.columns]
        if missing:
            raise UserError(f"{self.name} line 1 has no column {missing[0]!r}", layout)

    def refuse_unknown(self, known: Iterable[str]) -> None:
        """Raises UserError with the nearest name when a column is none of those known."""
        for column in self.columns:
            if column not in known:
                raise UserError(
                    f"{self.name} line 1, column {column!r} is unknown", nearest(column, list(known))
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetRow:
    """One row: the line of the file it began on, its cells, and a digest that no other row of it has."""

    sheet: str
    line: int
    cells: Mapping[str, str]
    digest: str

    def wrong(self, column: str, what: str, mend: str = "") -> UserError:
        """The error that names this row and a column of it."""
        return UserError(f"{self.sheet} line {self.line}, column {column}: {what}", mend)

    def text(self, column: str, default: str | None = None) -> str:
        """A cell; `default` where it is empty or missing. Raises UserError without one."""
        value = self.cells.get(column, "").strip()
        if value or default is not None:
            return value or (default or "")
        raise self.wrong(column, "is empty", "every row needs one")

    def verbatim(self, column: str) -> str:
        """A cell as it stands, blanks and line ends included."""
        return self.cells.get(column, "")

    def read(self, column: str, convert: Callable[[str], Value]) -> Value:
        """A cell converted; what the conversion refuses is refused here with its place."""
        text = self.text(column)
        try:
            return convert(text)
        except UserError as error:
            raise self.wrong(column, error.what, error.mend) from error
        except (ValueError, InvalidOperation):
            raise self.wrong(column, f"{text!r} cannot be read") from None

    def number(self, column: str) -> Decimal:
        """A finite number."""
        value = self.read(column, lambda text: Decimal(text.replace(",", "").replace("_", "")))
        if not value.is_finite():
            raise self.wrong(column, f"{value} is no number")
        return value

    def day(self, column: str) -> date:
        """A day as YYYY-MM-DD, or the day in UTC of a time."""
        return self.read(column, read_day)

    def time(self, column: str) -> datetime:
        """A time; one without a zone is in UTC."""
        return self.read(column, read_time)


def read_sheet(path: Path) -> Sheet:
    """A CSV file with its columns in the first line. Raises UserError for one that is none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            columns = tuple(name.strip() for name in next(reader, ()))
            rows = tuple(_rows(path.name, columns, reader))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})", "name a CSV file in UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path} line {reader.line_num} is no CSV ({error})", "mend its quotes") from error
    if not columns:
        raise UserError(f"{path} is empty", "its first line names the columns")
    for name, count in Counter(columns).items():
        if count > 1:
            raise UserError(f"{path.name} line 1 names the column {name!r} twice", "keep one of them")
    return Sheet(name=path.name, columns=columns, rows=rows)


def _rows(name: str, columns: Sequence[str], reader: Iterator[list[str]]) -> Iterator[SheetRow]:
    seen: Counter[bytes] = Counter()
    line = 2
    for cells in reader:
        if any(cell.strip() for cell in cells):
            if len(cells) != len(columns):
                raise UserError(
                    f"{name} line {line} has {len(cells)} cells for {len(columns)} columns",
                    "quote a cell that holds a comma",
                )
            named = dict(zip(columns, cells, strict=True))
            content = hashlib.sha256(
                "\x1f".join(
                    f"{key}={value.strip()}" for key, value in sorted(named.items()) if value.strip()
                ).encode()
            )
            # Two rows that say the same are two entries: the second is told from the first by its number.
            key = content.digest()
            seen[key] += 1
            content.update(str(seen[key]).encode())
            yield SheetRow(sheet=name, line=line, cells=named, digest=content.hexdigest()[:32])
        line = getattr(reader, "line_num", line) + 1


def read_day(text: str) -> date:
    """A day as YYYY-MM-DD, or the day in UTC of a time."""
    if len(text) == 10:
        return date.fromisoformat(text)
    return read_time(text).astimezone(UTC).date()


def read_time(text: str) -> datetime:
    """A time in ISO 8601; one without a zone is in UTC."""
    value = datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=UTC)
