"""The answer as a page for a board: what must be true, value by scenario, bands over the years, what matters.

    render(answer)                        one self-contained HTML file, without a script
    render(answer, dials=True)            the same as the server serves it, with dials
    parts(answer)                         what changes when a dial is moved, for element_id(name)

No torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from openbook.economics.invest import page_charts, said, words
from openbook.economics.invest.answer import Answer, Row
from openbook.economics.invest.dials import dials_of, show_dial
from openbook.economics.invest.page_sources import backtest_section, how_section, sources_section
from openbook.economics.invest.server import SCRIPT_PATH
from openbook.pages.charts import multiples
from openbook.pages.page import NOTHING, Page, Section, fill, render_page
from openbook.pages.tables import Column, Table, html_table

_OPENING = """<p class="lead">{{ sentence }}</p>
<div class="figures">{% for label, value, detail in figures %}
<div>
<div class="label">{{ label }}</div><div class="value">{{ value }}</div><div class="note">{{ detail }}</div>
</div>
{% endfor %}</div>
{% if note %}<p class="note">{{ note }}</p>{% endif %}"""

_LIST = "<ul>{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul>"

_DECISIONS = """{% for one in decisions %}<div class="decision"><h3>{{ one.who }}: {{ one.question }}</h3>
<p>{{ one.answer }}</p>
<ul>{% for line in one.details %}<li>{{ line }}</li>{% endfor %}</ul>
{% if one.assumes %}<p class="note">Ours: {{ one.assumes }}.</p>{% endif %}</div>
{% endfor %}"""

_DIALS = """<form id="dials" class="dials" autocomplete="off">
{% for one, shown in dials %}
<div><label for="dial-{{ one.dial.name }}">{{ one.dial.title }}</label>
<output id="dial-{{ one.dial.name }}-value" for="dial-{{ one.dial.name }}">{{ shown }}</output>
<input type="range" id="dial-{{ one.dial.name }}" name="{{ one.dial.name }}" min="{{ one.dial.low }}"
 max="{{ one.dial.high }}" step="{{ one.dial.step }}" value="{{ one.value }}" aria-valuetext="{{ shown }}"
 data-scale="{{ one.dial.scale }}" data-digits="{{ one.dial.digits }}" data-before="{{ one.dial.before }}"
 data-after="{{ one.dial.after }}" data-initially="{{ shown }}"></div>
{% endfor %}
<div class="dials-end"><button type="reset">As given</button>
<span id="dials-status" role="status" aria-live="polite"></span></div>
</form>
<p class="note">A dial that you move holds its input at that value, for every company and segment; the inputs
that you leave alone stay uncertain. Every figure is computed again by the code that made this page.</p>"""


def render(answer: Answer, *, dials: bool = False) -> str:
    """The page's text."""
    scenario = answer.scenario
    body = parts(answer)
    sections = [
        *([_dials_section(answer)] if dials else []),
        _section("must", "What must be true", "What must be true", body),
        _section("value", "What it is worth", "Value", body),
        _section("years", "Year by year", "Years", body),
        _section("matters", "What matters most", "What matters", body),
        _section("companies", "Company by company", "Companies", body),
        _section("decisions", "Five who decide", "Decisions", body),
        backtest_section(),
        how_section(answer),
        sources_section(answer),
    ]
    return render_page(
        Page(
            title=scenario.title,
            kicker="Openbook: the $505 billion question",
            opening=_element("opening", body["opening"]),
            sections=tuple(sections),
            footer=f"{said.NO_FORECAST} Made by openbook; the page loads nothing from anywhere else.",
            script=SCRIPT_PATH if dials else "",
        )
    )


def parts(answer: Answer) -> dict[str, Markup]:
    """The parts that hang on the dials, by name."""
    made = {
        "opening": _opening(answer),
        "must": fill(_LIST, lines=said.must_be_true(answer)),
        "value": _value(answer),
        "years": page_charts.fans(answer),
        "matters": _matters(answer),
        "companies": _companies(answer),
        "decisions": fill(_DECISIONS, decisions=answer.decisions),
    }
    return {name: _typeset(body) for name, body in made.items()}


def _typeset(body: Markup) -> Markup:
    """A page has a sign for what a terminal writes as +-."""
    return Markup(str(body).replace("+-", "&plusmn;"))


def element_id(name: str) -> str:
    """The id of the element that holds a part."""
    return f"{name}-part"


def _element(name: str, body: Markup) -> Markup:
    return fill('<div id="{{ id }}">{{ body }}</div>', id=element_id(name), body=body)


def _section(name: str, title: str, short: str, body: dict[str, Markup]) -> Section:
    return Section(id=name, title=title, short_title=short, body=_element(name, body[name]))


def _dials_section(answer: Answer) -> Section:
    shown = []
    for one in dials_of(answer.scenario):
        about = "about " if one.differs else "median " if one.uncertain else ""
        shown.append((one, about + show_dial(one.dial, one.value)))
    return Section(
        id="dials-section", title="Turn the dials", short_title="Dials", body=fill(_DIALS, dials=shown)
    )


def _opening(answer: Answer) -> Markup:
    value, price = answer.value, answer.reached["required_price_ratio"].quantiles
    needed = answer.reached["break_even_utilisation"].quantiles
    busy = float(answer.walk.bands["busy_share"]["q50"].mean())
    figures = [
        (
            "Value after cost of capital",
            words.billions(value.quantiles["q50"].value),
            f"median; {words.SPAN}: {words.span(value)}",
        ),
        (
            "Probability of loss",
            words.percent(value.probability_of_loss.value),
            f"+- {100 * value.probability_of_loss.standard_error:.1f} points of Monte Carlo error",
        ),
        (
            "Prices needed",
            f"{price['q50']:.2f}x" if price else words.NONE,
            f"what is assumed, at its volumes; {words.SPAN}: {price['q05']:.2f}x to {price['q95']:.2f}x"
            if price
            else "nothing is sold",
        ),
        (
            "Busy hours needed",
            words.percent(needed["q50"]) if needed else words.NONE,
            f"of paid hours at the prices assumed; the model has {words.percent(busy)}",
        ),
    ]
    return fill(_OPENING, sentence=said.headline(answer), figures=figures, note=_moved(answer))


def _moved(answer: Answer) -> str:
    if answer.moved is None:
        return ""
    held = ", ".join(
        f"{words.input_title(answer.scenario, name)} {value:g}" for name, value in answer.positions.items()
    )
    mean = answer.moved.mean
    return f"Held by hand: {held}. Path by path that moves the value by {words.with_error(mean)} on average."


def _value(answer: Answer) -> Markup:
    notes = answer.scenario.notes
    return (
        fill("<p>{{ says }}</p>", says=answer.scenario.says)
        + multiples([page_charts.scenario_ranges(answer), page_charts.losses(answer)], large=True)
        + html_table(scenario_table(answer.rows))
        + (fill(_LIST, lines=notes) if notes else NOTHING)
    )


def scenario_table(rows: Sequence[Row]) -> Table:
    """Scenarios side by side; the same for a terminal."""
    columns = ["scenario", "q05", "median", "q95", "mean", "loss", "worst 5 %", "less the first, paired"]
    cells = []
    for row in rows:
        value, less = row.value, row.less_main
        ends = [words.billions(value.quantiles[name].value) for name in ("q05", "q50", "q95")]
        cells.append(
            (
                row.scenario.name,
                *ends,
                words.with_error(value.mean),
                words.with_error(value.probability_of_loss, share=True),
                words.billions(value.expected_shortfall.value),
                "" if less is None else words.with_error(less.mean),
            )
        )
    return Table(
        columns=tuple(Column(label=label, number=place > 0) for place, label in enumerate(columns)),
        rows=tuple(cells),
    )


def _matters(answer: Answer) -> Markup:
    if not answer.tornado:
        return fill('<p class="missing">Every input is a constant: nothing moves the value.</p>')
    text = (
        "In the first chart one input moves at a time and all others stand at their medians, which hides "
        "what inputs do together. In the second all move at once: each bar is the share of the variance "
        "that an input has a part in, the solid piece what it explains alone."
    )
    return fill("<p>{{ text }}</p>", text=text) + multiples(
        [page_charts.tornado(answer), page_charts.indices(answer)], large=True
    )


def _companies(answer: Answer) -> Markup:
    rows = tuple(
        (
            company.title,
            str(company.basis),
            *(
                words.billions(answer.by_company[company.key].quantiles[name].value)
                for name in ("q05", "q50", "q95")
            ),
            words.with_error(answer.by_company[company.key].probability_of_loss, share=True),
        )
        for company in answer.scenario.companies
    )
    columns = ("company", "capex counted as", "q05", "median", "q95", "loss")
    table = Table(
        columns=tuple(Column(label=label, number=place > 1) for place, label in enumerate(columns)), rows=rows
    )
    return html_table(table) + multiples(page_charts.company_fans(answer), large=True)
