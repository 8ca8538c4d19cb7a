"""The answer: paths reduced whatever the chunk, paired with others, moved by what is held."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from openbook.economics.invest import walk as walking
from openbook.economics.invest.answer import Answer, Study, answer, prepare
from openbook.economics.invest.answer_json import answer_to_json, number
from openbook.economics.invest.assumptions import load_scenario
from openbook.economics.invest.dials import DIALS, dials_of, held, matching
from openbook.economics.invest.model import simulate
from openbook.economics.invest.sampling import Plan
from openbook.economics.invest.scenario import Scenario
from openbook.economics.invest.walk import SERIES, chunks, reached, total_npv, walk
from openbook.errors import UserError

PLAN = Plan(num_paths=256, seed=3)


@pytest.fixture(scope="module")
def article() -> Scenario:
    return load_scenario("article")


@pytest.fixture(scope="module")
def study(article: Scenario) -> Study:
    return prepare(article, others=(load_scenario("bubble"),), plan=PLAN, movable=True)


@pytest.fixture(scope="module")
def found(study: Study) -> Answer:
    return answer(study)


def all_draws(study: Study, scenario: Scenario) -> dict[str, np.ndarray]:
    return study.sampler.draw(scenario.inputs, walking.correlations_of(scenario))


def test_walking_in_chunks_equals_simulating_all_paths_at_once(
    study: Study, article: Scenario, found: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = simulate(article, all_draws(study, article))
    assert found.walk.npv == pytest.approx(whole.npv, rel=1e-12)
    monkeypatch.setattr(walking, "CHUNK_PATHS", 7)
    again = walk(article, study.sampler)
    assert again.npv == pytest.approx(whole.npv, rel=1e-12)
    for name in SERIES:
        assert again.bands[name]["q05"] == pytest.approx(found.walk.bands[name]["q05"], rel=1e-9)


def test_bands_are_of_the_simulated_years(study: Study, article: Scenario, found: Answer) -> None:
    whole = simulate(article, all_draws(study, article))
    revenue = whole.revenue.sum(axis=0)
    by_scramble = revenue.reshape(revenue.shape[0], PLAN.num_scrambles, -1)
    expected = np.quantile(by_scramble, 0.95, axis=-1).mean(axis=-1)
    assert found.walk.bands["revenue"]["q95"] == pytest.approx(expected, rel=1e-9)
    meta = [company.key for company in article.companies].index("meta")
    flow = whole.free_cash_flow[meta].reshape(revenue.shape[0], PLAN.num_scrambles, -1)
    expected = np.quantile(flow, 0.5, axis=-1).mean(axis=-1)
    assert found.walk.company_bands["meta"]["q50"] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_value_so_far_ends_where_the_value_does_but_for_what_is_left(
    study: Study, article: Scenario
) -> None:
    fixed = Study(
        scenario=article,
        others=(),
        sampler=study.sampler,
        index_plan=study.index_plan,
        npv_of={},
    )
    held_all = {name: given.median for name, given in article.inputs.items() if not given.is_constant}
    scenario = article
    for name, value in held_all.items():
        scenario = scenario.with_value(name, value)
    one = walk(scenario, fixed.sampler)
    outcome = simulate(scenario, {})
    left = outcome.terminal.sum() / (1 + held_all["discount_rate"]) ** article.num_years
    so_far = one.bands["value_so_far"]["q50"][-1]
    assert so_far + left == pytest.approx(outcome.npv.sum(), rel=1e-9)
    assert np.ptp(one.total_npv) == 0 and one.npv.shape[1] == PLAN.num_paths


def test_differences_to_other_scenarios_are_taken_path_by_path(study: Study, found: Answer) -> None:
    bubble = study.others[0]
    less = total_npv(bubble, all_draws(study, bubble)) - found.walk.total_npv
    assert found.rows[1].less_main is not None
    assert found.rows[1].less_main.mean.value == pytest.approx(less.mean(), rel=1e-9)
    apart = math.hypot(found.rows[0].value.mean.standard_error, found.rows[1].value.mean.standard_error)
    assert found.rows[1].less_main.mean.standard_error < apart


def test_figures_of_a_scenario_do_not_hang_on_what_it_is_compared_with(
    study: Study, article: Scenario, found: Answer
) -> None:
    alone = answer(prepare(article, plan=PLAN), with_indices=False)
    assert alone.value == found.value and alone.indices == () and alone.moved is None
    mine = replace(article.with_value("meta.rent", 9.0), name="mine")
    beside = answer(prepare(article, others=(mine,), plan=PLAN), with_indices=False)
    assert beside.value == found.value


def test_an_input_held_moves_the_value_path_by_path(study: Study, found: Answer) -> None:
    busier = answer(study, {"utilisation": 0.9}, with_indices=False)
    moved = busier.walk.total_npv - found.walk.total_npv
    assert busier.moved is not None and busier.moved.mean.value == pytest.approx(moved.mean(), rel=1e-9)
    assert busier.moved.mean.value > 0, "more hours from the same machines"
    assert "utilisation" not in {bar.name for bar in busier.tornado}
    assert answer(study, {}, with_indices=False).value == found.value


def test_one_name_holds_all_inputs_of_that_kind_and_a_companys_own_wins(article: Scenario) -> None:
    elastic = held(article, {"elasticity": -1.3})
    names = matching(article, "elasticity")
    assert len(names) == len(article.segments)
    assert all(elastic.inputs[name].median == -1.3 and elastic.inputs[name].is_constant for name in names)
    both = held(article, {"meta.training_share": 0.2, "training_share": 0.4})
    assert both.inputs["meta.training_share"].median == 0.2
    assert both.inputs["alphabet.training_share"].median == both.inputs["training_share"].median == 0.4
    assert held(article, {"meta.rent": 9.0}).inputs["meta.rent"].median == 9.0
    with pytest.raises(UserError, match="did you mean 'utilisation'"):
        held(article, {"utilisatoin": 0.5})
    with pytest.raises(UserError, match="out of bounds"):
        held(article, {"utilisation": 50})


def test_dials_start_at_the_medians_and_hold_them(article: Scenario) -> None:
    dials = {one.dial.name: one for one in dials_of(article)}
    assert set(dials) == {dial.name for dial in DIALS}
    assert dials["seat_price"].value == 30 and not dials["seat_price"].uncertain
    assert dials["discount_rate"].uncertain and dials["elasticity"].differs
    assert all(one.dial.low <= one.value <= one.dial.high for one in dials.values())
    dear = article.with_value("seat_price", 500.0)
    assert {one.dial.name: one.dial.high for one in dials_of(dear)}["seat_price"] == 500
    for dial in DIALS:
        for end in (dial.low, dial.high):
            held(article, {dial.name: end})  # no dial can be turned to where it is refused


def test_a_scenario_without_uncertainty_has_a_value_and_no_spread(article: Scenario) -> None:
    certain = article
    for name in article.uncertain:
        certain = certain.with_value(name, article.inputs[name].median)
    found = answer(prepare(replace(certain, name="certain"), plan=PLAN))
    assert found.tornado == () and found.indices == ()
    assert found.value.sd.value == pytest.approx(0, abs=1e-9)
    assert found.value.mean.value == pytest.approx(found.middle.npv, rel=1e-9)
    json.dumps(answer_to_json(found), allow_nan=False)


def test_chunks_hold_every_path_once_and_in_order(study: Study, article: Scenario) -> None:
    draws = all_draws(study, article)
    together = np.concatenate([outcome.npv.sum(axis=0) for outcome, _ in chunks(article, draws)])
    assert together.shape == (PLAN.num_paths,)
    assert together == pytest.approx(simulate(article, draws).npv.sum(axis=0), rel=1e-12)


def test_a_number_that_not_every_path_has_says_how_many_have_it() -> None:
    values = np.array([1.0, np.nan, 3.0, 5.0] * 8)
    one = reached(values, 16)
    assert one.share.value == 0.75 and one.quantiles["q50"] == 3
    none = reached(np.full(32, np.nan), 16)
    assert none.share.value == 0 and none.quantiles == {}


def test_json_holds_no_number_that_does_not_exist(found: Answer) -> None:
    assert number(math.nan) is None and number(math.inf) is None and number(1.5) == 1.5
    said = json.loads(json.dumps(answer_to_json(found), allow_nan=False))
    assert said["npv_usd_billion"]["q50"]["value"] == found.value.quantiles["q50"].value
    assert [one["who"] for one in said["decisions"]] == [
        "Investor",
        "Enterprise buyer",
        "Startup",
        "Supplier",
        "Worker",
    ]
    assert said["backtest"]["public_until"] == "2026-01-29" and len(said["inconsistencies"]) >= 11
