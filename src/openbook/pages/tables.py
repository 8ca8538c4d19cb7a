"""One table, two faces: HTML for a page and plain text for a terminal, from the same cells."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from openbook.pages.page import render

ABSENT = "-"
"""What a cell shows where there is no value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A heading; the cells of a `number` column are aligned to the right."""

    label: str
    number: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Cells as the reader sees them. The first column names the row; `total` is set off below.

    Example: `Table(columns=(Column(label="stage"), Column(label="cost", number=True)),
    rows=(("zero", "$0.01"),), total=("all", "$0.01"))`. Rows are as long as `columns`.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    total: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in (*self.rows, self.total or self.columns):
            assert len(row) == len(self.columns), (
                f"a row of {len(row)} cells under {len(self.columns)} columns"
            )

    def cells(self, row: tuple[str, ...]) -> list[tuple[Column, str]]:
        """The cells of a row with their columns."""
        return list(zip(self.columns, row, strict=True))


def html_table(table: Table) -> Markup:
    """A `<table>` that scrolls sideways on a narrow screen while its first column stays."""
    return render("table.html", table=table)


def text_table(table: Table) -> str:
    """The table in fixed-width plain text: aligned columns, one rule, no colour, no trailing blanks."""
    heading = tuple(column.label for column in table.columns)
    lines = [heading, *table.rows, *([table.total] if table.total else [])]
    widths = [max(len(line[index]) for line in lines) for index in range(len(heading))]

    def show(row: tuple[str, ...]) -> str:
        cells = zip(table.columns, row, widths, strict=True)
        aligned = [cell.rjust(width) if column.number else cell.ljust(width) for column, cell, width in cells]
        return "  ".join(aligned).rstrip()

    rule = "  ".join("-" * width for width in widths)
    shown = [show(heading), rule, *map(show, table.rows)]
    if table.total:
        shown += [rule, show(table.total)]
    return "\n".join([*([table.title, ""] if table.title else []), *shown, *table.notes])
