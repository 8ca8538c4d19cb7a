from __future__ import annotations

from xml.etree import ElementTree

from openbook.pages.charts import Line, LineChart, line_chart
from openbook.pages.picture import picture

SVG = "{http://www.w3.org/2000/svg}"
TWO = LineChart(
    name="cost",
    title="Cost & load",
    x_label="share",
    y_label="USD",
    lines=(Line(label="output", x=(0.1, 1.0), y=(3.0, 0.3)), Line(label="input", x=(0.1, 1.0), y=(1.0, 0.1))),
    caption="A caption that is long enough to be wrapped over two lines when it is drawn below a chart.",
)


def test_a_picture_stands_alone_and_says_what_its_charts_say() -> None:
    text = picture(
        [
            line_chart(TWO),
            line_chart(LineChart(name="b", title="Other", x_label="x", y_label="y", lines=TWO.lines[:1])),
        ]
    )
    root = ElementTree.fromstring(text)
    words = ["".join(node.itertext()) for node in root.iter(f"{SVG}text")]
    assert {"Cost & load", "output", "input", "Other"} <= set(words)
    assert TWO.caption in " ".join(words)
    assert "var(" not in text
    assert len({node.get("id") for node in root.iter() if node.get("id")}) == len(
        [node for node in root.iter() if node.get("id")]
    )


def test_charts_lie_below_each_other_inside_the_picture() -> None:
    one, two = (
        float(ElementTree.fromstring(picture([line_chart(TWO)] * n)).attrib["height"]) for n in (1, 2)
    )
    assert two > 1.9 * one - 60
    assert picture([line_chart(TWO)]) == picture([line_chart(TWO)])
