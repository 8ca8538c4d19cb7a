"""What an answer comes to in plain sentences, the same in a terminal and on a page. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from openbook.economics.invest import words
from openbook.economics.invest.answer import Answer
from openbook.economics.invest.scenario import Scenario
from openbook.economics.invest.walk import Reached

NO_FORECAST = (
    "No figure here is a forecast by itself: each is read with its band, "
    "and the weights of scenarios are yours."
)


def who(scenario: Scenario) -> str:
    """`Amazon, Alphabet, Meta and Microsoft`."""
    titles = [company.title for company in scenario.companies]
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"


def headline(answer: Answer) -> str:
    """Value, band and probability of loss in two sentences."""
    value, scenario = answer.value, answer.scenario
    middle = value.quantiles["q50"].value
    spending = "spending of " + who(scenario) + " on AI"
    if middle >= 0:
        said = f"is worth {words.billions(middle)} more than it costs in the middle case"
    else:
        said = f"is worth {words.billions(-middle)} less than it costs in the middle case"
    first = f"Under these assumptions the {spending} {said}; nine cases in ten lie from {words.span(value)}."
    loss = words.percent(value.probability_of_loss.value)
    worst = words.billions(value.expected_shortfall.value)
    return f"{first} It loses in {loss} of all cases; the worst twentieth averages {worst}."


def must_be_true(answer: Answer) -> tuple[str, ...]:
    """What would have to hold for the spending to earn its cost of capital."""
    lines = []
    price = answer.reached["required_price_ratio"].quantiles
    if price:
        lines.append(
            f"At the volumes assumed, all prices have to be {words.times(price['q50'])} what is assumed "
            f"({words.SPAN}: {price['q05']:.2f} to {price['q95']:.2f})."
        )
    lines.append(_utilisation(answer))
    lines.append(_payback(answer))
    lines.append(_rate_of_return(answer))
    lines.append(_write_down(answer))
    return tuple(lines)


def matters_most(answer: Answer, num: int = 5) -> tuple[tuple[str, str, str, str], ...]:
    """(input, from and to, value at the one, value at the other) of the widest bars of the tornado."""
    return tuple(
        (
            words.input_title(answer.scenario, bar.name),
            f"{words.input_value(bar.name, bar.low_input)} to {words.input_value(bar.name, bar.high_input)}",
            words.billions(bar.at_low),
            words.billions(bar.at_high),
        )
        for bar in answer.tornado[:num]
    )


def _utilisation(answer: Answer) -> str:
    needed, busy = answer.reached["break_even_utilisation"], answer.walk.bands["busy_share"]["q50"]
    assumed = f"the model keeps them busy {words.percent(float(busy.mean()))} of the time"
    if not needed.quantiles:
        return f"No share of busy hours is enough: what is sold costs more than it brings; {assumed}."
    middle = needed.quantiles["q50"]
    said = (
        "no share of paid hours is enough in the middle case"
        if middle > 1
        else f"machines must be busy {words.percent(middle)} of all paid hours"
    )
    low, high = (words.percent(needed.quantiles[name]) for name in ("q05", "q95"))
    return f"At the prices assumed, {said} ({words.SPAN}: {low} to {high}); {assumed}."


def _payback(answer: Answer) -> str:
    last = answer.scenario.years[-1]
    whole, discounted = answer.reached["payback"], answer.reached["discounted_payback"]
    return (
        f"The money is back by {last} in {_share(whole)} of cases{_when(whole)}, with its cost of capital in "
        f"{_share(discounted)}{_when(discounted)}."
    )


def _share(one: Reached) -> str:
    return words.percent(one.share.value)


def _when(one: Reached) -> str:
    return f" (after {words.years(one.quantiles['q50'])} in the middle of those)" if one.quantiles else ""


def _rate_of_return(answer: Answer) -> str:
    roots, paths = answer.middle.irr_roots, answer.reached["irr"]
    if not roots:
        said = "has no internal rate of return"
    elif len(roots) == 1:
        said = f"has an internal rate of return of {words.finer_percent(round(roots[0], 3))}"
    else:
        listed = ", ".join(words.finer_percent(round(root, 3)) for root in roots)
        said = f"has {len(roots)} internal rates of return ({listed}), so none of them is to be used"
    mirr = answer.reached["mirr"].quantiles
    modified = f"; modified, {_band(mirr)}" if mirr else ""
    alone = f"{_share(paths)} of cases have just one"
    return f"With every input in its middle the spending {said}; {alone}{modified}."


def _band(quantiles: Mapping[str, float]) -> str:
    low, middle, high = (words.percent(quantiles[name]) for name in ("q05", "q50", "q95"))
    return f"{middle} ({words.SPAN}: {low} to {high})"


def _write_down(answer: Answer) -> str:
    chance = words.with_error(answer.write_down_probability, share=True)
    mean = answer.write_down_mean
    if not math.isfinite(mean.value):
        return "In no case is anything written down."
    return f"Something is written down in {chance} of cases, {words.with_error(mean)} on average where it is."
