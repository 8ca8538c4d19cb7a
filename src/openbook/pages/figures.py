"""From a matplotlib figure to a `<figure>` of a page: accessible, in the reader's theme, ids of its own.

    Figure (drawn in `paint(role)` colours) -> matplotlib's SVG -> <figure> with title, keys, <svg>, caption

matplotlib writes fixed colours. Each role of the palette is therefore drawn in a colour that stands
for it and replaced afterwards by a CSS variable, so that one drawing serves light, dark and print.
matplotlib itself is imported by the functions that draw, not at start-up.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from openbook.pages import palette
from openbook.pages.page import render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS_PER_INCH = 72
"""matplotlib's SVG unit is the point; one unit of the view box is meant as one CSS pixel."""

FONT_SIZE = 11.5
WIDTH = 340.0
"""Of every chart: its text is readable both on a phone and two or three to a row."""

_PLACEHOLDER = "#fe{index:02x}ed"
_ROLES = tuple(palette.LIGHT)
_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """An entry of a legend; `dashes` in pixels, as in SVG, empty for a whole line."""

    label: str
    role: str
    dashes: str = ""
    thickness: float = 2.5
    opacity: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """What stands around a drawing. `name` is unique in the page and begins every id.

    `description` is for readers who do not see the drawing; `keys` are shown when there are several.
    """

    name: str
    title: str
    description: str
    caption: str = ""
    keys: tuple[Key, ...] = ()


def paint(role: str) -> str:
    """The colour to draw with in matplotlib for a role of the palette."""
    return _PLACEHOLDER.format(index=_ROLES.index(role))


def new_figure(height: float) -> Figure:
    """An empty figure, `WIDTH` by `height` pixels."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / PIXELS_PER_INCH, height / PIXELS_PER_INCH), dpi=PIXELS_PER_INCH)
    FigureCanvasSVG(figure)
    return figure


def framed(figure: Figure, frame: Frame) -> Markup:
    """The `<figure>` element. The same figure and frame give the same text."""
    width, height = (f"{inches * PIXELS_PER_INCH:g}" for inches in figure.get_size_inches())
    drawing = Markup(_own_ids(_themed(_body(_svg_text(figure, frame.name))), frame.name))
    variable = palette.variable
    return render("figure.html", frame=frame, drawing=drawing, width=width, height=height, variable=variable)


def _svg_text(figure: Figure, salt: str) -> str:
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=_METADATA)
    return buffer.getvalue()


def _body(document: str) -> str:
    """The inside of the `<svg>` element, without matplotlib's style sheet, which would style the page."""
    inside = document[document.index(">", document.index("<svg")) + 1 : document.rindex("</svg>")]
    inside = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", inside, count=1, flags=re.DOTALL)
    inside = re.sub(r"font-family: [^;\"]*(?:; )?", "", inside)
    return re.sub(r"\s+", " ", inside.replace("xlink:href", "href").replace("base64,\n", "base64,"))


def _themed(drawing: str) -> str:
    for role in _ROLES:
        drawing = drawing.replace(paint(role), palette.variable(role))
    return drawing


def _own_ids(drawing: str, name: str) -> str:
    """Ids that something refers to begin with `name`; the others go."""
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", drawing))

    def renamed(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    drawing = re.sub(r' id="([^"]*)"', renamed, drawing)
    return re.sub(r"(url\(|href=\")#", rf"\1#{name}-", drawing)
