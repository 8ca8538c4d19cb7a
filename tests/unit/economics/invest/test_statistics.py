from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from openbook.economics.invest.sobol import scrambled_points
from openbook.economics.invest.statistics import (
    fan,
    jackknife,
    lower_tail_mean,
    mean_if_positive,
    probability_above,
    quantile_level,
    quantile_name,
    summarise,
)
from openbook.errors import UserError

Floats = npt.NDArray[np.float64]
STUDENT = 2.1314
"""Standard errors on either side that hold 95 % when they come from 16 scrambles."""


def normal_paths(num_columns: int, num_paths: int, seed: int, num_scrambles: int = 16) -> Floats:
    """Independent standard normal variates, [column, path]."""
    per_scramble = num_paths // num_scrambles
    return np.array(
        [
            np.concatenate(
                [
                    scipy.stats.norm.ppf(
                        scrambled_points(c, per_scramble, name=str(c), seed=seed, scramble=s)
                    )
                    for s in range(num_scrambles)
                ]
            )
            for c in range(num_columns)
        ]
    )


def test_a_summary_of_normal_paths_is_that_of_the_normal_distribution() -> None:
    found = summarise(10 + 20 * normal_paths(1, 65_536, seed=1)[0], 16)
    law = scipy.stats.norm(10, 20)
    assert found.mean.value == pytest.approx(10, abs=1e-3)
    assert found.sd.value == pytest.approx(20, rel=1e-3)
    assert list(found.quantiles) == ["q05", "q25", "q50", "q75", "q95"]
    for name, estimate in found.quantiles.items():
        assert estimate.value == pytest.approx(law.ppf(quantile_level(name)), abs=0.01)
    assert found.probability_of_loss.value == pytest.approx(law.cdf(0), abs=1e-4)
    shortfall = 10 - 20 * scipy.stats.norm.pdf(scipy.stats.norm.ppf(0.05)) / 0.05
    assert found.expected_shortfall.value == pytest.approx(shortfall, abs=0.02)
    assert (found.num_paths, found.num_scrambles) == (65_536, 16)


def test_standard_errors_cover_the_truth_as_often_as_they_say() -> None:
    """A product of three lognormals less one: mean, sd, P(loss), median and shortfall have closed forms."""
    log_sd = 0.3 * math.sqrt(3)
    lognormal = scipy.stats.lognorm(log_sd)
    tail = scipy.stats.norm.cdf(scipy.stats.norm.ppf(0.05) - log_sd) / 0.05 * math.exp(log_sd**2 / 2)
    truth = [lognormal.mean() - 1.2, lognormal.std(), lognormal.cdf(1.2), 1 - 1.2, tail - 1.2]
    num_seeds, covered = 100, np.zeros(5)
    for seed in range(num_seeds):
        paths = np.exp(0.3 * normal_paths(3, 4096, seed).sum(axis=0)) - 1.2
        found = summarise(paths, 16)
        estimates = [
            found.mean,
            found.sd,
            found.probability_of_loss,
            found.quantiles["q50"],
            found.expected_shortfall,
        ]
        covered += [
            abs(one.value - true) <= STUDENT * one.standard_error
            for one, true in zip(estimates, truth, strict=True)
        ]
    # 95 +- 2.2 of 100 are expected; a standard error too small or too large by a third lies outside
    assert np.all((covered >= 86) & (covered <= 100)), covered
    assert 90 <= covered.mean() <= 98.5


def test_chance_alone_would_need_many_more_paths() -> None:
    """For the mean of a smooth figure, the error over scrambles is far below sd / sqrt(n)."""
    found = summarise(np.exp(0.3 * normal_paths(3, 16_384, seed=4).sum(axis=0)), 16)
    assert found.mean.standard_error < found.sd.value / math.sqrt(16_384) / 10


def test_error_falls_with_points_as_quasi_monte_carlo_should() -> None:
    """Faster than n^-0.5, the law of chance: the slope over a factor of 64 is steeper than -0.8."""
    sizes = np.array([1024, 4096, 16_384, 65_536])
    truth = math.exp(0.3**2 * 3 / 2)
    errors = [
        math.sqrt(np.mean([_squared_error(size, seed, truth) for seed in range(6)]))
        for size in sizes.tolist()
    ]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope < -0.8, errors


def _squared_error(num_paths: int, seed: int, truth: float) -> float:
    return float(np.exp(0.3 * normal_paths(3, num_paths, seed).sum(axis=0)).mean() - truth) ** 2


def test_the_expected_shortfall_takes_a_part_of_the_last_path() -> None:
    ordered = np.arange(30.0)
    assert lower_tail_mean(ordered, 0.05) == pytest.approx((0 + 0.5 * 1) / 1.5)
    assert lower_tail_mean(np.stack([ordered, ordered + 1]), 0.1) == pytest.approx([1, 2])


def test_quantiles_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(size=1024)
    found = summarise(values, 16, ["q01", "q10", "q90", "q995"]).quantiles
    assert [one.value for one in found.values()] == pytest.approx(
        np.quantile(values, [0.01, 0.1, 0.9, 0.995])
    )
    bands = fan(values.reshape(2, 4, 128), ["q10", "q50"])
    assert bands["q10"].shape == (2, 4)
    assert bands["q50"][1, 2] == pytest.approx(np.median(values.reshape(2, 4, 128)[1, 2]))


@pytest.mark.parametrize(
    ("name", "level"), [("q05", 0.05), ("q50", 0.5), ("q95", 0.95), ("q995", 0.995), ("q10", 0.1)]
)
def test_quantiles_have_names(name: str, level: float) -> None:
    assert quantile_level(name) == level
    assert quantile_name(level) == name


@pytest.mark.parametrize("name", ["P90", "p05", "q5", "q00", "95", "q", "Q95"])
def test_names_that_trades_read_differently_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="such as q05 or q95"):
        quantile_level(name)


def test_paths_without_a_number_are_refused() -> None:
    values = np.ones(64)
    values[3] = np.nan
    with pytest.raises(UserError, match="1 of 64 paths"):
        summarise(values, 16)


def test_a_write_down_has_a_probability_and_a_size_where_there_is_one() -> None:
    values = 10 + 20 * normal_paths(1, 16_384, seed=2)[0]
    risk = probability_above(values, 0.0, 16)
    size = mean_if_positive(values, 16)
    share = scipy.stats.norm.cdf(0.5)
    assert risk.value == pytest.approx(share, abs=4 * risk.standard_error + 1e-4)
    assert size.value == pytest.approx(10 + 20 * scipy.stats.norm.pdf(0.5) / share, abs=0.02)
    assert 0 < size.standard_error < 0.02
    assert math.isnan(mean_if_positive(-np.ones(64), 16).value)


def test_the_jackknife_of_a_mean_is_the_usual_standard_error() -> None:
    means = np.random.default_rng(1).normal(size=(20, 3))
    value, error = jackknife(means, lambda part: part)
    assert value == pytest.approx(means.mean(axis=0))
    assert error == pytest.approx(means.std(axis=0, ddof=1) / math.sqrt(20))
