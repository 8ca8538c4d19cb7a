"""Line charts with bands: how numbers went over steps.

Example: `line_chart(LineChart(name="loss", title="Loss", x_label="step", y_label="nats a token",
lines=(Line(label="loss", x=(1, 2), y=(3.2, 2.9)),)))`. Small multiples are several charts inside
`multiples(...)`: the page lays them side by side, and below each other on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from openbook.pages import palette
from openbook.pages.figures import FONT_SIZE, WIDTH, Frame, Key, framed, new_figure, paint
from openbook.pages.page import fill
from openbook.units import show_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 220.0
DASHES = ("", "6 2.5", "2 2", "8 2.5 2 2.5", "4 1.5", "1 2.5")
"""How the first, second, ... line of a chart is broken up, in pixels; the first is whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line. A value that is not finite leaves a gap.

    `low` and `high` (as long as `y`, or empty) are drawn as a band. With `smoothing` above 1 the line
    is the centred running mean over that many points, and the points themselves stand thin behind it.
    `points` marks each value, for lines of a few measurements.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    smoothing: int = 1
    points: bool = False

    def __post_init__(self) -> None:
        assert len(self.x) == len(self.y) > 0, f"{self.label}: {len(self.x)} x and {len(self.y)} y"
        assert len(self.low) == len(self.high) and len(self.low) in (0, len(self.y)), f"{self.label}: band"


@dataclass(frozen=True, kw_only=True, slots=True)
class LineChart:
    """Lines over one axis. `name` is unique in its page; `percent` shows shares of 1 as percentages."""

    name: str
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    caption: str = ""
    percent: bool = False
    from_zero: bool = True
    """Whether the vertical axis holds 0; a chart of a loss may cut it off."""


def multiples(charts: Sequence[Markup], *, large: bool = False) -> Markup:
    """Charts side by side where there is room; `large` ones are at most two in a row."""
    template = '<div class="multiples{{ " large" if large }}">{{ charts }}</div>'
    return fill(template, charts=Markup("").join(charts), large=large)


def line_chart(chart: LineChart) -> Markup:
    """The chart as a `<figure>`; more than one line brings a legend."""
    figure, axes = panel(HEIGHT, chart.x_label, chart.y_label)
    for index, line in enumerate(chart.lines):
        _draw(axes, line, index)
    if chart.from_zero:
        low, high = axes.get_ylim()
        axes.set_ylim(0.0 if _lowest(chart.lines) >= 0 else low, max(high, 0.0))
    axes.yaxis.set_major_formatter(lambda value, _: show(value, percent=chart.percent))
    axes.margins(x=0.01)
    keys = tuple(
        Key(label=line.label, role=palette.series(index), dashes=DASHES[index % len(DASHES)])
        for index, line in enumerate(chart.lines)
    )
    description = " ".join(_in_words(line, chart) for line in chart.lines)
    frame = Frame(
        name=chart.name, title=chart.title, description=description, caption=chart.caption, keys=keys
    )
    return framed(figure, frame)


def panel(height: float, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """A figure with one pair of axes: whole numbers along x, grid lines along y, labels horizontal."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(height)
    axes = figure.add_axes((46 / WIDTH, 40 / height, 1 - 58 / WIDTH, 1 - 66 / height))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(paint("line"))
    axes.grid(axis="y", color=paint("line"), linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=5, labelsize=FONT_SIZE, labelcolor=paint("muted"))
    axes.tick_params(axis="x", length=3, color=paint("line"))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(lambda value, _: show(value))
    axes.set_xlabel(x_label, fontsize=FONT_SIZE, color=paint("muted"), loc="right", labelpad=3)
    figure.text(6 / WIDTH, 1 - 4 / height, y_label, fontsize=FONT_SIZE, color=paint("muted"), va="top")
    return figure, axes


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The centred mean over `window` (odd) points, fewer at the ends, over those that are finite."""
    array = np.asarray(values, dtype=float)
    finite = np.isfinite(array)
    half = window // 2
    total = np.cumsum(np.concatenate([[0.0], np.where(finite, array, 0.0)]))
    count = np.cumsum(np.concatenate([[0], finite]))
    first = np.maximum(np.arange(len(array)) - half, 0)
    last = np.minimum(np.arange(len(array)) + half + 1, len(array))
    with np.errstate(invalid="ignore"):  # a window without finite points is a gap: 0 / 0
        return [float(mean) for mean in (total[last] - total[first]) / (count[last] - count[first])]


def show(value: float, *, percent: bool = False) -> str:
    """A number on an axis or in a sentence: `12%`, `0.034`, `13.5K`."""
    if percent:
        return f"{100 * value:.3g}%"
    return show_count(value) if abs(value) >= 10_000 else f"{value:.4g}"


def _draw(axes: Axes, line: Line, index: int) -> None:
    color = paint(palette.series(index))
    if len(line.low) > 0:
        axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.16, linewidth=0)
    y = line.y
    if line.smoothing > 1:
        axes.plot(line.x, line.y, color=color, linewidth=0.7, alpha=0.4)
        y = running_mean(line.y, line.smoothing)
    on_off = tuple(float(pixels) / 2 for pixels in DASHES[index % len(DASHES)].split())
    axes.plot(
        line.x,
        y,
        color=color,
        linewidth=2,
        linestyle=(0, on_off) if on_off else "solid",
        marker="o" if line.points or len(line.x) == 1 else "",
        markersize=4,
    )


def _lowest(lines: Sequence[Line]) -> float:
    values = [value for line in lines for value in (*line.y, *line.low) if math.isfinite(value)]
    return min(values, default=0.0)


def _in_words(line: Line, chart: LineChart) -> str:
    found = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
    if not found:
        return f"{line.label}: no finite value."
    (first_x, first_y), (last_x, last_y) = found[0], found[-1]
    low, high = min(y for _, y in found), max(y for _, y in found)
    numbers = [show(value, percent=chart.percent) for value in (first_y, last_y, low, high)]
    return (
        f"{line.label}: {numbers[0]} at {chart.x_label} {show(first_x)}, {numbers[1]} at {show(last_x)}; "
        f"lowest {numbers[2]}, highest {numbers[3]}."
    )
