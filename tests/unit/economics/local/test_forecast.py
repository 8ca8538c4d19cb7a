"""Forecasts: what they rest on, how wide their bands are, and that a file gives them back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from openbook.economics.local.forecast import (
    OTHER_THREADS_SPREAD,
    Basis,
    Estimate,
    Price,
    Setting,
    basis_of,
    doublings,
    forecast,
)
from openbook.economics.local.forecast_file import read_forecast, write_forecast
from openbook.economics.local.history import PastRun, read_past_run
from openbook.economics.local.lengths import expect
from openbook.economics.local.settlement import settle, settlement_to_json
from openbook.economics.local.stages import StagePlan
from openbook.errors import UserError
from openbook.runs.machine_profile import MachineProfile
from openbook.runs.run import Run

PRICE = Price(usd_per_device_hour=0.01, source="ours", valid_from=date(2020, 1, 1))


@pytest.fixture
def past(make_run: Callable[[str], Run], policy_plan: StagePlan) -> PastRun:
    return read_past_run(make_run("zero"), policy_plan)


@pytest.fixture
def machine(make_profile: Callable[..., MachineProfile]) -> MachineProfile:
    return make_profile()


def setting(past: PastRun) -> Setting:
    return Setting(host=past.host, device="cpu", num_threads=1)


def test_a_forecast_of_a_run_that_was_seen_is_what_that_run_took(
    past: PastRun, machine: MachineProfile
) -> None:
    basis = basis_of(machine, [past], setting(past))
    (stage,) = forecast([past.plan], [past], basis, PRICE).stages
    # a prior that is off by a factor of hundreds on a network so small is not wholly overcome by one stage
    assert basis.run_ids == (past.run_id,)
    assert stage.tokens["completion"].value == pytest.approx(past.tokens.completion, rel=0.01)
    alone = forecast([past.plan], [past], basis_of(machine, [], setting(past)), PRICE).stages[0]
    actual = past.cpu_seconds
    assert abs(stage.cpu_seconds.value / actual - 1) < abs(alone.cpu_seconds.value / actual - 1)


def test_a_band_is_narrower_with_runs_and_wider_the_further_from_them(
    past: PastRun, machine: MachineProfile
) -> None:
    scaled_plan = replace(past.plan, settings={**past.plan.settings, "num_steps": 80})
    same = Basis(
        **{
            name: getattr(basis_of(machine, [past], setting(past)), name)
            for name in Basis.__dataclass_fields__
        }
        | {"spread": 0.06}
    )
    near = forecast([past.plan], [past], same, PRICE).stages[0].cpu_seconds
    far = forecast([scaled_plan], [past], same, PRICE).stages[0].cpu_seconds
    guessed = forecast([past.plan], [], replace(same, spread=0.35), PRICE).stages[0].cpu_seconds
    assert near.high / near.low < far.high / far.low < guessed.high / guessed.low
    assert near.low < near.value < near.high


def test_runs_of_another_machine_do_not_count_and_those_of_other_threads_less(
    past: PastRun, machine: MachineProfile
) -> None:
    here = setting(past)
    assert basis_of(machine, [past], replace(here, host="elsewhere")).run_ids == ()
    other = basis_of(machine, [past], replace(here, num_threads=2))
    assert other.run_ids == (past.run_id,) and other.spread == OTHER_THREADS_SPREAD


def test_without_a_profile_and_a_run_there_is_no_forecast(past: PastRun, machine: MachineProfile) -> None:
    with pytest.raises(UserError, match="has not been measured"):
        basis_of(None, [], setting(past))
    with pytest.raises(UserError, match="no run on NVIDIA H100 is known"):
        basis_of(machine, [past], replace(setting(past), device="NVIDIA H100"))
    assert basis_of(None, [past], setting(past)).rests_on == "1 past stages on this machine, no profile"


def test_settings_are_as_far_as_the_one_that_was_changed_most() -> None:
    seen = [{"num_steps": 10, "examples_per_step": 32}, {"num_steps": 1000, "examples_per_step": 32}]
    assert doublings({"num_steps": 40, "examples_per_step": 64}, seen) == 2
    assert doublings({"num_steps": 10, "examples_per_step": 32}, seen) == 0
    assert doublings({"num_steps": 10}, []) == 0


def test_a_stage_under_a_budget_ends_where_the_other_stages_time_is_spent(
    past: PastRun, policy_plan: StagePlan, machine: MachineProfile
) -> None:
    basis = basis_of(machine, [past], setting(past))
    long = replace(policy_plan.learned, num_steps=10_000) if policy_plan.learned else None
    control = replace(policy_plan, name="control", learned=long, budget_of="zero", probe=None)
    first, ended = forecast([policy_plan, control], [past], basis, PRICE).stages
    assert 0 < ended.num_steps < 10_000
    assert ended.parts["learning"] >= first.parts["learning"]
    assert ended.parts["learning"] < first.parts["learning"] * 1.3


def test_steps_beyond_a_curve_go_on_as_it_ended(past: PastRun, policy_plan: StagePlan) -> None:
    assert policy_plan.learned is not None
    longer = replace(policy_plan, learned=replace(policy_plan.learned, num_steps=20))
    lengths = expect(longer, [past]).lengths
    assert lengths.completion["rollout"] == pytest.approx((sum(range(11, 21)) + 10 * 20) / 20)
    shorter = replace(policy_plan, learned=replace(policy_plan.learned, num_steps=2))
    assert expect(shorter, [past]).lengths.completion["held_out"] < 18, "it stopped before it wrote as much"


def test_lengths_of_other_problems_say_nothing(past: PastRun, policy_plan: StagePlan) -> None:
    assert policy_plan.rollout is not None
    other = replace(policy_plan, rollout=replace(policy_plan.rollout, problems="products"))
    expected = expect(other, [past])
    curve = expected.lengths.rollout
    assert curve[0] == 24.0 and 24.0 < curve[-1] < 32.0, "from the guess towards what it ends at"
    assert expected.spread > 0.25


def test_a_curve_is_moved_to_where_a_policy_starts(past: PastRun, policy_plan: StagePlan) -> None:
    started = replace(policy_plan, starts_at=8.0)
    assert expect(started, [past]).lengths.rollout == tuple(float(8 + step) for step in range(10))


def test_a_run_from_the_same_base_tells_more_than_a_later_one_from_another(
    past: PastRun, policy_plan: StagePlan
) -> None:
    other = replace(past.lengths, rollout=(3.0,) * 10)
    control = replace(past, run_id="control", base="student_base", lengths=other)
    zero = replace(past, base="pretrain")
    wanted = replace(policy_plan, name="rl", base="pretrain")
    assert expect(wanted, [zero, control]).lengths.rollout == past.lengths.rollout
    assert expect(replace(wanted, base="student_base"), [control, zero]).lengths.rollout == (3.0,) * 10
    # what it can do at first tells more than its name
    learns, fails = replace(zero, starts_right=0.2), replace(control, starts_right=0.1)
    assert expect(replace(wanted, starts_right=0.09), [fails, learns]).lengths.rollout == (3.0,) * 10


def test_an_estimate_is_a_factor_either_way_and_sums_as_if_off_together() -> None:
    one = Estimate.of(10.0, 0.1)
    assert one.high / one.value == pytest.approx(one.value / one.low)
    total = one + one
    assert (total.value, total.low, total.high) == (20.0, 2 * one.low, 2 * one.high)
    assert one.holds(10.5) and not one.holds(20)


def test_a_forecast_comes_back_from_its_file(past: PastRun, tmp_path: Path, machine: MachineProfile) -> None:
    made = forecast([past.plan], [past], basis_of(machine, [past], setting(past)), PRICE)
    write_forecast(tmp_path, made, datetime(2026, 11, 24, tzinfo=UTC))
    assert read_forecast(tmp_path) == made
    assert read_forecast(tmp_path / "nothing") is None
    (tmp_path / "forecast.json").write_text('{"stages": 3}')
    with pytest.raises(UserError, match="is no forecast"):
        read_forecast(tmp_path)


def test_a_settlement_splits_what_each_stage_cost(past: PastRun, machine: MachineProfile) -> None:
    made = forecast([past.plan], [past], basis_of(machine, [past], setting(past)), PRICE)
    broken = replace(past, is_done=False)
    found = settle(made, [broken, past], {"cpu": Decimal("0.02")})
    (stage,) = found.stages
    assert stage.lost_device_seconds == pytest.approx(past.device_seconds)
    variance = stage.variance
    assert sum(variance.parts().values()) == variance.difference
    assert float(variance.actual_usd) == pytest.approx(2 * past.device_seconds * 0.02 / 3600)
    assert settlement_to_json(found)["open_stages"] == []
    assert settle(made, [broken], {"cpu": Decimal(1)}).open_stages == ("zero",)
