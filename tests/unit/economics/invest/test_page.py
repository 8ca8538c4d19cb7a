"""The page and the sentences: what stands there follows from the figures, with and without dials."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from openbook.economics.invest import page, said
from openbook.economics.invest.answer import Answer, Middle, answer, prepare
from openbook.economics.invest.assumptions import load_scenario
from openbook.economics.invest.decisions import decisions
from openbook.economics.invest.page_sources import inputs_table, register_table
from openbook.economics.invest.sampling import Plan
from openbook.economics.invest.server import SCRIPT_PATH
from openbook.economics.invest.site import reply, site_of
from openbook.economics.invest.walk import Reached
from openbook.errors import UserError

PLAN = Plan(num_paths=128, seed=1)


@pytest.fixture(scope="module")
def found() -> Answer:
    return answer(prepare(load_scenario("article"), others=(load_scenario("bubble"),), plan=PLAN))


@pytest.fixture(scope="module")
def html(found: Answer) -> str:
    return page.render(found)


def test_the_file_holds_no_script_and_nothing_from_elsewhere(html: str) -> None:
    assert "<script" not in html and "<form" not in html and "script-src" not in html
    assert not re.search(r"https?://|@import|<link|url\((?!#)", html)
    assert re.search(r"<h2[^>]*>What must be true", html) and "Where the articles clash" in html


def test_ids_are_unique(html: str) -> None:
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_the_served_page_brings_one_script_and_a_dial_for_each_input_it_can_turn(found: Answer) -> None:
    html = page.render(found, dials=True)
    assert f'<script src="{SCRIPT_PATH}" defer></script>' in html
    assert "script-src 'self'; connect-src 'self'" in html
    names = re.findall(r'<input type="range"[^>]* name="([a-z_]+)"', html)
    assert names == [
        "api_price",
        "seat_price",
        "rent",
        "elasticity",
        "utilisation",
        "economic_life",
        "api_growth",
        "capex_growth",
        "discount_rate",
    ]
    for name in page.parts(found):
        assert f'id="{page.element_id(name)}"' in html


def test_a_reply_replaces_every_part_by_what_the_page_would_hold() -> None:
    study = prepare(load_scenario("article"), plan=PLAN, movable=True)
    site = site_of(study)
    told = site.answer({"discount_rate": 0.2})
    again = answer(study, {"discount_rate": 0.2})
    for name, body in page.parts(again).items():
        assert told["parts"][page.element_id(name)] == str(body)
    assert told["parts"]["opening-part"] not in site.page
    assert told["figures"]["npv_usd_billion"]["mean"]["value"] == again.value.mean.value
    assert "paths in" in told["status"] and reply(again)["parts"] == told["parts"]
    with pytest.raises(UserError, match="there is no dial 'rate'"):
        site.answer({"rate": 0.2})


def test_sentences_say_a_gain_and_a_loss_by_their_sign(found: Answer) -> None:
    def shifted(by: float) -> Answer:
        q = {
            name: replace(one, value=one.value - found.value.quantiles["q50"].value + by)
            for name, one in found.value.quantiles.items()
        }
        return replace(found, value=replace(found.value, quantiles=q))

    assert "is worth $120B more than it costs" in said.headline(shifted(120.0))
    assert "is worth $120B less than it costs" in said.headline(shifted(-120.0))


@pytest.mark.parametrize(
    ("roots", "words"),
    [
        ((), "has no internal rate of return"),
        ((0.1,), "has an internal rate of return of 10 %"),
        ((0.1, 0.2), "has 2 internal rates of return (10 %, 20 %), so none of them is to be used"),
    ],
)
def test_rates_of_return_are_all_said_or_none(found: Answer, roots: tuple[float, ...], words: str) -> None:
    middle = Middle(flows=(-1.0, 1.0), npv=0.0, irr_roots=roots)
    assert words in " ".join(said.must_be_true(replace(found, middle=middle)))


def test_what_no_path_reaches_is_said_to_be_out_of_reach(found: Answer) -> None:
    never = Reached(share=replace(found.value.mean, value=0.0, standard_error=0.0), quantiles={})
    answered = replace(found, reached=dict.fromkeys(found.reached, never))
    lines = " ".join(said.must_be_true(answered))
    assert "No share of busy hours is enough" in lines and "in 0 % of cases" in lines
    assert "none" in page.parts(answered)["opening"]
    nothing = replace(
        found,
        write_down_mean=replace(found.write_down_mean, value=float("nan")),
    )
    assert "In no case is anything written down." in said.must_be_true(nothing)


def test_a_year_without_revenue_is_a_gap_and_no_error(found: Answer) -> None:
    bands = dict(found.walk.bands)
    bands["gross_margin"] = {
        name: np.where(np.arange(len(one)) < 2, np.nan, one) for name, one in bands["gross_margin"].items()
    }
    bands["busy_share"] = {name: one * np.nan for name, one in bands["busy_share"].items()}
    body = page.parts(replace(found, walk=replace(found.walk, bands=bands)))["years"]
    assert "2028: median" in body and "fan-busy_share" not in body


def test_decisions_carry_the_figures_of_the_fact_sheet() -> None:
    article = load_scenario("article").with_value("discount_rate", 0.1)
    five = {one.who: one for one in decisions(article)}
    investor = five["Investor"].figures
    assert investor["gross_profit_usd_billion_a_year_over_5_years"] == pytest.approx(133.2, abs=0.05)
    assert investor["gross_profit_usd_billion_a_year_over_3_years"] == pytest.approx(203.1, abs=0.05)
    assert investor["seats_million_for_72_4_usd_billion"] == pytest.approx(67.9, abs=0.05)
    assert five["Enterprise buyer"].figures["break_even_minutes_a_month"] == 60
    assert five["Supplier"].figures["spend_ratio"] == pytest.approx(0.831)
    assert five["Supplier"].figures["compute_threshold"] == pytest.approx(1 / 0.8)
    bubble = {one.who: one for one in decisions(load_scenario("bubble"))}
    assert bubble["Supplier"].figures["gain"] != five["Supplier"].figures["gain"], "its own shock"
    assert all(one.answer.endswith(".") and one.answer.isascii() for one in five.values())


def test_every_input_stands_in_the_table_with_source_date_and_mark(found: Answer) -> None:
    table = inputs_table(found.scenario)
    assert len(table.rows) == len(found.scenario.inputs)
    assert all(all(cell for cell in row) for row in table.rows)
    assert {row[3] for row in table.rows} <= {"primary", "second-hand", "ours"}
    assert any("Nvidia" in row[0] for row in register_table().rows)
