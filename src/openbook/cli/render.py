"""Results as text: aligned tables and pairs that read well without colour, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence


def print_json(value: object) -> None:
    """One JSON document on stdout. Values JSON does not know (paths, decimals, times) as strings."""
    json.dump(value, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Iterable[object]], *, right: Iterable[str] = ()
) -> None:
    """Rows under their columns; the columns named in `right` hold numbers and are set to the right."""
    print("\n".join(table_lines(columns, rows, right=right)))


def table_lines(
    columns: Sequence[str], rows: Iterable[Iterable[object]], *, right: Iterable[str] = ()
) -> list[str]:
    """The lines of a table: head, rule, rows."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[at]) for line in [list(columns), *cells]) for at in range(len(columns))]
    to_right = [column in set(right) for column in columns]

    def line(row: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, to_right, strict=True)
        )
        return "  ".join(aligned).rstrip()

    return [line(columns), "  ".join("-" * width for width in widths), *(line(row) for row in cells)]


def print_pairs(pairs: Mapping[str, object]) -> None:
    """`name   value` lines."""
    width = max(len(name) for name in pairs)
    for name, value in pairs.items():
        print(f"{name:<{width}}  {value}".rstrip())
