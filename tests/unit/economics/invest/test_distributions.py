from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest
import scipy.stats

from openbook.economics.invest.distributions import Distribution, Kind, constant
from openbook.economics.sourced import Mark
from openbook.errors import UserError

LEVELS = np.linspace(0.001, 0.999, 999)


def distribution(kind: str, **parameters: Any) -> Distribution:
    return Distribution(
        kind=Kind(kind), parameters=parameters, unit="1", source="us", date=date(2026, 1, 29), mark=Mark.OURS
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (distribution("uniform", low=2, high=5), scipy.stats.uniform(2, 3)),
        (distribution("triangular", low=1, mode=2, high=6), scipy.stats.triang(0.2, 1, 5)),
        (distribution("triangular", low=1, mode=1, high=6), scipy.stats.triang(0.0, 1, 5)),
        (distribution("normal", mean=3, sd=2), scipy.stats.norm(3, 2)),
        (distribution("normal", mean=3, sd=2, low=2, high=6), scipy.stats.truncnorm(-0.5, 1.5, 3, 2)),
        (distribution("lognormal", median=3, log_sd=0.4), scipy.stats.lognorm(0.4, scale=3)),
        (distribution("beta", alpha=2, beta=5), scipy.stats.beta(2, 5)),
        (distribution("beta", alpha=2, beta=5, low=1, high=3), scipy.stats.beta(2, 5, 1, 2)),
        (distribution("beta", alpha=0.5, beta=0.5), scipy.stats.beta(0.5, 0.5)),
        (distribution("beta", alpha=0.1, beta=3), scipy.stats.beta(0.1, 3)),
        (distribution("beta", alpha=300, beta=20), scipy.stats.beta(300, 20)),
    ],
)
def test_quantiles_are_those_of_scipy(ours: Distribution, theirs: Any) -> None:
    assert ours.ppf(LEVELS) == pytest.approx(theirs.ppf(LEVELS), rel=1e-9, abs=1e-10)
    assert np.all(np.diff(ours.ppf(LEVELS)) > 0)


def test_a_lognormal_cut_off_keeps_to_its_ends() -> None:
    cut = distribution("lognormal", median=1.0, log_sd=1.0, high=2.0)
    whole = scipy.stats.lognorm(1.0)
    assert cut.ppf(LEVELS) == pytest.approx(whole.ppf(LEVELS * whole.cdf(2.0)), rel=1e-9)


def test_a_discrete_input_takes_its_values_in_their_shares() -> None:
    drawn = distribution("discrete", values=(1.0, 2.0, 7.0), weights=(0.2, 0.5, 0.3)).ppf(
        np.array([0.1, 0.19, 0.21, 0.69, 0.71, 1 - 1e-12])
    )
    assert drawn.tolist() == [1, 1, 2, 2, 7, 7]


def test_a_constant_takes_no_room() -> None:
    known = constant(30.0, unit="USD", source="A35", date=date(2026, 1, 29), mark=Mark.SECOND_HAND)
    values = known.ppf(np.empty(1000))
    assert known.is_constant and known.median == 30
    assert values.shape == (1000,) and values.strides == (0,) and np.all(values == 30)


@pytest.mark.parametrize(
    ("kind", "parameters", "reason"),
    [
        ("uniform", {"low": 1.0}, "needs high"),
        ("uniform", {"low": 2.0, "high": 1.0}, "empty"),
        ("normal", {"mean": 1.0, "sd": 0.0}, "above 0"),
        ("normal", {"mean": 1.0, "sd": 1.0, "mode": 2.0}, "no 'mode'"),
        ("triangular", {"low": 0.0, "mode": 3.0, "high": 2.0}, "outside"),
        ("lognormal", {"median": 1.0, "log_sd": 1.0, "high": -1.0}, "positive"),
        ("constant", {"value": float("nan")}, "finite"),
        ("constant", {"value": (1.0,)}, "one number"),
        ("discrete", {"values": (1.0, 2.0), "weights": (0.5, 0.4)}, "add up to 0.9"),
        ("discrete", {"values": (1.0, 2.0), "weights": (1.0,)}, "one weight for each"),
        ("discrete", {"values": (2.0, 1.0), "weights": (0.5, 0.5)}, "must rise"),
        ("discrete", {"values": 2.0, "weights": 1.0}, "list of numbers"),
    ],
)
def test_what_is_no_distribution_is_refused(kind: str, parameters: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        distribution(kind, **parameters)
