from __future__ import annotations

import pytest

from openbook.config import parse as parse_config
from openbook.errors import UserError
from openbook.train.config import OptimConfig, ScheduleConfig, TrainConfig
from openbook.train.schedule import rate_share


def shares(config: ScheduleConfig, num_steps: int) -> list[float]:
    return [rate_share(config, step, num_steps) for step in range(num_steps)]


def test_the_linear_schedule_warms_up_holds_and_falls() -> None:
    config = ScheduleConfig(warmup_steps=4, decay_share=0.4, decay="linear", final_share=0.1)
    assert shares(config, 10) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 0.775, 0.55, 0.325])


def test_the_cosine_schedule_falls_slowly_at_first() -> None:
    config = ScheduleConfig(warmup_steps=0, decay_share=1.0, decay="cosine", final_share=0.0)
    # 0.5 (1 + cos(pi t)) at t = 0, 1/4, 1/2, 3/4
    assert shares(config, 4) == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-6)
    floor = ScheduleConfig(warmup_steps=0, decay_share=1.0, decay="cosine", final_share=0.2)
    assert shares(floor, 4) == pytest.approx([1.0, 0.882843, 0.6, 0.317157], abs=1e-6)


def test_without_decay_the_rate_stays() -> None:
    config = ScheduleConfig(warmup_steps=2, decay="none", decay_share=0.9, final_share=0.0)
    assert shares(config, 5) == [0.5, 1, 1, 1, 1]


def test_past_the_end_the_rate_stays_at_the_final_share() -> None:
    config = ScheduleConfig(warmup_steps=0, decay_share=0.5, decay="linear", final_share=0.05)
    assert rate_share(config, 10, 10) == pytest.approx(0.05)
    assert rate_share(config, 15, 10) == pytest.approx(0.05)


def test_a_short_stage_still_has_a_positive_rate_at_every_step() -> None:
    for num_steps in (1, 2, 3):
        for decay in ("linear", "cosine", "none"):
            config = ScheduleConfig(warmup_steps=8, decay=decay)
            assert all(0 < share <= 1 for share in shares(config, num_steps))
    assert shares(ScheduleConfig(warmup_steps=0, decay_share=0.0), 3) == [1, 1, 1]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"num_steps": 0, "examples_per_step": 1}, "must be at least 1"),
        ({"num_steps": 1, "examples_per_step": 1, "save_every": 0}, "must be at least 1"),
        (
            {"num_steps": 1, "examples_per_step": 1, "optim": {"adamw_learning_rate": -1.0}},
            "must be at least 0",
        ),
    ],
)
def test_impossible_settings_are_refused(table: dict[str, object], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        parse_config(TrainConfig, table)


def test_a_rate_of_zero_is_allowed() -> None:
    assert OptimConfig(muon_learning_rate=0.0, adamw_learning_rate=0.0).adamw_learning_rate == 0.0


def test_a_log_shows_the_rate_of_the_matrices() -> None:
    rates = {"muon_learning_rate": 0.02, "adamw_learning_rate": 0.003}
    assert OptimConfig(matrix_optimizer="muon", **rates).learning_rate == 0.02
    assert OptimConfig(matrix_optimizer="adamw", **rates).learning_rate == 0.003
