"""Charts of a page as one SVG file that stands alone: titles, legends and drawings, in the light colours.

picture([line_chart(...), line_chart(...)])          text of an .svg, the charts below each other
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from openbook.pages import palette

MARGIN = 12.0
TITLE_HEIGHT = 24.0
LEGEND_HEIGHT = 18.0
CAPTION_HEIGHT = 16.0
_CHARACTERS_OF_A_CAPTION = 62


def picture(charts: Sequence[Markup], *, width: float = 340.0) -> str:
    """The charts (as `line_chart` and its kind make them) below each other in one SVG document."""
    parts: list[str] = []
    top = MARGIN
    for chart in charts:
        drawn, height = _chart(str(chart))
        parts.append(f'<g transform="translate({MARGIN:g} {top:g})">{drawn}</g>')
        top += height + MARGIN
    whole = width + 2 * MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole:g} {top:g}" '
        f'width="{2 * whole:g}" height="{2 * top:g}" '
        'style="font-family: ui-sans-serif, system-ui, sans-serif; stroke-linejoin: round">'
    )
    paper = f'<rect width="{whole:g}" height="{top:g}" fill="{palette.LIGHT["paper"]}"/>'
    return _in_light(head + paper + "".join(parts) + "</svg>\n")


def _chart(figure: str) -> tuple[str, float]:
    """A `<figure>` as an SVG group at (0, 0), and its height."""
    ink, muted = palette.LIGHT["ink"], palette.LIGHT["muted"]
    title = re.search(r"<h3>(.*?)</h3>", figure, re.DOTALL)
    parts = [_text(title[1] if title else "", 14, f"font-size: 13px; font-weight: 600; fill: {ink}")]
    top = TITLE_HEIGHT
    for line, label in re.findall(r"<li><svg[^>]*>(.*?)</svg>(.*?)</li>", figure, re.DOTALL):
        parts.append(f'<g transform="translate(0 {top:g})">{line}</g>')
        parts.append(_text(label, top + 8, f"font-size: 11px; fill: {ink}", left=32))
        top += LEGEND_HEIGHT
    drawing = re.search(r'<svg role="img".*?viewBox="0 0 ([\d.]+) ([\d.]+)".*?</svg>', figure, re.DOTALL)
    assert drawing, "a chart has a drawing"
    inner = f'<svg y="{top:g}" width="{drawing[1]}" height="{drawing[2]}"'
    parts.append(drawing[0].replace("<svg", inner, 1))
    top += float(drawing[2])
    caption = re.search(r"<figcaption>(.*?)</figcaption>", figure, re.DOTALL)
    for line in _wrapped(caption[1]) if caption else ():
        top += CAPTION_HEIGHT
        parts.append(_text(line, top - 4, f"font-size: 10.5px; fill: {muted}"))
    return "".join(parts), top


def _text(text: str, y: float, style: str, *, left: float = 0) -> str:
    clean = escape(Markup(text).unescape().strip())
    return f'<text x="{left:g}" y="{y:g}" style="{style}">{clean}</text>'


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(Markup(text).unescape().strip(), _CHARACTERS_OF_A_CAPTION)


def _in_light(document: str) -> str:
    """Programs that draw SVG files know no CSS variables: the light colour stands in."""
    return re.sub(r"var\(--[\w-]+, (#[0-9a-f]{6})\)", r"\1", document)
