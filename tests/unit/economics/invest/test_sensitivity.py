from __future__ import annotations

import math
import warnings
from datetime import date

import numpy as np
import numpy.typing as npt
import pytest

from openbook.economics.invest.correlation import RankCorrelation
from openbook.economics.invest.distributions import Distribution, Kind
from openbook.economics.invest.sampling import Draws, Plan
from openbook.economics.invest.sensitivity import SobolFigures, sobol_indices, tornado
from openbook.economics.sourced import Mark
from openbook.errors import UserError

Floats = npt.NDArray[np.float64]


def given(kind: Kind, **parameters: float) -> Distribution:
    return Distribution(
        kind=kind, parameters=parameters, unit="1", source="us", date=date(2026, 1, 29), mark=Mark.OURS
    )


ISHIGAMI = {name: given(Kind.UNIFORM, low=-math.pi, high=math.pi) for name in ("x1", "x2", "x3")}


def ishigami(draws: Draws) -> Floats:
    x1, x2, x3 = (draws[name] for name in ("x1", "x2", "x3"))
    return np.asarray(np.sin(x1) + 7 * np.sin(x2) ** 2 + 0.1 * x3**4 * np.sin(x1))


def test_indices_of_ishigamis_function_are_the_known_ones() -> None:
    """First 0.3139, 0.4424, 0; total 0.5576, 0.4424, 0.2437 (Ishigami and Homma, 1990)."""
    found = {one.name: one for one in sobol_indices(ISHIGAMI, ishigami, Plan(num_paths=16_384))}
    assert list(found) == ["x1", "x2", "x3"]
    truth = {"x1": (0.3139, 0.5576), "x2": (0.4424, 0.4424), "x3": (0.0, 0.2437)}
    for name, (first, total) in truth.items():
        one = found[name]
        assert one.first.value == pytest.approx(first, abs=max(4 * one.first.standard_error, 1e-4))
        assert one.total.value == pytest.approx(total, abs=max(4 * one.total.standard_error, 1e-4))
        assert 0 < one.first.standard_error < 0.005 and 0 < one.total.standard_error < 0.005


def test_indices_agree_with_salib_on_the_same_figures() -> None:
    from SALib.analyze import sobol as salib

    plan = Plan(num_paths=1024, seed=5)
    ours = {one.name: one for one in sobol_indices(ISHIGAMI, ishigami, plan)}
    figures = SobolFigures.of(ISHIGAMI, ishigami, plan)
    rows = np.stack([figures.a, *figures.mixed, figures.b], axis=-1).ravel()
    problem = {"num_vars": 3, "names": list(ISHIGAMI), "bounds": [[-math.pi, math.pi]] * 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = salib.analyze(problem, rows, calc_second_order=False, num_resamples=10, seed=1)
    for place, name in enumerate(ISHIGAMI):
        assert ours[name].first.value == pytest.approx(theirs["S1"][place], rel=1e-9, abs=1e-12)
        assert ours[name].total.value == pytest.approx(theirs["ST"][place], rel=1e-9, abs=1e-12)


def test_indices_agree_with_salib_on_its_own_sample() -> None:
    from SALib.analyze import sobol as analyze
    from SALib.sample import sobol as sample

    problem = {"num_vars": 3, "names": list(ISHIGAMI), "bounds": [[-math.pi, math.pi]] * 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        points = sample.sample(problem, 8192, calc_second_order=False, seed=3)
        figures = ishigami(dict(zip(ISHIGAMI, points.T, strict=True)))
        theirs = analyze.analyze(problem, figures, calc_second_order=False, num_resamples=100, seed=1)
    ours = {one.name: one for one in sobol_indices(ISHIGAMI, ishigami, Plan(num_paths=65_536))}
    for place, name in enumerate(ISHIGAMI):
        assert ours[name].first.value == pytest.approx(theirs["S1"][place], abs=0.01)
        assert ours[name].total.value == pytest.approx(theirs["ST"][place], abs=0.01)


def test_indices_do_not_hang_on_how_many_points_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(num_paths=256)
    together = sobol_indices(ISHIGAMI, ishigami, plan)
    monkeypatch.setattr("openbook.economics.invest.sensitivity.MAX_PATHS_AT_ONCE", 1)
    assert sobol_indices(ISHIGAMI, ishigami, plan) == together


def test_of_two_inputs_that_are_one_the_first_carries_both() -> None:
    inputs = {"a": given(Kind.NORMAL, mean=0, sd=1), "b": given(Kind.NORMAL, mean=0, sd=1)}
    tie = RankCorrelation(first="a", second="b", rho=1.0)
    found = {
        one.name: one
        for one in sobol_indices(inputs, lambda draws: draws["a"] + draws["b"], Plan(num_paths=4096), [tie])
    }
    assert found["a"].total.value == pytest.approx(1, abs=1e-2)
    assert found["b"].total.value == pytest.approx(0, abs=1e-9)


def test_without_variance_or_uncertain_inputs_there_are_no_indices() -> None:
    with pytest.raises(UserError, match="same on every path"):
        sobol_indices(ISHIGAMI, lambda draws: np.full(len(draws["x1"]), 0.1), Plan(num_paths=256))
    with pytest.raises(UserError, match="no input is uncertain"):
        sobol_indices({"k": given(Kind.CONSTANT, value=1)}, lambda draws: draws["k"], Plan(num_paths=256))


def test_a_tornado_moves_one_input_at_a_time_and_shows_the_widest_first() -> None:
    inputs = {
        "little": given(Kind.UNIFORM, low=0, high=1),
        "fixed": given(Kind.CONSTANT, value=3),
        "much": given(Kind.UNIFORM, low=0, high=10),
        "bent": given(Kind.UNIFORM, low=-1, high=1),
    }
    bars = tornado(inputs, lambda d: d["little"] - d["much"] * d["fixed"] + 4 * d["bent"] ** 2)
    assert [bar.name for bar in bars] == ["much", "bent", "little"]
    much, bent, little = bars
    assert (much.low_input, much.high_input) == pytest.approx((1, 9))
    assert (much.at_low, much.at_high, much.base) == pytest.approx((0.5 - 3, 0.5 - 27, 0.5 - 15))
    assert much.swing == pytest.approx(24) and little.swing == pytest.approx(0.8)
    assert bent.swing == pytest.approx(4 * 0.8**2)  # both ends lie on one side of the middle


def test_a_tornado_without_uncertain_inputs_has_no_bars() -> None:
    assert tornado({"k": given(Kind.CONSTANT, value=1)}, lambda draws: draws["k"]) == ()
