from __future__ import annotations

from dataclasses import replace

import pytest

from openbook.economics.serving.capacity import Demand, capacity
from openbook.economics.serving.layout import Server
from openbook.economics.serving.unit_cost import (
    ServingCase,
    Traffic,
    assumptions,
    unit_cost,
    usd_per_million,
)
from openbook.errors import UserError


def test_cost_is_price_over_speed_over_busy_share() -> None:
    assert usd_per_million(16, 73_700) == pytest.approx(0.0603, abs=5e-5)
    assert usd_per_million(16, 14_800) == pytest.approx(0.3003, abs=5e-5)
    assert usd_per_million(16, 14_800, 0.5) == pytest.approx(0.6006, abs=1e-4)


def test_the_parts_of_a_unit_cost_agree(v3_on_h800: Server) -> None:
    case = ServingCase(server=v3_on_h800, utilisation=1.0)
    cost = unit_cost(case)
    assert cost.missed_usd == pytest.approx(usd_per_million(2.0, cost.prefill.tokens_per_second_per_device))
    assert cost.output_usd == pytest.approx(usd_per_million(16.0, cost.output_tokens_per_second_per_node))
    hit = case.traffic.hit_share
    assert cost.input_usd == pytest.approx((1 - hit) * cost.missed_usd + hit * cost.cached_usd)
    assert cost.cached_usd < 0.1 * cost.missed_usd
    assert cost.blended_usd == pytest.approx((608 * cost.input_usd + 168 * cost.output_usd) / 776)
    idle = unit_cost(replace(case, utilisation=0.5))
    assert idle.output_usd == pytest.approx(2 * cost.output_usd)


def test_prompt_and_completion_follow_from_the_context() -> None:
    traffic = Traffic()
    assert traffic.prompt_tokens + traffic.prompt_tokens * traffic.output_per_input / 2 == pytest.approx(
        4989, abs=1
    )
    assert traffic.input_share == pytest.approx(608 / 776)


def test_faster_streams_and_longer_contexts_are_dearer(v3_on_h800: Server) -> None:
    def output(**traffic: float) -> float:
        return unit_cost(ServingCase(server=v3_on_h800, traffic=Traffic(**traffic))).output_usd  # type: ignore[arg-type]

    assert output(tokens_per_second_per_user=30) > output(tokens_per_second_per_user=15)
    assert output(context_tokens=20_000) > output(context_tokens=2_000)


def test_all_input_in_the_cache_leaves_no_prefill_to_speak_of(v3_on_h800: Server) -> None:
    cost = unit_cost(ServingCase(server=v3_on_h800, traffic=Traffic(hit_share=1.0)))
    assert cost.input_usd == cost.cached_usd
    assert cost.input_tokens_per_second_per_node == float("inf")


def test_a_case_that_cannot_be_is_one_clear_line(v3_on_h800: Server, dense_on_h100: Server) -> None:
    with pytest.raises(UserError, match="hit share is 56"):
        Traffic(hit_share=56)
    with pytest.raises(UserError, match=r"utilisation of 1\.5"):
        ServingCase(server=v3_on_h800, utilisation=1.5)
    with pytest.raises(UserError, match=r"200,000 tokens is beyond the model's 163,840"):
        unit_cost(ServingCase(server=v3_on_h800, traffic=Traffic(context_tokens=200_000)))
    with pytest.raises(UserError, match="a price is not negative"):
        ServingCase(server=v3_on_h800, usd_per_device_hour=-1)
    unpriced = replace(dense_on_h100, accelerator=replace(dense_on_h100.accelerator, rent_usd_per_hour=None))
    with pytest.raises(UserError, match="supply one with --rent"):
        unit_cost(ServingCase(server=unpriced))


def test_every_default_is_listed_with_its_source_and_the_users_own_values_are_not(
    v3_on_h800: Server,
) -> None:
    listed = assumptions(ServingCase(server=v3_on_h800))
    assert {"hit_share", "utilisation", "rent_usd_per_hour", "efficiency_gemm", "peak_flops"} <= set(listed)
    assert all(figure.source for figure in listed.values())
    own = assumptions(ServingCase(server=v3_on_h800, utilisation=0.5, usd_per_device_hour=3.0))
    assert not {"utilisation", "rent_usd_per_hour"} & set(own)


def test_capacity_is_whole_units_for_the_peak(v3_on_h800: Server) -> None:
    cost = unit_cost(ServingCase(server=v3_on_h800))
    day = Demand(
        num_users=22.15e6, input_tokens_per_day=608e9 / 22.15e6, output_tokens_per_day=168e9 / 22.15e6
    )
    found = capacity(cost, day)
    assert found.num_prefill_devices % 32 == 0
    assert found.num_decode_devices % 144 == 0
    busy = 168e9 / 86_400 / cost.decode.tokens_per_second_per_device
    assert found.num_decode_devices == pytest.approx(1.226 * busy, abs=144)
    assert 0.7 < found.utilisation <= 1 / 1.226 + 1e-3
    assert found.usd_per_day_following == pytest.approx(found.mean_devices_busy * 48)
    assert found.usd_per_day_held == found.num_devices * 48
    assert capacity(cost, replace(day, num_users=0)).num_devices == 0
    with pytest.raises(UserError):
        Demand(num_users=-1, input_tokens_per_day=1, output_tokens_per_day=1)
