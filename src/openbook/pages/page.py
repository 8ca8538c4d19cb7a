"""One self-contained HTML file: no outside resource, light and dark, screen, phone and paper.

Example: `render_page(Page(title="A run", sections=(Section(id="a", title="A", body=fill("<p>{{ x }}</p>",
x="1 < 2")),)))`. The page forbids itself every outside resource by its Content-Security-Policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import jinja2
from markupsafe import Markup

from openbook.pages import palette

NOTHING = Markup("")
"""No HTML."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of a page. `id` is its anchor; the contents list shows `short_title`."""

    id: str
    title: str
    body: Markup
    short_title: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What a page says; `opening` stands between the title and the list of contents.

    `script` is the path of the one script of a page that its own server serves, and may talk to that server
    alone; a page that is a file has none.
    """

    title: str
    sections: tuple[Section, ...]
    kicker: str = "Openbook"
    opening: Markup = NOTHING
    footer: str = ""
    script: str = ""


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("openbook.pages", package_path=""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )


def fill(template: str, **values: object) -> Markup:
    """HTML from a Jinja template of ours; every value that is not `Markup` is escaped.

    A value that the template names and `values` lacks raises `jinja2.UndefinedError`.
    """
    return Markup(_environment().from_string(template).render(values))


def render(template: str, **values: object) -> Markup:
    """As `fill`, for a template file of this folder."""
    return Markup(_environment().get_template(template).render(values))


def missing(sentence: str) -> Markup:
    """Says in words that a part is not there, where it would have been."""
    return fill('<p class="missing">{{ sentence }}</p>', sentence=sentence)


def render_page(page: Page) -> str:
    """The whole file's text. Section ids must be unique."""
    ids = [section.id for section in page.sections]
    assert len(set(ids)) == len(ids), f"section ids repeat: {ids}"
    return str(render("shell.html", page=page, style=_style()))


@cache
def _style() -> Markup:
    light, dark = (Markup(palette.declarations(values)) for values in (palette.LIGHT, palette.DARK))
    return render("style.css", light=light, dark=dark)
