"""The shell: self-contained, escaped, in both themes."""

from __future__ import annotations

import re

import jinja2
import pytest

from openbook.pages import palette
from openbook.pages.page import Page, Section, fill, missing, render_page

SECTION = Section(id="one", title="One & only", short_title="One", body=fill("<p>{{ x }}</p>", x="1 < 2"))


def test_values_are_escaped_and_our_own_markup_is_not() -> None:
    html = render_page(Page(title="<script>alert(1)</script>", sections=(SECTION,)))
    assert "<p>1 &lt; 2</p>" in html
    assert "<script" not in html and "&lt;script&gt;" in html
    assert "One &amp; only" in html


def test_the_page_forbids_itself_every_outside_resource() -> None:
    html = render_page(Page(title="t", sections=(SECTION,)))
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in html
    assert not re.search(r"https?://|@import|<link|<script|url\(", html)


def test_the_page_reads_on_a_phone_on_paper_and_in_the_dark() -> None:
    html = render_page(Page(title="t", sections=(SECTION,)))
    assert 'name="viewport" content="width=device-width' in html
    assert "@media (prefers-color-scheme: dark)" in html and "@media print" in html
    assert f"--ink: {palette.LIGHT['ink']};" in html and f"--ink: {palette.DARK['ink']};" in html


def test_a_list_of_contents_comes_with_the_second_section() -> None:
    other = Section(id="two", title="Two", short_title="Two", body=missing("It was skipped."))
    assert "<nav" not in render_page(Page(title="t", sections=(SECTION,)))
    html = render_page(Page(title="t", sections=(SECTION, other)))
    assert '<a href="#one">One</a>' in html and '<section id="two"' in html
    assert '<p class="missing">It was skipped.</p>' in html


def test_two_sections_of_one_id_are_a_programmers_mistake() -> None:
    with pytest.raises(AssertionError, match="repeat"):
        render_page(Page(title="t", sections=(SECTION, SECTION)))


def test_a_value_that_a_template_names_must_be_given() -> None:
    with pytest.raises(jinja2.UndefinedError):
        fill("{{ x }}")


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.1."""

    def luminance(color: str) -> float:
        channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
def test_text_and_lines_stand_out_in_both_themes(theme: dict[str, str]) -> None:
    assert theme.keys() == palette.LIGHT.keys()
    for background in (theme["paper"], theme["card"]):
        for text in ("ink", "muted", "good", "bad"):
            assert contrast(theme[text], background) >= 4.5, text
        for index in range(palette.NUM_SERIES):
            assert contrast(theme[palette.series(index)], background) >= 3.0, index
