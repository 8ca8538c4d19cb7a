"""Plans of several stages: the published sums, and reinforcement, distillation and serving by decode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openbook.config import load_recipe, parse
from openbook.economics.accelerators import Precision, find_accelerator
from openbook.economics.plan.calibration import Calibration
from openbook.economics.plan.decode import decode_rate, generation_hours
from openbook.economics.plan.recipe import PlanConfig
from openbook.economics.plan.runs import V3_CONFIG, calibration_runs
from openbook.economics.plan.stages import StageForecast, Workplace, forecast_stages, total
from openbook.errors import UserError
from openbook.model.decoders import read_decoder

RECIPES = Path(__file__).resolve().parents[3] / "recipes" / "plan"
FIGURES = Calibration.default()
H800 = find_accelerator("h800")
V3 = read_decoder(V3_CONFIG, "V3")
AT = Workplace(
    architecture=V3,
    accelerator=replace(H800),
    precision=Precision.FP8,
    num_devices=2048,
    figures=FIGURES,
    read_model=lambda name: calibration_runs()[1].architecture,
)


def planned(*stages: dict[str, Any]) -> tuple[StageForecast, ...]:
    return forecast_stages(parse(PlanConfig, {"model": "x.json", "stages": list(stages)}), AT)


def of_recipe(name: str) -> tuple[StageForecast, ...]:
    plan = load_recipe(RECIPES / f"{name}.toml", {"plan": PlanConfig}).config
    return forecast_stages(plan, AT)


def test_v3_comes_to_2_788_million_hours_and_5_576_million_dollars() -> None:
    hours, priced = total(of_recipe("v3"), H800, FIGURES)
    assert hours.value == pytest.approx(2.788e6, rel=2e-4)
    assert priced.rent is not None and priced.rent.value == pytest.approx(5.576e6, rel=2e-4)


def test_the_r1_stage_is_147_3_thousand_hours_and_the_sum_5_870_million_dollars() -> None:
    stages = of_recipe("r1")
    r1 = [stage for stage in stages if stage.name in ("R1-Zero", "R1", "SFT data")]
    hours, priced = total(r1, H800, FIGURES)
    assert hours.value == 147_336
    assert priced.rent is not None and priced.rent.value == pytest.approx(294_700, rel=1e-3)
    whole = total(stages, H800, FIGURES)[1].rent
    assert whole is not None and whole.value == pytest.approx(5.870e6, rel=2e-4)


def test_rollouts_are_decoded_scored_and_learned_and_idle_time_is_held_too() -> None:
    base = {"kind": "rl", "rollouts": 1e6, "completion_tokens": 4096, "idle_share": 0.2}
    (found,) = planned(base)
    assert set(found.parts) == {"rollouts", "scores", "updates", "idle"}
    assert found.parts["idle"].value == pytest.approx(0.2 * found.hours.value)
    (twice,) = planned({**base, "rollouts": 2e6})
    assert twice.parts["rollouts"].value == pytest.approx(2 * found.parts["rollouts"].value)
    (unscored,) = planned({**base, "score_passes": 1})
    assert unscored.parts["scores"].value == pytest.approx(found.parts["scores"].value / 2)
    (verified,) = planned({**base, "verifier_seconds": 3.6, "verifier_usd_per_hour": 0.1})
    assert verified.other_usd == pytest.approx(100)


def test_a_teacher_writes_what_is_thrown_away_too() -> None:
    base = {"kind": "distillation", "student": "any", "tokens": 1e9, "devices": 64}
    (all_kept,) = planned(base)
    (half_kept,) = planned({**base, "kept_share": 0.5})
    assert half_kept.parts["teacher"].value == pytest.approx(2 * all_kept.parts["teacher"].value)
    assert half_kept.parts["student"] == all_kept.parts["student"]
    (once,) = planned({**base, "epochs": 1})
    assert once.training is not None and once.training.request.tokens == 1e9


def test_served_prompts_from_the_cache_cost_nothing_and_nights_are_paid() -> None:
    base = {"kind": "serving", "input_tokens": 1e10, "output_tokens": 1e9, "context": 4989}
    (cold,) = planned(base)
    (warm,) = planned({**base, "cached_share": 0.5})
    assert warm.parts["prefill"].value == pytest.approx(cold.parts["prefill"].value / 2)
    (half_busy,) = planned({**base, "busy_share": 0.5})
    assert half_busy.hours.value == pytest.approx(2 * cold.hours.value)


def test_decode_of_v3_lies_within_30_percent_of_what_day_6_published() -> None:
    rate = decode_rate(V3, H800, Precision.FP8, 4989, FIGURES)
    assert rate.tokens_per_device_second == pytest.approx(14_800 / 8, rel=0.30)
    assert rate.group_size * 80e9 > V3.parameters_total
    assert generation_hours(3600 * rate.tokens_per_device_second, rate) == pytest.approx(1)


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        ({"kind": "pretraining", "tokens": 0}, "tokens must be above 0"),
        ({"kind": "pretraining", "tokens": 1, "learning": 1}, "stages\\[0\\].learning: unknown key"),
        ({"kind": "rl", "rollouts": 1, "idle_share": 1}, "idle_share"),
        ({"kind": "sleep"}, "unknown kind"),
        ({"kind": "serving", "input_tokens": 1, "output_tokens": 1, "cached_share": 2}, "shares"),
        ({"kind": "hours", "device_hours": 5}, "source: missing"),
    ],
)
def test_stages_that_make_no_sense_are_named(stage: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        planned(stage)
