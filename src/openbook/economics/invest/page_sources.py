"""Where an answer's figures come from: how they were made, and each input with its provenance. No torch."""

from __future__ import annotations

import json

from markupsafe import Markup

from openbook.economics.invest import words
from openbook.economics.invest.answer import Answer
from openbook.economics.invest.answer_json import held_backtest, reproduce
from openbook.economics.invest.backtest import conclusion
from openbook.economics.invest.distributions import Distribution
from openbook.economics.invest.register import inconsistencies
from openbook.economics.invest.scenario import Scenario
from openbook.pages.page import NOTHING, Section, fill
from openbook.pages.tables import Column, Table, html_table

_HOW = """<dl class="facts">
<dt>paths</dt><dd>{{ made.num_paths }} in {{ made.num_scrambles }} independent scrambles; standard errors
are the spread between them</dd>
<dt>seed, generator</dt><dd>{{ made.seed }}; {{ made.generator }}</dd>
<dt>versions</dt><dd>{% for name, version in made.versions.items() %}{{ name }} {{ version }}
{{- ", " if not loop.last }}{% endfor %}</dd>
{% if made.held_inputs %}<dt>held by hand</dt><dd>{{ held }}</dd>{% endif %}
<dt>quantiles</dt><dd>q05 lies above 5 % of the paths, q95 above 95 %</dd>
</dl>"""


def how_section(answer: Answer) -> Section:
    """What is needed to make the same figures again."""
    made = reproduce(answer.plan, answer.positions)
    body = fill(_HOW, made=made, held=json.dumps(made["held_inputs"]))
    return Section(id="how", title="How it was computed", short_title="How", body=body)


def backtest_section() -> Section:
    """What was public on one day, as a band, beside what was said later."""
    test, rows = held_backtest()
    columns = ("company", "q05", "median", "q95", "said later", "verdict", "why")
    cells = tuple(
        (
            row.name,
            *(words.billions(row.band[name].value) for name in ("q05", "q50", "q95")),
            _range(row.later_low, row.later_high),
            str(row.verdict),
            row.reason,
        )
        for row in rows
    )
    table = Table(
        columns=tuple(Column(label=label, number=0 < place < 5) for place, label in enumerate(columns)),
        rows=cells,
    )
    text = (
        f"Capex of 2026 by company as one would have put it with what was public on {test.public_until}, "
        f"held against the guidance of the two weeks after. Of these bands, {conclusion(rows)}"
    )
    body = fill("<p>{{ text }}</p>", text=text) + html_table(table)
    return Section(id="backtest", title="What could be tested", short_title="Back-test", body=body)


def _range(low: float, high: float) -> str:
    return words.billions(low) if low == high else f"{words.billions(low)} to {words.billions(high)}"


def register_table() -> Table:
    """Where the articles clash: printed, adopted, why; the same for a terminal."""
    rows = tuple((one.topic, "; ".join(one.printed), one.adopted, one.why) for one in inconsistencies())
    return Table(columns=tuple(map(_plain, ("topic", "printed", "adopted", "why"))), rows=rows)


def _plain(label: str) -> Column:
    return Column(label=label)


def sources_section(answer: Answer) -> Section:
    """Every input, who says it and when."""
    return Section(
        id="sources",
        title="What it rests on",
        short_title="Sources",
        body=html_table(inputs_table(answer.scenario))
        + _ties(answer.scenario)
        + Markup("<h3>Where the articles clash</h3>")
        + html_table(register_table()),
    )


def inputs_table(scenario: Scenario) -> Table:
    """Inputs with values, dates, marks and sources; the same for a terminal."""
    rows = tuple(
        (
            words.input_title(scenario, name),
            shown(name, given),
            given.date.isoformat(),
            str(given.mark),
            given.source + (f" ({given.note})" if given.note else ""),
        )
        for name, given in scenario.inputs.items()
    )
    return Table(
        columns=tuple(
            Column(label=label, number=label == "date")
            for label in ("input", "value or range", "date", "mark", "source")
        ),
        rows=rows,
    )


def shown(name: str, given: Distribution) -> str:
    """A constant, or the middle with its q05 and q95."""
    if given.is_constant:
        return words.input_value(name, given.median)
    low, middle, high = (words.input_value(name, given.quantile(level)) for level in (0.05, 0.5, 0.95))
    return f"{middle} ({low} to {high}, {given.kind})"


def _ties(scenario: Scenario) -> Markup:
    if not scenario.correlations:
        return NOTHING
    lines = []
    for tie in scenario.correlations:
        first, second = (words.input_title(scenario, name) for name in (tie.first, tie.second))
        lines.append(f"{first} with {second}: {tie.rho:+g}")
    template = "<h3>Rank correlations</h3><ul>{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul>"
    return fill(template, lines=lines)
