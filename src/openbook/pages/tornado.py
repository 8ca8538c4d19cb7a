"""Tornado charts: how far a result moves when one input after the other goes from low to high.

The widest swing stands on top. The bar of the low input is hatched and that of the high one is whole, so that
the chart reads without colour.
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from openbook.pages import palette
from openbook.pages.charts import show
from openbook.pages.figures import FONT_SIZE, WIDTH, Frame, Key, framed, new_figure, paint

_ROW_HEIGHT = 38.0
_FOOT = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Swing:
    """The result with one input at its `low` and at its `high`; `detail` says which values those are."""

    label: str
    low: float
    high: float
    detail: str = ""

    @property
    def width(self) -> float:
        return abs(self.high - self.low)


@dataclass(frozen=True, kw_only=True, slots=True)
class TornadoChart:
    """Swings around `base`, the result with every input in its middle; `name` is unique in the page."""

    name: str
    title: str
    unit: str
    base: float
    swings: tuple[Swing, ...]
    low_label: str = "input low"
    high_label: str = "input high"
    caption: str = ""

    def __post_init__(self) -> None:
        assert self.swings, f"{self.name} has no swings"


def tornado_chart(chart: TornadoChart) -> Markup:
    """The chart as a `<figure>`: labels above their bars, so that long ones have room on a phone."""
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    swings = sorted(chart.swings, key=lambda swing: -swing.width)
    height = _ROW_HEIGHT * len(swings) + _FOOT
    figure = new_figure(height)
    axes = figure.add_axes((8 / WIDTH, _FOOT / height, 1 - 16 / WIDTH, 1 - _FOOT / height))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(paint("line"))
    axes.set_ylim(len(swings), 0.0)
    ends = [chart.base, *(end for swing in swings for end in (swing.low, swing.high))]
    margin = 0.12 * (max(ends) - min(ends) or 1.0)
    axes.set_xlim(min(ends) - margin, max(ends) + margin)
    axes.tick_params(length=3, pad=4, labelsize=FONT_SIZE, labelcolor=paint("muted"), color=paint("line"))
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(lambda value, _: show(value))
    axes.grid(axis="x", color=paint("line"), linewidth=0.8)
    axes.set_axisbelow(True)
    if min(ends) < 0 < max(ends):
        axes.axvline(0.0, color=paint("muted"), linewidth=1, linestyle=(0, (2, 2)))
    for row, swing in enumerate(swings):
        for end, index in ((swing.low, 1), (swing.high, 0)):
            box = Rectangle((chart.base, row + 0.5), end - chart.base, 0.4)
            box.set(facecolor=paint(palette.series(index)), edgecolor=paint("card"), linewidth=0)
            box.set_hatch("////" if index == 1 else "")
            axes.add_patch(box)
        label = f"{swing.label}: {swing.detail}" if swing.detail else swing.label
        transform = axes.get_yaxis_transform()
        text = axes.text(0.0, row + 0.36, label, fontsize=FONT_SIZE, transform=transform, parse_math=False)
        text.set(color=paint("ink"), bbox={"facecolor": paint("card"), "edgecolor": "none", "pad": 0.8})
    axes.axvline(chart.base, color=paint("ink"), linewidth=1.2)
    keys = (
        Key(label=chart.low_label, role=palette.series(1), thickness=8, dashes="3 1.5"),
        Key(label=chart.high_label, role=palette.series(0), thickness=8),
    )
    frame = Frame(
        name=chart.name, title=chart.title, description=_in_words(chart), caption=chart.caption, keys=keys
    )
    return framed(figure, frame)


def _in_words(chart: TornadoChart) -> str:
    swings = sorted(chart.swings, key=lambda swing: -swing.width)
    said = (f"{one.label}: {show(one.low)} when low, {show(one.high)} when high." for one in swings)
    return f"{chart.unit}, {show(chart.base)} with every input in its middle. " + " ".join(said)
