from __future__ import annotations

from dataclasses import replace

import pytest

from openbook.economics.serving.efficiency import EXPERT_BALANCE, Efficiency
from openbook.economics.serving.layout import Server, Speculation, Unit
from openbook.economics.serving.network import LOW_LATENCY, expert_bandwidth, nodes_reached
from openbook.economics.serving.roofline import choose_batch, decode_step, prefill
from openbook.errors import UserError

PREFILL = Unit(num_devices=32, num_redundant_experts=32)
DECODE = Unit(num_devices=144, num_redundant_experts=32)
NODE = Unit(num_devices=8, tensor_parallel=8)


def with_balance(server: Server, value: float) -> Server:
    balance = replace(EXPERT_BALANCE, value=value)
    return replace(server, efficiency=replace(server.limits, expert_balance=balance))


def test_the_plain_roofline_of_the_published_decode(v3_on_h800: Server) -> None:
    step = decode_step(v3_on_h800, DECODE, 88, 4989)
    assert step.floor_seconds == pytest.approx(15.8e-3, abs=0.1e-3)  # bytes over bandwidth
    _, scores = 2 * 36_624_596_992, 84.8e9
    compute = 88 * (scores / 989.5e12 + 2 * 36_624_596_992 / 1979e12)
    assert compute == pytest.approx(10.8e-3, abs=0.05e-3)
    assert step.floor_seconds / 0.0476 == pytest.approx(0.33, abs=0.01)


def test_nothing_is_faster_than_the_plain_roofline(v3_on_h800: Server, dense_on_h100: Server) -> None:
    for batch in (1, 7, 88, 500):
        for server, unit in ((v3_on_h800, DECODE), (dense_on_h100, NODE)):
            step = decode_step(server, unit, batch, 4000)
            assert step.seconds > step.floor_seconds
    for server, unit in ((v3_on_h800, PREFILL), (dense_on_h100, NODE)):
        filling = prefill(server, unit, 4096)
        assert filling.seconds > filling.floor_seconds


def test_components_lie_within_thirty_percent_of_systems_that_were_run_at_full_load(
    v3_on_h800: Server,
) -> None:
    """DeepSeek's own profile, balanced by construction, as read by LMSYS: 62,713 and 18,598 a node."""
    balanced = with_balance(v3_on_h800, 1.0)
    filling = prefill(balanced, PREFILL, 4096).tokens_per_second_per_device * 8
    step = decode_step(balanced, Unit(num_devices=128), 128, 4096).tokens_per_second_per_device * 8
    assert filling == pytest.approx(62_713, rel=0.3)
    assert step == pytest.approx(18_598, rel=0.3)


def test_the_largest_batch_that_is_fast_enough_is_taken(v3_on_h800: Server) -> None:
    batch = choose_batch(v3_on_h800, DECODE, 4989, 21)
    assert decode_step(v3_on_h800, DECODE, batch, 4989).tokens_per_second_per_user >= 21
    assert decode_step(v3_on_h800, DECODE, batch + 1, 4989).tokens_per_second_per_user < 21
    assert choose_batch(v3_on_h800, DECODE, 4989, None) > batch


def test_a_speed_out_of_reach_and_a_context_out_of_memory_are_named(v3_on_h800: Server) -> None:
    with pytest.raises(UserError, match=r"500 tokens a second .* one sequence alone gets"):
        choose_batch(v3_on_h800, DECODE, 4989, 500)
    with pytest.raises(UserError, match="not one sequence of 1,000,000 tokens fits"):
        choose_batch(v3_on_h800, DECODE, 1_000_000, 21)


def test_more_efficient_parts_never_make_a_step_slower(v3_on_h800: Server) -> None:
    base = decode_step(v3_on_h800, DECODE, 88, 4989).seconds
    limits = v3_on_h800.limits
    for name in ("gemm", "attention", "weight_bandwidth", "cache_bandwidth", "expert_balance"):
        better = replace(getattr(limits, name), value=min(1.0, getattr(limits, name).value * 1.1))
        faster = replace(v3_on_h800, efficiency=replace(limits, **{name: better}))
        assert decode_step(faster, DECODE, 88, 4989).seconds <= base


def test_accepted_drafts_give_tokens_and_cost_time(v3_on_h800: Server) -> None:
    plain = decode_step(v3_on_h800, DECODE, 32, 4989)
    drafting = replace(v3_on_h800, speculation=Speculation(num_drafts=1, acceptance=0.85))
    step = decode_step(drafting, DECODE, 32, 4989)
    assert step.seconds > plain.seconds
    assert step.tokens_per_second_per_user > plain.tokens_per_second_per_user
    never = replace(v3_on_h800, speculation=Speculation(num_drafts=1, acceptance=0.0))
    assert decode_step(never, DECODE, 32, 4989).tokens_per_second_per_user < plain.tokens_per_second_per_user


def test_cached_prompts_leave_fewer_tokens_that_look_further_back(v3_on_h800: Server) -> None:
    fresh, warm = prefill(v3_on_h800, PREFILL, 4096), prefill(v3_on_h800, PREFILL, 4096, 0.5)
    assert warm.attention_seconds == pytest.approx(1.5 * fresh.attention_seconds)
    assert warm.gemm_seconds == fresh.gemm_seconds
    assert prefill(v3_on_h800, PREFILL, 4096, 1.0).attention_seconds == pytest.approx(
        2 * fresh.attention_seconds, rel=1e-3
    )


def test_tensor_parallelism_pays_for_its_reductions(dense_on_h100: Server) -> None:
    step = decode_step(dense_on_h100, NODE, 32, 4000)
    assert step.communication_seconds > 0
    assert step.seconds == pytest.approx(
        step.attention_seconds + step.gemm_seconds + step.communication_seconds
    )
    unlinked = replace(dense_on_h100, accelerator=replace(dense_on_h100.accelerator, link_bandwidth=None))
    with pytest.raises(UserError, match="bandwidth between devices"):
        decode_step(unlinked, NODE, 32, 4000)


def test_bandwidth_between_measured_sizes_lies_between_them(v3_on_h800: Server) -> None:
    h800 = v3_on_h800.accelerator
    assert expert_bandwidth(LOW_LATENCY, 128, h800) == 39e9
    assert 39e9 < expert_bandwidth(LOW_LATENCY, 144, h800) < 39.7e9
    assert expert_bandwidth(LOW_LATENCY, 1024, h800) == 39.7e9
    assert expert_bandwidth(LOW_LATENCY, 8, h800) == pytest.approx(115e9)
    with pytest.raises(UserError, match="network bandwidth of h800"):
        expert_bandwidth(LOW_LATENCY, 32, replace(h800, network_bandwidth=None))
    assert nodes_reached(1, 8) == 1
    assert nodes_reached(4, 8) == pytest.approx(3.6, abs=0.01)


def test_an_efficiency_outside_its_range_is_refused(v3_on_h800: Server) -> None:
    limits = v3_on_h800.limits
    with pytest.raises(UserError, match=r"gemm is 1\.2"):
        Efficiency(gemm=replace(limits.gemm, value=1.2))
    with pytest.raises(UserError, match=r"decode_overlap is 0\.5"):
        replace(limits, decode_overlap=replace(limits.decode_overlap, value=0.5))
