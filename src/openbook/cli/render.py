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
    from openbook.pages.tables import Column, Table, text_table

    numbers = set(right)
    labelled = tuple(Column(label=column, number=column in numbers) for column in columns)
    print(text_table(Table(columns=labelled, rows=tuple(tuple(map(str, row)) for row in rows))))


def print_pairs(pairs: Mapping[str, object]) -> None:
    """`name   value` lines."""
    width = max(len(name) for name in pairs)
    for name, value in pairs.items():
        print(f"{name:<{width}}  {value}".rstrip())
