from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from openbook.economics.serving.capacity import gpu_seconds_per_thousand
from openbook.economics.serving.day6 import DAY_6, R1_PRICES, V3_PRICES


def test_what_the_day_cost_and_would_have_earned() -> None:
    assert DAY_6.cost_usd == 87_072.0
    margin = DAY_6.margin(R1_PRICES)
    assert margin.revenue_usd == 562_100.0
    assert margin.on_cost == pytest.approx(5.455, abs=1e-3)
    assert margin.of_revenue == pytest.approx(0.845, abs=5e-4)
    assert margin.break_even_utilisation() == pytest.approx(0.1549, abs=5e-5)
    assert DAY_6.margin(V3_PRICES).revenue_usd == pytest.approx(280.6e3, abs=50)


def test_the_published_speeds_explain_the_published_nodes() -> None:
    assert DAY_6.node_days == pytest.approx(226.86, abs=0.005)
    assert DAY_6.node_days == pytest.approx(DAY_6.mean_nodes, rel=6e-4)
    assert DAY_6.prefill_node_days / DAY_6.node_days == pytest.approx(0.421, abs=5e-4)
    assert DAY_6.decode_node_days == pytest.approx(131.4, abs=0.05)


def test_what_a_million_tokens_cost_on_that_day() -> None:
    assert DAY_6.hit_share == 0.5625
    assert DAY_6.input_usd == pytest.approx(0.0603, abs=5e-5)
    assert DAY_6.missed_usd == pytest.approx(0.1378, abs=5e-5)
    assert DAY_6.output_usd == pytest.approx(0.3003, abs=5e-5)
    assert DAY_6.blended_usd == pytest.approx(0.1122, abs=5e-5)
    assert gpu_seconds_per_thousand(226.75 * 8 * 24, 776e9) == pytest.approx(0.202, abs=5e-4)
    assert DAY_6.mean_streams == pytest.approx(92_600, abs=10)
    assert DAY_6.peak_nodes / DAY_6.mean_nodes == pytest.approx(1.226, abs=5e-4)


def test_the_committed_comparison_holds_decode_within_the_aim_and_says_that_prefill_is_not() -> None:
    script = runpy.run_path(str(Path(__file__).parents[4] / "benchmarks" / "day6.py"))
    prefilled, decoded, *others = list(script["rows"]())
    assert abs(decoded.error) < script["AIM"]
    assert prefilled.error > script["AIM"]  # utilisation, which no source outside the day gives
    assert all(abs(row.error) < script["AIM"] for row in others)
