"""The charts of an answer's page. No torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from openbook.economics.invest import words
from openbook.economics.invest.answer import Answer
from openbook.economics.invest.distributions import Floats
from openbook.economics.invest.statistics import Summary
from openbook.pages.bars import Bar, BarChart, bar_chart
from openbook.pages.charts import multiples
from openbook.pages.fans import FanChart, Span, fan_chart
from openbook.pages.ranges import Range, RangeChart, range_chart
from openbook.pages.tornado import Swing, TornadoChart, tornado_chart

NUM_BARS = 10
OUTER, INNER = "q05 to q95", "q25 to q75"

_FANS: tuple[tuple[str, str, str, str], ...] = (
    ("capex", "Spending", "USD billion a year", "Capex into AI, on each company's own basis."),
    (
        "revenue",
        "Revenue captured",
        "USD billion a year",
        "The lesser of what is asked for and what can be served.",
    ),
    ("free_cash_flow", "Free cash flow", "USD billion a year", "After cash capex, leases and tax."),
    (
        "value_so_far",
        "Value so far",
        "USD billion",
        "Discounted cash flow up to the year; above zero the money is back with its cost of capital.",
    ),
    ("gross_margin", "Gross margin", "% of revenue", "After depreciation, energy and running cost."),
    ("busy_share", "Busy hours", "% of paid hours", "Training included."),
    (
        "write_down",
        "Written down",
        "USD billion a year",
        "Where machines stand in the books above what they bring.",
    ),
    (
        "demand_over_capacity",
        "Demand over capacity",
        "times",
        "Machine hours that would be bought over those for sale; above 1 some demand is not served.",
    ),
    ("depreciation", "Depreciation", "USD billion a year", "Trails the spending, so margins do too."),
)


def fans(answer: Answer) -> Markup:
    """Bands over the years, summed over companies."""
    drawn = []
    for place, (name, title, unit, caption) in enumerate(_FANS):
        bands = answer.walk.bands[name]
        scale = 100.0 if unit.startswith("%") else 1.0
        chart = _fan(f"fan-{name}", answer, bands, scale)
        if chart is not None:
            drawn.append(_drawn(chart, title=title, y_label=unit, caption=caption, color=place % 3))
    return multiples(drawn)


def company_fans(answer: Answer) -> list[Markup]:
    """Free cash flow of each company."""
    drawn = []
    for company in answer.scenario.companies:
        chart = _fan(f"company-{company.key}", answer, answer.walk.company_bands[company.key], 1.0)
        if chart is not None:
            drawn.append(
                _drawn(
                    chart,
                    title=company.title,
                    y_label="free cash flow, USD billion a year",
                    caption="",
                    color=0,
                )
            )
    return drawn


_Fan = tuple[str, list[float], dict[str, list[float]]]


def _fan(name: str, answer: Answer, bands: Mapping[str, Floats], scale: float) -> _Fan | None:
    """Years in which there is a number, and quantiles there; None where there is none at all."""
    exists = np.all([np.isfinite(values) for values in bands.values()], axis=0)
    x = [float(year) for year, there in zip(answer.scenario.years, exists, strict=True) if there]
    if not x:
        return None
    return name, x, {q: [float(one) * scale for one in values[exists]] for q, values in bands.items()}


def _drawn(fan: _Fan, *, title: str, y_label: str, caption: str, color: int) -> Markup:
    name, x, values = fan
    return fan_chart(
        FanChart(
            name=name,
            title=title,
            x_label="year",
            y_label=y_label,
            x=x,
            middle=values["q50"],
            bands=(
                Span(label=OUTER, low=values["q05"], high=values["q95"]),
                Span(label=INNER, low=values["q25"], high=values["q75"]),
            ),
            caption=caption,
            color=color,
        )
    )


def scenario_ranges(answer: Answer) -> Markup:
    """The value in each scenario."""
    return range_chart(
        RangeChart(
            name="scenarios",
            title="Value after cost of capital, by scenario",
            unit="NPV in USD billion",
            ranges=tuple(_range(row.scenario.title, row.value) for row in answer.rows),
            wide_label=OUTER,
            narrow_label=INNER,
            caption="NPV in USD billion. All scenarios take the same random numbers.",
        )
    )


def losses(answer: Answer) -> Markup:
    """The probability of a loss in each scenario."""
    bars = tuple(
        Bar(
            label=row.scenario.name.replace("_", " "),
            values=(row.value.probability_of_loss.value,),
            shown=words.with_error(row.value.probability_of_loss, share=True),
        )
        for row in answer.rows
    )
    return bar_chart(
        BarChart(
            name="losses",
            title="Probability of a loss",
            parts=("loss",),
            bars=bars,
            full=1.0,
            caption="Share of the paths whose value is below zero, with its Monte Carlo error in points.",
        )
    )


def _range(label: str, summary: Summary) -> Range:
    q = {name: one.value for name, one in summary.quantiles.items()}
    return Range(label=label, wide=(q["q05"], q["q95"]), narrow=(q["q25"], q["q75"]), middle=q["q50"])


def tornado(answer: Answer) -> Markup:
    """The inputs that move the value most."""
    bars = answer.tornado[:NUM_BARS]
    return tornado_chart(
        TornadoChart(
            name="tornado",
            title="One input at a time",
            unit="NPV in USD billion",
            base=bars[0].base,
            swings=tuple(
                Swing(
                    label=words.input_title(answer.scenario, bar.name),
                    low=bar.at_low,
                    high=bar.at_high,
                    detail=f"{words.input_value(bar.name, bar.low_input)} to "
                    f"{words.input_value(bar.name, bar.high_input)}",
                )
                for bar in bars
            ),
            low_label="at its q10",
            high_label="at its q90",
            caption="NPV in USD billion; the line is the value with every input at its median.",
        )
    )


def indices(answer: Answer) -> Markup:
    """First and total Sobol' index of the inputs with the largest totals; small negative ones are noise."""
    bars = []
    for index in answer.indices[:NUM_BARS]:
        first, total = max(index.first.value, 0.0), max(index.total.value, 0.0)
        alone = min(first, total)
        bars.append(
            Bar(
                label=words.input_title(answer.scenario, index.name),
                values=(alone, total - alone),
                shown=f"{words.percent(index.total.value)} +- {100 * index.total.standard_error:.0f}",
            )
        )
    return bar_chart(
        BarChart(
            name="indices",
            title="All inputs at once",
            parts=("alone", "together with others"),
            bars=tuple(bars),
            above=True,
            caption="Share of the variance of the NPV that an input has a part in (total Sobol' index).",
        )
    )
