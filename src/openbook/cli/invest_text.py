"""`openbook invest` as one page of text, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from openbook.cli.render import print_json, print_table
from openbook.economics.invest import said, words
from openbook.economics.invest.answer import Answer, Row
from openbook.economics.invest.answer_json import answer_to_json, register_to_json, scenario_to_json
from openbook.economics.invest.page import render, scenario_table
from openbook.economics.invest.page_sources import inputs_table
from openbook.economics.invest.register import inconsistencies
from openbook.economics.invest.scenario import Scenario
from openbook.pages.tables import text_table

WIDTH = 100


def page_of(answer: Answer) -> str:
    """The page for a board."""
    return render(answer)


def show_answer(answer: Answer, weights: Mapping[str, float], as_json: bool) -> None:
    """One page: value, what must be true, scenarios, what matters, what it rests on."""
    mixed = mixture(answer.rows, weights)
    if as_json:
        print_json({**answer_to_json(answer), "mixture": mixed})
        return
    scenario = answer.scenario
    print(f"{scenario.title} ({scenario.name}, as of {scenario.as_of})\n")
    _paragraph(scenario.says)
    _paragraph(said.headline(answer))
    if answer.moved is not None:
        held = ", ".join(f"{name} = {value:g}" for name, value in answer.positions.items())
        _paragraph(
            f"Held by hand: {held}. That moves it by {words.with_error(answer.moved.mean)}, path by path."
        )
    print("\nWhat must be true")
    for line in said.must_be_true(answer):
        _paragraph(line, bullet="- ")
    print("\nValue by scenario: net present value; +- is the Monte Carlo standard error")
    print(text_table(scenario_table(answer.rows)))
    if mixed:
        shares = ", ".join(f"{name} {weight:.3g}" for name, weight in weights.items())
        _paragraph(
            f"Mixed by your weights ({shares}): "
            f"{words.billions(mixed['mean_usd_billion'])} on average, a loss in "
            f"{words.percent(mixed['probability_of_loss'])}."
        )
    _show_matters(answer)
    print("\nWho decides what")
    for decision in answer.decisions:
        _paragraph(f"{decision.who}: {decision.answer}", bullet="- ")
    print()
    for note in scenario.notes:
        _paragraph(f"Note: {note}")
    _paragraph(said.NO_FORECAST)
    plan = answer.plan
    print(f"{plan.num_paths:,} paths, seed {plan.seed}; sources: openbook invest {scenario.name} --sources")


def mixture(rows: tuple[Row, ...], weights: Mapping[str, float]) -> dict[str, float]:
    """Mean and probability of loss over scenarios by weights that the user gave; {} for none."""
    if not weights:
        return {}
    by_name = {row.scenario.name: row.value for row in rows}
    return {
        "mean_usd_billion": sum(weight * by_name[name].mean.value for name, weight in weights.items()),
        "probability_of_loss": sum(
            weight * by_name[name].probability_of_loss.value for name, weight in weights.items()
        ),
    }


def show_sources(scenario: Scenario, as_json: bool) -> None:
    """Every input with its provenance."""
    if as_json:
        print_json({**scenario_to_json(scenario), "inconsistencies": register_to_json()})
        return
    print(text_table(inputs_table(scenario)))
    print("\nWhere the articles clash\n")
    for one in inconsistencies():
        print(one.topic)
        _paragraph(f"printed: {'; '.join(one.printed)}", bullet="  ")
        _paragraph(f"adopted: {one.adopted}", bullet="  ")
        _paragraph(f"why: {one.why}", bullet="  ")


def _show_matters(answer: Answer) -> None:
    if not answer.tornado:
        print("\nEvery input is a constant: nothing moves the value.")
        return
    print("\nWhat matters most: value with one input at its q10 and at its q90, all others at their medians")
    columns = ["input", "q10 to q90", "at q10", "at q90"]
    print_table(columns, said.matters_most(answer), right=columns[2:])


def _paragraph(text: str, *, bullet: str = "") -> None:
    print(textwrap.fill(text, WIDTH, initial_indent=bullet, subsequent_indent=" " * len(bullet)))
