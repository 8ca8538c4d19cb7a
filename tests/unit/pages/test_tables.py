"""One table, two faces."""

from __future__ import annotations

import pytest

from openbook.pages.tables import Column, Table, html_table, text_table

COLUMNS = (Column(label="stage"), Column(label="pass@1", number=True), Column(label="cost", number=True))
TABLE = Table(
    title="Stages",
    columns=COLUMNS,
    rows=(("zero", "41.0%", "$0.01"), ("<b>cold", "9.5%", "$12.00")),
    total=("all", "", "$12.01"),
    notes=("By seed 0.",),
)


def test_text_is_aligned_numbers_to_the_right_and_without_trailing_blanks() -> None:
    assert text_table(TABLE).splitlines() == [
        "Stages",
        "",
        "stage    pass@1    cost",
        "-------  ------  ------",
        "zero      41.0%   $0.01",
        "<b>cold    9.5%  $12.00",
        "-------  ------  ------",
        "all              $12.01",
        "By seed 0.",
    ]


def test_html_names_rows_and_columns_and_escapes_cells() -> None:
    html = html_table(TABLE)
    assert html.count('<th scope="col"') == 3 and html.count('<th scope="row">') == 3
    assert '<td class="number">41.0%</td>' in html
    assert "&lt;b&gt;cold" in html and "<b>" not in html
    assert "<caption>Stages</caption>" in html and "<tfoot>" in html and "By seed 0." in html


def test_a_table_without_total_or_title_has_neither() -> None:
    html = html_table(Table(columns=COLUMNS, rows=()))
    assert "tfoot" not in html and "caption" not in html
    assert text_table(Table(columns=COLUMNS, rows=())).splitlines()[0].startswith("stage")


def test_a_row_of_another_length_is_a_programmers_mistake() -> None:
    with pytest.raises(AssertionError, match="2 cells under 3 columns"):
        Table(columns=COLUMNS, rows=(("zero", "1"),))
