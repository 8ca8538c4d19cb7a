"""Ranges side by side: for each of a few cases a wide range, a narrow one inside it, and a middle."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from openbook.pages import palette
from openbook.pages.charts import show
from openbook.pages.figures import FONT_SIZE, WIDTH, Frame, Key, framed, new_figure, paint

_ROW_HEIGHT = 40.0
_FOOT = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """One case: the ends of the wide range, of the narrow range inside it, and the middle."""

    label: str
    wide: tuple[float, float]
    narrow: tuple[float, float]
    middle: float

    def __post_init__(self) -> None:
        values = (self.wide[0], self.narrow[0], self.middle, self.narrow[1], self.wide[1])
        assert list(values) == sorted(values), f"{self.label}: {values} do not rise"


@dataclass(frozen=True, kw_only=True, slots=True)
class RangeChart:
    """Ranges on one scale, in the order given; `name` is unique in the page. At least one."""

    name: str
    title: str
    unit: str
    ranges: tuple[Range, ...]
    wide_label: str
    narrow_label: str
    middle_label: str = "median"
    caption: str = ""

    def __post_init__(self) -> None:
        assert self.ranges, f"{self.name} has no ranges"


def range_chart(chart: RangeChart) -> Markup:
    """The chart as a `<figure>`, with a dotted line at zero where ranges lie on both sides of it."""
    from matplotlib.ticker import MaxNLocator

    height = _ROW_HEIGHT * len(chart.ranges) + _FOOT
    figure = new_figure(height)
    axes = figure.add_axes((8 / WIDTH, _FOOT / height, 1 - 16 / WIDTH, 1 - _FOOT / height))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(paint("line"))
    axes.set_ylim(len(chart.ranges), 0.0)
    low = min(one.wide[0] for one in chart.ranges)
    high = max(one.wide[1] for one in chart.ranges)
    margin = 0.04 * (high - low or 1.0)
    axes.set_xlim(low - margin, high + margin)
    axes.tick_params(length=3, pad=4, labelsize=FONT_SIZE, labelcolor=paint("muted"), color=paint("line"))
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(lambda value, _: show(value))
    axes.grid(axis="x", color=paint("line"), linewidth=0.8)
    axes.set_axisbelow(True)
    if low < 0 < high:
        axes.axvline(0.0, color=paint("muted"), linewidth=1, linestyle=(0, (2, 2)))
    color = paint(palette.series(0))
    for row, one in enumerate(chart.ranges):
        y = row + 0.72
        axes.plot(one.wide, (y, y), color=color, linewidth=2, solid_capstyle="butt")
        axes.plot(one.narrow, (y, y), color=color, linewidth=9, solid_capstyle="butt", alpha=0.55)
        axes.plot([one.middle] * 2, (y - 0.2, y + 0.2), color=paint("ink"), linewidth=2)
        transform = axes.get_yaxis_transform()
        text = axes.text(0.0, row + 0.4, one.label, fontsize=FONT_SIZE, transform=transform, parse_math=False)
        text.set(color=paint("ink"), bbox={"facecolor": paint("card"), "edgecolor": "none", "pad": 0.8})
    keys = (
        Key(label=chart.middle_label, role="ink", dashes="0 11 3 20", thickness=8),
        Key(label=chart.narrow_label, role=palette.series(0), thickness=8, opacity=0.55),
        Key(label=chart.wide_label, role=palette.series(0), thickness=2),
    )
    frame = Frame(
        name=chart.name, title=chart.title, description=_in_words(chart), caption=chart.caption, keys=keys
    )
    return framed(figure, frame)


def _in_words(chart: RangeChart) -> str:
    said = (
        f"{one.label}: {chart.middle_label} {show(one.middle)}, "
        f"{chart.narrow_label} {show(one.narrow[0])} to "
        f"{show(one.narrow[1])}, {chart.wide_label} {show(one.wide[0])} to {show(one.wide[1])}."
        for one in chart.ranges
    )
    return f"{chart.unit}. " + " ".join(said)
