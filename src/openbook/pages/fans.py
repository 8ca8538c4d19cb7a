"""Fan charts: an uncertain number over time, its middle as a line and its quantiles as bands around it.

    FanChart(name="flow", title="Free cash flow", x_label="year", y_label="$B", x=(2026, 2027),
        middle=(-90, 20), bands=(Span(label="5 % to 95 %", low=(-120, -60), high=(-70, 90)),))

Bands are drawn from the widest to the narrowest in one colour, each darker than the one before, so that they
are told apart without colour. `marks` are single points beside the fan, such as what somebody announced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from openbook.pages import palette
from openbook.pages.charts import HEIGHT, panel, show
from openbook.pages.figures import Frame, Key, framed, paint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHADES = (0.16, 0.3)
"""Opacity of the widest band and of those inside it, which lie over it and so come out darker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """The lower and the upper edge of a band, one value for each `x`."""

    label: str
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Points:
    """Single values to hold the fan against: `values` at `x`."""

    label: str
    x: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class FanChart:
    """`middle` over rising `x`, in `bands` from the widest to the narrowest; `name` is unique in the page."""

    name: str
    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    middle: Sequence[float]
    bands: tuple[Span, ...]
    middle_label: str = "median"
    marks: Points | None = None
    caption: str = ""
    color: int = 0
    """Which series colour the fan takes."""

    def __post_init__(self) -> None:
        assert len(self.x) == len(self.middle) > 0, f"{self.name}: {len(self.x)} x, {len(self.middle)} values"
        assert 0 < len(self.bands) <= len(_SHADES), f"{self.name} has {len(self.bands)} bands"
        for band in self.bands:
            assert len(band.low) == len(band.high) == len(self.x), f"{self.name}: {band.label} is too short"
            assert all(low <= high for low, high in zip(band.low, band.high, strict=True)), band.label


def fan_chart(chart: FanChart) -> Markup:
    """The chart as a `<figure>`, with a line at zero where values lie on both sides of it."""
    figure, axes = panel(HEIGHT, chart.x_label, chart.y_label)
    role = palette.series(chart.color)
    x = [float(value) for value in chart.x]
    for shade, band in zip(_SHADES, chart.bands, strict=False):
        axes.fill_between(x, band.low, band.high, color=paint(role), alpha=shade, linewidth=0)
    dot = "o" if len(x) == 1 else ""
    axes.plot(x, chart.middle, color=paint(role), linewidth=2, marker=dot, markersize=4)
    if chart.marks is not None:
        marks = chart.marks
        axes.plot(marks.x, marks.values, color=paint("ink"), linestyle="", marker="D", markersize=4)
    _hold_zero(axes)
    axes.yaxis.set_major_formatter(lambda value, _: show(value))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    axes.margins(x=0.02)
    frame = Frame(
        name=chart.name,
        title=chart.title,
        description=_in_words(chart),
        caption=chart.caption,
        keys=_keys(chart, role),
    )
    return framed(figure, frame)


def _hold_zero(axes: Axes) -> None:
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.0), max(high, 0.0))
    if low < 0:
        axes.axhline(0.0, color=paint("muted"), linewidth=1)


def _keys(chart: FanChart, role: str) -> tuple[Key, ...]:
    keys = [Key(label=chart.middle_label, role=role)]
    seen = 0.0
    for shade, band in zip(_SHADES, chart.bands, strict=False):
        seen = 1 - (1 - seen) * (1 - shade)
        keys.append(Key(label=band.label, role=role, thickness=8, opacity=round(seen, 2)))
    if chart.marks is not None:
        keys.append(Key(label=chart.marks.label, role="ink", dashes="0 9 6 20", thickness=6))
    return tuple(keys)


def _in_words(chart: FanChart) -> str:
    ends = (0, len(chart.x) - 1) if len(chart.x) > 1 else (0,)
    said = []
    for index in ends:
        spans = ", ".join(
            f"{band.label} from {show(band.low[index])} to {show(band.high[index])}" for band in chart.bands
        )
        said.append(f"{chart.x[index]:g}: {chart.middle_label} {show(chart.middle[index])}, {spans}.")
    return f"{chart.y_label}. " + " ".join(said)
