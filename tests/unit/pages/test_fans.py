"""Fan charts and tornado charts: what they say to all readers, and that shades and hatches tell apart."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from openbook.pages.fans import FanChart, Points, Span, fan_chart
from openbook.pages.ranges import Range, RangeChart, range_chart
from openbook.pages.tornado import Swing, TornadoChart, tornado_chart

FAN = FanChart(
    name="flow",
    title="Free cash flow",
    x_label="year",
    y_label="$B",
    x=(2026, 2027, 2028),
    middle=(-90, 20, 40),
    bands=(
        Span(label="5 to 95 %", low=(-120, -60, -20), high=(-70, 90, 150)),
        Span(label="25 to 75 %", low=(-100, 0, 10), high=(-80, 50, 80)),
    ),
    marks=Points(label="announced", x=(2026,), values=(-95,)),
)
TORNADO = TornadoChart(
    name="what",
    title="What matters",
    unit="NPV in $B",
    base=10,
    swings=(
        Swing(label="life", low=5, high=15, detail="3 to 6 years"),
        Swing(label="price", low=30, high=-40, detail="$1 to $2"),
    ),
)


def parsed(html: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(str(html))


def test_a_fan_says_its_median_and_its_bands_at_both_ends() -> None:
    said = parsed(fan_chart(FAN)).findtext("svg/desc") or ""
    assert "2026: median -90, 5 to 95 % from -120 to -70, 25 to 75 % from -100 to -80." in said
    assert "2028: median 40, 5 to 95 % from -20 to 150" in said


def test_the_bands_of_a_fan_are_told_apart_by_shade_and_every_part_has_a_key() -> None:
    figure = parsed(fan_chart(FAN))
    labels = ["".join(item.itertext()) for item in figure.findall("ul/li")]
    assert labels == ["median", "5 to 95 %", "25 to 75 %", "announced"]
    shades = [
        line.get("style", "").partition("stroke-opacity: ")[2] for line in figure.findall("ul/li/svg/line")
    ]
    assert shades[0] == shades[3] == "" and 0 < float(shades[1]) < float(shades[2]) < 1


def test_a_fan_shows_years_as_years() -> None:
    texts = [text.text for text in parsed(fan_chart(FAN)).iter("text")]
    assert "2026" in texts and "2028" in texts and "2.0K" not in texts


@pytest.mark.parametrize("low", [(-60,), (-60, 0, 90)])
def test_a_band_that_is_short_or_upside_down_is_a_programmers_mistake(low: tuple[float, ...]) -> None:
    with pytest.raises(AssertionError):
        FanChart(
            name="f",
            title="t",
            x_label="x",
            y_label="y",
            x=(1, 2, 3),
            middle=(0, 0, 0),
            bands=(Span(label="b", low=low, high=(1, 2, 3)),),
        )


def test_a_tornado_puts_the_widest_swing_first_and_keeps_which_end_is_which() -> None:
    figure = parsed(tornado_chart(TORNADO))
    said = figure.findtext("svg/desc") or ""
    assert said.index("price: 30 when low, -40 when high.") < said.index("life: 5 when low, 15 when high.")
    assert "NPV in $B, 10 with every input in its middle." in said
    texts = [text.text or "" for text in figure.iter("text")]
    assert [text for text in texts if text.startswith(("life", "price"))] == [
        "price: $1 to $2",
        "life: 3 to 6 years",
    ]


def test_the_two_ends_of_a_tornado_differ_in_hatching() -> None:
    html = str(tornado_chart(TORNADO))
    assert "<pattern" in html and "stroke-dasharray: 3 1.5" in html.split("</ul>")[0]
    assert "#fe" not in html, "a colour that stands for a role was left over"


def test_ranges_say_their_ends_and_refuse_ones_that_do_not_rise() -> None:
    one = Range(label="payoff", wide=(-20, 90), narrow=(10, 50), middle=30)
    chart = RangeChart(
        name="cases",
        title="Value",
        unit="NPV in $B",
        ranges=(one,),
        wide_label="5 to 95 %",
        narrow_label="25 to 75 %",
    )
    figure = parsed(range_chart(chart))
    said = figure.findtext("svg/desc") or ""
    assert "payoff: median 30, 25 to 75 % 10 to 50, 5 to 95 % -20 to 90." in said
    labels = ["".join(item.itertext()) for item in figure.findall("ul/li")]
    assert labels == ["median", "25 to 75 %", "5 to 95 %"]
    assert "payoff" in [text.text for text in figure.iter("text")]
    with pytest.raises(AssertionError, match="do not rise"):
        Range(label="x", wide=(0, 5), narrow=(-1, 3), middle=2)
