"""Horizontal bars: what each of a few things came to, and of which parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from openbook.pages import palette
from openbook.pages.figures import FONT_SIZE, WIDTH, Frame, Key, framed, new_figure, paint

_ROW_HEIGHT = 30.0
_ROW_HEIGHT_BELOW_LABEL = 38.0
_CHARACTER_WIDTH = 6.6
"""Pixels that a character takes at `FONT_SIZE`, generously."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One bar of as many `values` as its chart has parts, none negative; `shown` stands at its end.

    `interval` is drawn as a thin line from its low to its high end.
    """

    label: str
    values: tuple[float, ...]
    shown: str
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BarChart:
    """Bars from one zero, in the order given; the second part is hatched. At least one bar.

    A bar of `full` is as wide as the chart; 0 stands for the longest bar. Labels stand before their bars, or
    `above` them, where they may be as long as the chart is wide.
    """

    name: str
    title: str
    parts: tuple[str, ...]
    bars: tuple[Bar, ...]
    caption: str = ""
    full: float = 0.0
    above: bool = False

    def __post_init__(self) -> None:
        assert self.bars, f"{self.name} has no bars"
        for bar in self.bars:
            assert len(bar.values) == len(self.parts), f"{bar.label}: {len(bar.values)} values"
            assert min(bar.values) >= 0, f"{bar.label} is negative"


def bar_chart(chart: BarChart) -> Markup:
    """The chart as a `<figure>`; more than one part brings a legend."""
    from matplotlib.patches import Rectangle

    figure = new_figure((_ROW_HEIGHT_BELOW_LABEL if chart.above else _ROW_HEIGHT) * len(chart.bars) + 8)
    longest = 0 if chart.above else max(len(bar.label) for bar in chart.bars)
    left = min(0.5, (longest * _CHARACTER_WIDTH + 10) / WIDTH)
    right = min(0.3, (max(len(bar.shown) for bar in chart.bars) * _CHARACTER_WIDTH + 10) / WIDTH)
    axes = figure.add_axes((left, 0.0, 1 - left - right, 1.0))
    axes.set_axis_off()
    reach = chart.full or max(sum(bar.values) for bar in chart.bars) or 1.0
    axes.set_xlim(0, reach)
    axes.set_ylim(len(chart.bars) - 0.5, -0.5)
    gap = reach * 8 / ((1 - left - right) * WIDTH)
    top, thick = (-0.02, 0.42) if chart.above else (-0.3, 0.6)  # of a bar, in rows
    for row, bar in enumerate(chart.bars):
        start, y = 0.0, row + top + thick / 2
        for index, value in enumerate(bar.values):
            color = paint(palette.series(index))
            box = Rectangle((start, row + top), value, thick, facecolor=color)
            box.set(edgecolor=paint("card"), linewidth=0)
            box.set_hatch("///" if index == 1 else "")
            box.set_alpha(0.6 if bar.interval else 1.0)
            axes.add_patch(box)
            start += value
        end = start
        if bar.interval:
            axes.plot(bar.interval, (y, y), color=paint("ink"), linewidth=1.4, solid_capstyle="butt")
            end = max(start, bar.interval[1])
        plain: dict[str, Any] = {"va": "center", "fontsize": FONT_SIZE, "parse_math": False}
        side, x, label_y = ("left", 0.0, row - 0.22) if chart.above else ("right", -gap, row)
        axes.text(x, label_y, bar.label, ha=side, color=paint("ink"), **plain)
        axes.text(end + gap, y, bar.shown, color=paint("muted"), **plain)
    keys = tuple(
        Key(label=part, role=palette.series(index), thickness=8, dashes="3 1.5" if index == 1 else "")
        for index, part in enumerate(chart.parts)
    )
    description = "; ".join(f"{bar.label}: {bar.shown}" for bar in chart.bars) + "."
    frame = Frame(
        name=chart.name, title=chart.title, description=description, caption=chart.caption, keys=keys
    )
    return framed(figure, frame)
