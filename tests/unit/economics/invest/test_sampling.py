from __future__ import annotations

import hashlib
import math
from datetime import date

import numpy as np
import pytest
import scipy.stats

from openbook.economics.invest.correlation import RankCorrelation, correlated_groups
from openbook.economics.invest.distributions import Distribution, Kind
from openbook.economics.invest.sampling import Plan, Sampler, columns_of, over_scrambles
from openbook.economics.invest.sobol import num_columns, plain_points, scrambled_points
from openbook.economics.sourced import Mark
from openbook.errors import UserError


def normal(mean: float = 0.0, sd: float = 1.0) -> Distribution:
    return Distribution(
        kind=Kind.NORMAL,
        parameters={"mean": mean, "sd": sd},
        unit="1",
        source="us",
        date=date(2026, 1, 29),
        mark=Mark.OURS,
    )


def known(value: float) -> Distribution:
    return Distribution(
        kind=Kind.CONSTANT,
        parameters={"value": value},
        unit="1",
        source="us",
        date=date(2026, 1, 29),
        mark=Mark.OURS,
    )


def tie(first: str, second: str, rho: float) -> RankCorrelation:
    return RankCorrelation(first=first, second=second, rho=rho)


def test_unscrambled_points_are_those_of_scipy() -> None:
    theirs = scipy.stats.qmc.Sobol(num_columns(), scramble=False, bits=32).random(256)
    ours = np.stack([plain_points(column, 256) for column in range(num_columns())], axis=-1)
    gray = np.arange(256) ^ (np.arange(256) >> 1)
    assert np.array_equal(ours[gray], theirs)


@pytest.mark.parametrize("column", [0, 1, 17, 399])
def test_a_scrambled_column_has_one_point_in_each_of_its_cells(column: int) -> None:
    points = scrambled_points(column, 1024, name="x", seed=3, scramble=2)
    assert points.min() > 0 and points.max() < 1
    assert np.array_equal(np.sort(np.floor(points * 1024)), np.arange(1024))


def test_two_scrambled_columns_fill_their_square_evenly() -> None:
    first, second = (scrambled_points(c, 1024, name=str(c), seed=0, scramble=0) for c in (0, 1))
    for split in range(
        11
    ):  # the first two columns are a (0, 10, 2) net: each box of area 2^-10 has one point
        boxes = np.floor(first * 2**split) * 2 ** (10 - split) + np.floor(second * 2 ** (10 - split))
        assert np.array_equal(np.sort(boxes), np.arange(1024))


def test_errors_of_scrambles_names_and_seeds_are_independent() -> None:
    """The points of two scrambles lie alike; how far their means miss the truth has nothing in common."""

    def error(name: str, seed: int, scramble: int) -> float:
        return float(np.exp(scrambled_points(0, 64, name=name, seed=seed, scramble=scramble)).mean())

    errors = [
        [error("x", seed, 0), error("x", seed, 1), error("y", seed, 0), error("x", seed + 1000, 0)]
        for seed in range(500)
    ]
    between = np.corrcoef(np.array(errors).T)[np.triu_indices(4, 1)]
    assert np.all(np.abs(between) < 4 / math.sqrt(500))


@pytest.mark.parametrize("bad", [{"num_paths": 1000}, {"num_paths": 16}, {"num_scrambles": 8}, {"seed": -1}])
def test_plans_that_cannot_be_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(UserError):
        Plan(**bad)
    with pytest.raises(UserError, match="49152 or 98304 are"):
        Plan(num_paths=70_000, num_scrambles=24)


def test_the_paths_that_a_refusal_offers_are_taken() -> None:
    for wrong in (1, 17, 100, 1000, 70_001):
        with pytest.raises(UserError) as caught:
            Plan(num_paths=wrong)
        for offered in caught.value.mend.removesuffix(" are").split(" or "):
            Plan(num_paths=int(offered))


def test_the_same_seed_gives_the_same_figures() -> None:
    inputs = {"growth": normal(), "price": normal(3, 2), "usage": normal()}
    sampler = Sampler(plan=Plan(num_paths=1024, seed=7), columns=columns_of(inputs))
    draws = sampler.draw(inputs, [tie("growth", "usage", 0.5)])
    figure = float(np.mean(np.exp(draws["growth"]) * draws["price"] + draws["usage"] ** 3))
    assert f"{figure:.9g}" == "5.09989257"
    words = scrambled_points(5, 1024, name="price", seed=7, scramble=3)
    assert hashlib.sha256(words.tobytes()).hexdigest()[:12] == "0843cf946d55"


def test_another_set_of_inputs_stays_paired_by_name() -> None:
    base = {"b": normal(), "a": normal(), "fixed": known(2)}
    wider = {"new": normal(), "a": normal(5, 2), "b": normal(), "fixed": normal()}
    plan = Plan(num_paths=256, seed=1)
    together = Sampler(plan=plan, columns=columns_of(base, wider))
    first, second = together.draw(base), together.draw(wider)
    assert np.array_equal(first["b"], second["b"])
    assert second["a"] == pytest.approx(5 + 2 * first["a"], rel=1e-12)
    alone = Sampler(plan=plan, columns=columns_of(base, first=("b", "a"))).draw(base)
    later = Sampler(plan=plan, columns=columns_of(wider, first=("b", "a"))).draw(wider)
    assert np.array_equal(alone["b"], later["b"])


def test_a_scramble_is_a_part_of_the_whole() -> None:
    inputs = {"a": normal(), "b": normal(), "c": known(4)}
    sampler = Sampler(plan=Plan(num_paths=512), columns=columns_of(inputs))
    whole, part = (sampler.draw(inputs, [tie("a", "b", 0.7)], scramble=one) for one in (None, 5))
    for name in inputs:
        assert np.array_equal(whole[name][5 * 32 : 6 * 32], part[name])


@pytest.mark.parametrize("rho", [-1.0, -0.6, 0.0, 0.3, 0.9, 1.0])
def test_ranks_correlate_as_they_were_told(rho: float) -> None:
    inputs = {"a": normal(), "b": normal(10, 3), "c": normal()}
    sampler = Sampler(plan=Plan(num_paths=8192), columns=columns_of(inputs))
    draws = sampler.draw(inputs, [tie("a", "b", rho)])
    assert scipy.stats.spearmanr(draws["a"], draws["b"]).statistic == pytest.approx(rho, abs=2e-3)
    assert scipy.stats.spearmanr(draws["a"], draws["c"]).statistic == pytest.approx(0, abs=2e-3)
    assert draws["b"].mean() == pytest.approx(10, abs=1e-2) and draws["b"].std() == pytest.approx(3, rel=1e-2)


def test_the_first_of_a_group_keeps_its_own_numbers() -> None:
    inputs = {"a": normal(), "b": normal()}
    sampler = Sampler(plan=Plan(num_paths=512), columns=("a", "b"))
    apart, tied = sampler.draw(inputs), sampler.draw(inputs, [tie("a", "b", 0.8)])
    assert tied["a"] == pytest.approx(apart["a"], rel=1e-12)
    assert not np.allclose(tied["b"], apart["b"])


def test_groups_are_only_those_that_hang_together() -> None:
    groups = correlated_groups("abcdef", [tie("a", "c", 0.5), tie("f", "c", 0.2), tie("b", "e", -0.4)])
    assert [group.names for group in groups] == [("a", "c", "f"), ("b", "e")]
    for group in groups:
        product = group.triangle @ group.triangle.T
        assert np.diag(product) == pytest.approx(1)
    assert groups[1].triangle[1, 0] == pytest.approx(2 * math.sin(-0.4 * math.pi / 6))


@pytest.mark.parametrize(
    ("ties", "reason"),
    [
        (
            [tie("a", "b", 0.9), tie("b", "c", 0.9), tie("a", "c", -0.9)],
            r"a and b \+0.9, a and c -0.9, b and",
        ),
        ([tie("a", "z", 0.1)], "'z', which is no uncertain input"),
        ([tie("a", "a", 1.0)], "with itself"),
        ([tie("a", "b", 1.2)], "from -1 to 1"),
        ([tie("a", "b", 0.2), tie("b", "a", 0.3)], "give each pair once"),
        ([tie(p, q, -0.4) for p, q in ("ab", "ac", "ad", "bc", "bd", "cd")], "smallest eigenvalue -0."),
    ],
)
def test_impossible_correlations_are_refused_with_the_reason(
    ties: list[RankCorrelation], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        correlated_groups("abcd", ties)


def test_more_inputs_than_columns_are_refused() -> None:
    with pytest.raises(UserError, match="at most 400"):
        columns_of({f"x{number}": normal() for number in range(401)})


def test_work_over_scrambles_comes_back_in_order_with_its_errors() -> None:
    assert over_scrambles(lambda scramble: scramble**2, 20) == [one**2 for one in range(20)]
    with pytest.raises(UserError, match="too deep"):
        over_scrambles(_refuse, 16)


def _refuse(scramble: int) -> None:
    raise UserError("too deep")
