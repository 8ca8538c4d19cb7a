"""Heat maps: one number for each row and column, in colours that every reader can order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from openbook.pages.charts import panel, show
from openbook.pages.figures import FONT_SIZE, WIDTH, Frame, framed, paint

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

COLOR_MAP = "cividis"
"""From dark blue to yellow, the same order of lightness with and without colour vision."""

MAX_COLUMNS = 160
"""More columns than a chart has room for are averaged in neighbours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatMap:
    """`values[row][column]` coloured from `low` (dark) to `high` (bright).

    Values beyond them take the colour of the end. `x` goes with the columns and
    rises; `name` is unique in the page.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    values: Sequence[Sequence[float]]
    low: float
    high: float
    scale_label: str
    caption: str = ""

    def __post_init__(self) -> None:
        assert self.values and self.low < self.high
        for row in self.values:
            assert len(row) == len(self.x) > 0, f"{self.name}: a row of {len(row)} for {len(self.x)} columns"


def heat_map(chart: HeatMap) -> Markup:
    """The chart as a `<figure>`, with its colour scale below; row 0 is at the top."""
    from matplotlib.ticker import MaxNLocator

    values = _fewer_columns(np.asarray(chart.values, dtype=float))
    num_rows = len(values)
    height = 92 + max(60.0, min(14.0 * num_rows, 180.0))
    figure, axes = panel(height, chart.x_label, chart.y_label)
    axes.set_position((46 / WIDTH, 66 / height, 1 - 58 / WIDTH, 1 - 92 / height))
    axes.grid(False)
    half_step = (chart.x[-1] - chart.x[0]) / max(len(chart.x) - 1, 1) / 2 or 0.5
    extent = (chart.x[0] - half_step, chart.x[-1] + half_step, num_rows - 0.5, -0.5)
    image = axes.imshow(values, aspect="auto", interpolation="none", cmap=COLOR_MAP, extent=extent)
    image.set_clim(chart.low, chart.high)
    axes.yaxis.set_major_formatter(lambda row, _: f"{row:.0f}")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    scale = figure.add_axes((46 / WIDTH, 24 / height, 0.4, 7 / height))
    bar = figure.colorbar(image, cax=scale, orientation="horizontal")
    bar.outline.set_visible(False)
    scale.tick_params(length=0, pad=3, labelsize=FONT_SIZE - 1, labelcolor=paint("muted"))
    scale.text(1.06, 0.5, chart.scale_label, transform=scale.transAxes, va="center", fontsize=FONT_SIZE - 1)
    scale.texts[-1].set_color(paint("muted"))
    frame = Frame(name=chart.name, title=chart.title, description=_in_words(chart), caption=chart.caption)
    return framed(figure, frame)


def _fewer_columns(
    values: Array,
) -> Array:
    """At most `MAX_COLUMNS` columns, each the mean of its neighbours."""
    if values.shape[1] <= MAX_COLUMNS:
        return values
    return np.stack([part.mean(axis=1) for part in np.array_split(values, MAX_COLUMNS, axis=1)], axis=1)


def _in_words(chart: HeatMap) -> str:
    values = np.asarray(chart.values, dtype=float)
    row, column = (int(index) for index in np.unravel_index(int(values.argmax()), values.shape))
    return (
        f"{values.shape[0]} rows ({chart.y_label}) by {values.shape[1]} columns ({chart.x_label}). "
        f"{chart.scale_label}: from {show(float(values.min()))} to {show(float(values.max()))}, "
        f"highest in row {row} at {chart.x_label} {show(float(chart.x[column]))}."
    )
