"""The card of a run as text: what came out of what, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def card_to_markdown(card: Mapping[str, Any]) -> str:
    """A card as Markdown: plain values first, then one section for each table or list.

    A list of mappings becomes a table whose columns are their keys; a mapping becomes a table of
    two columns; another list becomes bullets.
    """
    plain = {key: value for key, value in card.items() if not isinstance(value, (Mapping, list, tuple))}
    nested = {key: value for key, value in card.items() if key not in plain}
    lines = [f"# Card of run {card.get('run', '')}".rstrip(), ""]
    lines += [f"- {_title(key)}: {value}" for key, value in plain.items() if key != "run"]
    for key, value in nested.items():
        lines += ["", f"## {_title(key)}", "", *_section(value)]
    return "\n".join(lines) + "\n"


def _section(value: Mapping[str, Any] | Sequence[Any]) -> list[str]:
    if isinstance(value, Mapping):
        return _table(["", ""], [[str(key), item] for key, item in value.items()]) if value else ["none"]
    if not value:
        return ["none"]
    if all(isinstance(item, Mapping) for item in value):
        columns = list(dict.fromkeys(key for item in value for key in item))
        return _table(columns, [[item.get(column, "") for column in columns] for item in value])
    return [f"- {item}" for item in value]


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    head = [_row([_title(column) for column in columns]), _row(["---"] * len(columns))]
    return head + [_row(row) for row in rows]


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _title(key: str) -> str:
    return key.replace("_", " ")
