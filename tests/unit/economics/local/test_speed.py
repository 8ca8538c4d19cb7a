"""Speeds: the prior without evidence, the truth with enough of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from openbook.economics.local.speed import SLOWNESS, Evidence, Speed, fitted
from openbook.economics.local.work import Term, Work
from openbook.runs.machine_profile import MachineProfile

MakeProfile = Callable[..., MachineProfile]


def test_a_profile_gives_each_term_its_limit_times_its_slowness(make_profile: MakeProfile) -> None:
    speed = Speed.of_profile(make_profile(), num_threads=1)
    assert speed.seconds(Work.of({Term.PRODUCTS: 1e11})) == pytest.approx(SLOWNESS[Term.PRODUCTS])
    assert speed.seconds(Work.of({Term.ACTIVATIONS: 1e10})) == pytest.approx(SLOWNESS[Term.ACTIVATIONS])
    assert speed.seconds(Work.of({Term.LAUNCHES: 2e5})) == pytest.approx(SLOWNESS[Term.LAUNCHES])


def test_a_machine_twice_as_fast_takes_half_the_time(make_profile: MakeProfile) -> None:
    work = Work(tuple(1e6 for _ in Term))
    slow, fast = (Speed.of_profile(make_profile(factor=one), num_threads=1) for one in (1.0, 2.0))
    assert fast.seconds(work) == pytest.approx(slow.seconds(work) / 2)


def test_without_evidence_the_prior_stays() -> None:
    prior = Speed.typical()
    assert fitted(prior, []).seconds_per_unit == pytest.approx(prior.seconds_per_unit)


def test_a_fit_finds_speeds_that_differ_from_the_prior_term_by_term(make_profile: MakeProfile) -> None:
    prior = Speed.of_profile(make_profile(), num_threads=1)
    factors = {Term.PRODUCTS: 1.8, Term.ACTIVATIONS: 0.5, Term.SAMPLED_PRODUCTS: 1.4}
    truth = Speed(
        tuple(unit * factors.get(term, 1.0) for term, unit in zip(Term, prior.seconds_per_unit, strict=True))
    )
    works = [
        Work.of({Term.PRODUCTS: a * 1e11, Term.ACTIVATIONS: b * 1e9, Term.SAMPLED_PRODUCTS: c * 5e10})
        for a, b, c in ((1, 1, 0), (4, 1, 0), (1, 4, 0), (0, 0, 3), (2, 1, 2))
    ]
    found = fitted(prior, [Evidence(work=work, seconds=truth.seconds(work)) for work in works * 4])
    unseen = Work.of({Term.PRODUCTS: 9e11, Term.ACTIVATIONS: 2e9, Term.SAMPLED_PRODUCTS: 4e10})
    assert found.seconds(unseen) == pytest.approx(truth.seconds(unseen), rel=0.01)
    assert abs(prior.seconds(unseen) / truth.seconds(unseen) - 1) > 0.1, "the prior alone was off"


def test_a_term_never_seen_keeps_its_prior() -> None:
    prior = Speed.typical()
    work = Work.of({Term.PRODUCTS: 1e12})
    found = fitted(prior, [Evidence(work=work, seconds=2 * prior.seconds(work))])
    saved = Work.of({Term.SAVED: 1e9})
    assert found.seconds(saved) == pytest.approx(prior.seconds(saved))
    assert found.seconds(work) > 1.8 * prior.seconds(work)


def test_no_term_becomes_negative_where_evidence_contradicts_itself() -> None:
    prior = Speed.typical()
    small, large = Work.of({Term.PRODUCTS: 1e10}), Work.of({Term.PRODUCTS: 1e10, Term.STATE: 1e10})
    evidence = [Evidence(work=small, seconds=10.0), Evidence(work=large, seconds=1e-3)]
    assert min(fitted(prior, evidence).seconds_per_unit) > 0
