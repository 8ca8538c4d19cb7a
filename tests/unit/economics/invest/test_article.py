"""Sections 1 to 3 of the fact sheet: everything there that is arithmetic, from the articles' own figures."""

from __future__ import annotations

import pytest

from openbook.economics.invest.article import checks
from openbook.economics.invest.register import inconsistencies

WANTED = [
    ("A07", 0.3798, 5e-5),
    ("A07", 139, 1e-9),
    ("A10", 0.0428, 5e-5),
    ("A11", 0.0125, 5e-5),
    ("A12", 0.595, 5e-4),
    ("A12", 7.45, 5e-3),
    ("A19", 72.4, 1e-9),
    ("A19", 0.319, 5e-4),
    ("A25", 1.870, 5e-4),
    ("A25", 1.593, 5e-4),
    ("A26", 0.0253, 5e-5),
    ("A26", 0.0842, 5e-5),
    ("A34", 0.0333, 5e-5),
    ("A36", 450, 1e-9),
    ("A37", 5.4, 1e-9),
    ("A37", 0.0746, 5e-5),
    ("A37", 0.0373, 5e-5),
    ("A37", 162, 1e-9),
    ("A39", 10.05, 5e-3),
    ("A39", 13.4, 5e-2),
    ("A39", 11.3, 5e-2),
    ("A41", 16.7, 5e-2),
    ("A42", 156, 0.5),
    ("A43", 281.25, 1e-9),
    ("A43", 343.75, 1e-9),
    ("A48", 18.0, 1e-9),
    ("A48", 0.111, 5e-4),
    ("A48", 3.33, 5e-3),
    ("B02", 5.870, 5e-4),
    ("B06", 589, 0.5),
    ("B05", 629, 2),  # the sheet says "about"
    ("B09", 0.055, 5e-4),
    ("B12", 54.2, 5e-2),
    ("B14", 5.58, 1e-9),
    ("B14", 5.576, 1e-9),
    ("B21", -0.1690, 5e-5),
    ("B27", 0.9633, 5e-5),
    ("B27", 0.9635, 5e-5),
    ("B32", 2048, 1e-9),
    ("B33", 199_219, 0.5),
    ("B33", 24_902, 0.5),
    ("B33", 12_451, 0.5),
    ("B33", 1.42, 5e-3),
    ("B36", 0.181, 5e-4),
    ("B36", 0.891, 5e-4),
    ("B36", -0.018, 5e-4),
    ("3.1", 378, 0.5),
    ("3.1", 606, 1e-9),
    ("3.1", 665, 1e-9),
    ("3.1", 370, 1e-9),
    ("3.1", 225.2, 1e-9),
    ("3.1", 375, 1e-9),
    ("3.1", 385, 1e-9),
]


@pytest.mark.parametrize(("place", "id", "value", "within"), [(i, *row) for i, row in enumerate(WANTED)])
def test_the_articles_arithmetic(place: int, id: str, value: float, within: float) -> None:
    check = checks()[place]
    assert check.id == id
    assert check.recomputed == pytest.approx(value, abs=within)


def test_every_check_is_held_to_the_sheet() -> None:
    assert len(checks()) == len(WANTED)


def test_the_register_says_what_was_printed_what_is_adopted_and_why() -> None:
    rows = {row.topic: row for row in inconsistencies()}
    assert len(rows) == 12
    assert all(row.printed and row.adopted and row.why for row in rows.values())
    assert rows["Year of R1"].adopted == "2025"
    assert "7.45" in rows["GAAP beside adjusted"].why
