"""In which line of a TOML text a key stands, so that an error can name it. No torch.

tomllib forgets lines. Tables, dotted keys and inline tables are enough here; of a key inside an inline table
the line of the table is meant.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"^\s*\[\[?\s*([^\]]+?)\s*\]\]?")
_KEY = re.compile(r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")


def line_of(text: str, dotted: str) -> tuple[int, int]:
    """(line, depth): where the longest part of `dotted` stands, and how many of its names that part has.

    (1, 0) if no part of it does. `segments[2].share` counts tables of an array from 0.
    """
    wanted = [name for name in re.split(r"[.\[\]]+", dotted) if name]
    best = (1, 0)
    table: list[str] = []
    arrays: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header is not None:
            table = _names(header.group(1))
            if line.lstrip().startswith("[["):
                place = arrays.get(header.group(1), -1) + 1
                arrays[header.group(1)] = place
                table = [*table, str(place)]
            path = table
        elif key is not None:
            path = [*table, *_names(key.group(1))]
        else:
            continue
        depth = _common(path, wanted)
        if depth > best[1]:
            best = (number, depth)
    return best


def _names(dotted: str) -> list[str]:
    return [name.strip().strip("\"'") for name in dotted.split(".")]


def _common(path: list[str], wanted: list[str]) -> int:
    """How many names of `wanted` the path spells out, being all of it or one of the tables within it."""
    shared = min(len(path), len(wanted))
    return shared if path[:shared] == wanted[:shared] else 0
