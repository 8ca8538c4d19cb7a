"""Charts: what they say to readers who see them and to readers who do not, and that ids are their own."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from openbook.pages.bars import Bar, BarChart, bar_chart
from openbook.pages.charts import Line, LineChart, line_chart, multiples, running_mean, show
from openbook.pages.heat import MAX_COLUMNS, HeatMap, heat_map

LOSS = LineChart(
    name="loss",
    title="Loss & more",
    x_label="step",
    y_label="nats a token",
    lines=(
        Line(label="train", x=(1, 2, 3), y=(3.0, math.nan, 2.0), smoothing=3),
        Line(label="held out", x=(1, 3), y=(3.1, 2.2), low=(3.0, 2.1), high=(3.2, 2.3), points=True),
    ),
    caption="Lower is better.",
)


def parsed(html: Markup) -> ElementTree.Element:
    """The figure as XML: a stricter reader than any browser."""
    return ElementTree.fromstring(str(html))


@pytest.fixture(scope="module")
def figure() -> Markup:
    return line_chart(LOSS)


def test_a_chart_says_in_words_what_it_shows(figure: Markup) -> None:
    svg = parsed(figure).find("svg")
    assert svg is not None and svg.get("role") == "img"
    assert svg.get("aria-labelledby") == "loss-title loss-desc"
    assert svg.findtext("title") == "Loss & more"
    description = svg.findtext("desc") or ""
    assert "train: 3 at step 1, 2 at 3; lowest 2, highest 3." in description
    assert "held out: 3.1 at step 1, 2.2 at 3" in description


def test_a_chart_has_a_title_a_legend_and_a_caption_as_text(figure: Markup) -> None:
    element = parsed(figure)
    assert element.findtext("h3") == "Loss & more"
    assert [item.text or "".join(item.itertext()) for item in element.findall("ul/li")] == [
        "train",
        "held out",
    ]
    assert element.findtext("figcaption") == "Lower is better."
    texts = [text.text for text in element.iter("text")]
    assert "step" in texts and "nats a token" in texts, "labels stay text, so that they can be read and found"


def test_colours_follow_the_readers_theme(figure: Markup) -> None:
    assert "var(--series-1, #" in figure and "var(--ink" not in figure.split("<svg")[0]
    assert "#fe" not in figure, "a colour that stands for a role was left over"
    fixed = re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", figure)
    assert not fixed, f"these colours do not follow the theme: {set(fixed)}"


def test_every_id_is_the_charts_own_so_that_charts_can_share_a_page(figure: Markup) -> None:
    element = parsed(figure)
    ids = [one.get("id") or "" for one in element.iter() if one.get("id")]
    assert ids and all(name.startswith("loss-") for name in ids) and len(set(ids)) == len(ids)
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", figure))
    assert used and used <= set(ids)


def test_a_second_line_differs_in_dashes_and_not_only_in_colour(figure: Markup) -> None:
    assert "stroke-dasharray: 6 2.5" in figure.split("</ul>")[0]
    assert "stroke-dasharray" in figure.split("</ul>")[1]


def test_nothing_of_matplotlibs_own_style_or_metadata_gets_out(figure: Markup) -> None:
    assert "<style" not in figure and "metadata" not in figure and "DejaVu" not in figure
    assert "http" not in figure


def test_the_same_chart_gives_the_same_text(figure: Markup) -> None:
    assert line_chart(LOSS) == figure


def test_a_line_without_any_finite_value_is_drawn_as_nothing() -> None:
    chart = LineChart(
        name="n", title="t", x_label="x", y_label="y", lines=(Line(label="a", x=(1,), y=(math.nan,)),)
    )
    assert "a: no finite value." in line_chart(chart)


@pytest.mark.parametrize(
    ("values", "window", "means"),
    [
        ([1, 2, 3], 1, [1, 2, 3]),
        ([1, 2, 6], 3, [1.5, 3, 4]),
        ([1, math.nan, 3], 3, [1, 2, 3]),
        ([5], 9, [5]),
        ([1, 2, 3, 4], 99, [2.5] * 4),
    ],
)
def test_the_running_mean_is_centred_and_knows_gaps(
    values: list[float], window: int, means: list[float]
) -> None:
    assert running_mean(values, window) == pytest.approx(means)


def test_a_window_of_gaps_is_a_gap() -> None:
    assert math.isnan(running_mean([math.nan, math.nan, math.nan, 1], 3)[0])


@pytest.mark.parametrize(
    ("value", "percent", "shown"),
    [(0.5, True, "50%"), (0.125, True, "12.5%"), (0.00012, False, "0.00012"), (13500, False, "13.5K")],
)
def test_numbers_are_short(value: float, percent: bool, shown: str) -> None:
    assert show(value, percent=percent) == shown


def test_bars_carry_their_sums_and_parts() -> None:
    bars = (Bar(label="zero", values=(2, 1), shown="$3"), Bar(label="a<b", values=(1, 0), shown="$1"))
    element = parsed(bar_chart(BarChart(name="bill", title="Bill", parts=("kept", "lost"), bars=bars)))
    texts = [text.text for text in element.iter("text")]
    assert texts.count("zero") == 1 and "a<b" in texts and "$3" in texts
    assert element.findtext("svg/desc") == "zero: $3; a<b: $1."
    assert len(element.findall("ul/li")) == 2


def test_bars_of_nothing_are_drawn() -> None:
    chart = BarChart(name="b", title="t", parts=("cost",), bars=(Bar(label="x", values=(0,), shown="$0"),))
    assert parsed(bar_chart(chart)).find("svg") is not None


def test_a_bar_with_too_few_parts_is_a_programmers_mistake() -> None:
    with pytest.raises(AssertionError):
        BarChart(name="b", title="t", parts=("a", "b"), bars=(Bar(label="x", values=(0,), shown=""),))


def heat(num_columns: int) -> HeatMap:
    return HeatMap(
        name="load",
        title="Layer 1",
        x_label="step",
        y_label="expert",
        x=list(range(num_columns)),
        values=[[1.0] * num_columns, [1.0] * (num_columns - 1) + [3.0]],
        low=0,
        high=2,
        scale_label="load / even share",
    )


def test_a_heat_map_is_one_small_picture_with_its_extremes_in_words() -> None:
    html = heat_map(heat(5))
    assert 'width="5" height="2"' in html and "data:image/png;base64," in html
    assert "2 rows (expert) by 5 columns (step)" in html
    assert "from 1 to 3, highest in row 1 at step 4" in html


def test_a_heat_map_of_many_steps_is_averaged_to_what_can_be_seen() -> None:
    assert f'width="{MAX_COLUMNS}" height="2"' in heat_map(heat(10 * MAX_COLUMNS))


def test_multiples_hold_their_charts() -> None:
    assert multiples([Markup("<i>1</i>"), Markup("<i>2</i>")], large=True).count("<i>") == 2


def test_importing_the_charts_does_not_import_matplotlib() -> None:
    code = "import sys; from openbook.pages import bars, charts, heat; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
