"""Scores: the value, the interval by a bootstrap over problems, and what JSON keeps of it."""

from __future__ import annotations

import json
import math
from statistics import fmean

import numpy as np
import pytest

from openbook.errors import UserError
from openbook.evals.score import Score, Tally, score_from_json, score_to_json, scores


def tally(sums: list[float], counts: list[float], metric: str = "m") -> Tally:
    return Tally(metric=metric, sums=tuple(sums), counts=tuple(counts), num_samples=int(sum(counts)))


def test_the_value_is_the_sum_over_the_count_and_not_a_mean_of_shares() -> None:
    found = scores([tally([1, 4], [4, 12])], np.random.default_rng(0))["m"]
    assert found.value == 5 / 16
    assert (found.num_problems, found.num_samples) == (2, 16)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    tallies = [tally(list(np.arange(40) % 5), [4] * 40)]
    first, again, other = (scores(tallies, np.random.default_rng(seed))["m"] for seed in (1, 1, 2))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_the_interval_agrees_with_the_normal_law_for_many_problems() -> None:
    solved = np.random.default_rng(0).random(2000) < 0.3
    found = scores([tally(list(solved.astype(float)), [1] * 2000)], np.random.default_rng(1))["m"]
    half = 1.96 * math.sqrt(found.value * (1 - found.value) / 2000)
    assert found.low == pytest.approx(found.value - half, abs=0.002)
    assert found.high == pytest.approx(found.value + half, abs=0.002)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(200):
        chances = rng.beta(2, 3, size=60)  # problems differ: mean 0.4
        found = scores([tally(list(rng.binomial(4, chances)), [4] * 60)], rng, num_resamples=400)["m"]
        hits.append(found.low <= 0.4 <= found.high)
    assert 0.88 <= fmean(hits) <= 0.99


def test_samples_of_one_problem_do_not_narrow_the_interval_like_problems_do() -> None:
    few = scores([tally([16.0, 0.0] * 10, [16.0] * 20)], np.random.default_rng(0))["m"]
    many = scores([tally([1.0, 0.0] * 160, [1.0] * 320)], np.random.default_rng(0))["m"]
    assert few.num_samples == many.num_samples
    assert few.high - few.low > 3 * (many.high - many.low)


def test_a_mean_over_nothing_is_nan_and_null_in_json() -> None:
    found = scores([tally([0, 0], [0, 0])], np.random.default_rng(0))["m"]
    assert math.isnan(found.value) and math.isnan(found.low) and math.isnan(found.high)
    data = json.loads(json.dumps(score_to_json(found), allow_nan=False))
    assert data["value"] is None
    assert math.isnan(score_from_json(data).value)


def test_resamples_in_which_nothing_counted_are_left_out_of_the_interval() -> None:
    found = scores([tally([10, 0], [2, 0])], np.random.default_rng(0))["m"]
    assert (found.value, found.low, found.high) == (5.0, 5.0, 5.0)


def test_a_score_survives_json() -> None:
    score = Score(metric="pass_at_1", value=0.5, low=0.4, high=0.6, num_problems=10, num_samples=40)
    assert score_from_json(json.loads(json.dumps(score_to_json(score)))) == score


def test_a_damaged_score_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="not a score"):
        score_from_json({"metric": "pass_at_1", "value": 1})
