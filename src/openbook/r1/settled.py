"""A folder's forecast against what its runs took: the comparison, and how a report and a terminal show it."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from openbook.economics.local.forecast_file import read_forecast
from openbook.economics.local.settlement import Settlement, settle
from openbook.ledger.prices import PricePlan
from openbook.pages.bars import Bar, BarChart, bar_chart
from openbook.pages.charts import multiples
from openbook.pages.page import Section, fill, missing
from openbook.pages.tables import ABSENT, Column, Table, html_table
from openbook.r1.past import PastReader
from openbook.runs.store import find_runs
from openbook.units import show_seconds, show_usd, to_nano_usd

_BODY = """<p>{{ sentence }}</p>
{{ charts }}
{{ table }}
<p class="note">{{ note }}</p>"""

_NOTE = """The bar is the device time that a stage took, the line the 80 % band of the forecast that was
written when the work began. Price: another price than forecast. Tokens: more or fewer of them, by the
forecast's own model of time. Efficiency: the time that those tokens took beside what the model says of them.
Lost time: work that came to nothing. The four add up to the difference."""


def settled_folder(folder: Path, prices: PricePlan) -> Settlement | None:
    """The forecast in `folder` against the runs below it; None where none was made.

    Raises UserError for a damaged forecast, or a device without a price.
    """
    found = read_forecast(folder)
    if found is None:
        return None
    reader = PastReader()
    read = [(run, reader.read(run)) for run in find_runs(folder, on_broken=lambda _: None)]
    runs = [(run, past) for run, past in read if past is not None]
    usd_per_hour: dict[str, Decimal] = {}
    for run, past in runs:
        price = prices.price(prices.resource_of(past.device), run.manifest.created_at.date())
        usd_per_hour[past.device] = price.price_usd
    return settle(found, [past for _, past in runs], usd_per_hour)


def settlement_table(found: Settlement) -> Table:
    """A line for each stage: both times, and the causes of the difference as shares of the forecast cost.

    The total has those in dollars. The errors are of processor seconds, with the lengths of completions as
    forecast and with those that there were.
    """
    rows = [
        (
            one.name,
            show_seconds(one.forecast.device_seconds.value),
            f"{show_seconds(one.forecast.device_seconds.low)} to "
            f"{show_seconds(one.forecast.device_seconds.high)}",
            show_seconds(one.device_seconds + one.lost_device_seconds),
            f"{one.error:+.0%}",
            f"{one.error_realised:+.0%}",
            *(_share(part, one.variance.forecast_usd) for part in one.variance.parts().values()),
        )
        for one in found.stages
    ]
    forecast = sum(one.forecast.device_seconds.value for one in found.stages)
    actual = sum(one.device_seconds + one.lost_device_seconds for one in found.stages)
    total = (
        "total",
        show_seconds(forecast),
        "",
        show_seconds(actual),
        f"{found.error:+.0%}",
        f"{found.error_realised:+.0%}",
        *map(_signed_usd, found.variance.parts().values()),
    )
    labels = ("forecast", "80 % band", "actual", "CPU error", "real lengths", *found.variance.parts())
    columns = (Column(label="stage"), *(Column(label=label, number=True) for label in labels))
    return Table(columns=columns, rows=tuple(rows), total=total)


def settlement_sentence(found: Settlement) -> str:
    """The whole in words: what was forecast, what it was, and the greatest cause of the difference."""
    variance = found.variance
    cause = max(variance.parts(), key=lambda name: abs(variance.parts()[name]))
    inside = sum(one.is_in_band for one in found.stages)
    text = (
        f"Forecast {_usd(variance.forecast_usd)}, actual {_usd(variance.actual_usd)}: a difference of "
        f"{_signed_usd(variance.difference)}, most of it by {cause}. "
        f"{inside} of {len(found.stages)} stages ended inside their band."
    )
    if found.open_stages:
        text += f" Not finished: {', '.join(found.open_stages)}."
    return text


def settlement_section(folder: Path, prices: PricePlan) -> Section:
    """The comparison for a report; a sentence where there is none."""
    found = settled_folder(folder, prices)
    if found is None or not found.stages:
        body = missing("No forecast was written when this work began, or no stage of it is finished.")
    else:
        bars = tuple(
            Bar(
                label=one.name,
                values=(one.device_seconds,),
                shown=show_seconds(one.device_seconds),
                interval=(one.forecast.device_seconds.low, one.forecast.device_seconds.high),
            )
            for one in found.stages
        )
        chart = BarChart(
            name="forecast-actual", title="Device time and its forecast", parts=("actual",), bars=bars
        )
        body = fill(
            _BODY,
            sentence=settlement_sentence(found),
            charts=multiples([bar_chart(chart)], large=True),
            table=html_table(settlement_table(found)),
            note=_NOTE,
        )
    return Section(id="forecast", short_title="Forecast", title="Forecast and actual", body=body)


def _usd(value: Fraction) -> str:
    return show_usd(to_nano_usd(Decimal(value.numerator) / Decimal(value.denominator)))


def _share(part: Fraction, whole: Fraction) -> str:
    if not part:
        return "0 %"
    return f"{float(part / whole):+.1%}" if whole else ABSENT


def _signed_usd(value: Fraction) -> str:
    shown = _usd(abs(value))
    return "$0" if not value else f"{'+' if value > 0 else '-'}{shown}"
