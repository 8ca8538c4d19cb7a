from __future__ import annotations

from dataclasses import replace

import pytest

from openbook.economics.accelerators import Precision, find_accelerator
from openbook.economics.serving.counts import counts_of
from openbook.economics.serving.layout import (
    Server,
    Speculation,
    Unit,
    cache_bytes,
    check_unit,
    longest_context,
    max_batch,
    weight_bytes,
    weight_bytes_touched,
)
from openbook.errors import UserError
from openbook.model.architecture import Architecture

DECODE = Unit(num_devices=144, num_redundant_experts=32)


def test_what_a_device_of_the_published_decode_unit_holds_and_reads(v3_on_h800: Server) -> None:
    assert weight_bytes(v3_on_h800, DECODE) / 1e9 == pytest.approx(24, abs=0.5)
    assert weight_bytes_touched(v3_on_h800, DECODE, 88 * 144) / 1e9 == pytest.approx(22, abs=0.5)
    assert 88 * cache_bytes(v3_on_h800, DECODE, 4989) / 1e9 == pytest.approx(30.9, abs=0.05)


def test_a_batch_touches_more_experts_the_larger_it_is(v3_on_h800: Server) -> None:
    counts = counts_of(v3_on_h800.architecture)
    one = counts.experts_touched(1) / 8
    touched = [counts.experts_touched(batch) / one for batch in (1, 8, 32, 128)]
    assert touched == pytest.approx([8.0, 57.4, 163.3, 251.6], abs=0.05)
    assert weight_bytes_touched(v3_on_h800, Unit(), 8) < weight_bytes_touched(v3_on_h800, Unit(), 32)


def test_a_latent_is_copied_over_a_tensor_parallel_and_key_heads_are_split(
    v3_on_h800: Server, dense_on_h100: Server
) -> None:
    eight = Unit(num_devices=8, tensor_parallel=8)
    assert cache_bytes(v3_on_h800, eight, 1000) == 70_272_000
    assert cache_bytes(dense_on_h100, eight, 1000) == 327_680_000 / 8
    sixteen = Unit(num_devices=16, tensor_parallel=16)
    assert cache_bytes(dense_on_h100, sixteen, 1000) == 327_680_000 / 8


def test_layouts_that_cannot_be_are_named_with_the_nearest_that_can(
    v3_on_h800: Server, dense_on_h100: Server
) -> None:
    refused = {
        "nearest that fits has 32 redundant": (v3_on_h800, Unit(num_devices=144)),
        "nearest that fits has 16 devices": (v3_on_h800, Unit(num_devices=8, tensor_parallel=8)),
        "nearest that fits is 2$": (dense_on_h100, Unit(num_devices=3, tensor_parallel=3)),
        "nearest that fits has 2 devices": (dense_on_h100, Unit()),
        "a tensor parallel of 8, or units of 4": (dense_on_h100, Unit(num_devices=8, tensor_parallel=4)),
    }
    for message, (server, unit) in refused.items():
        with pytest.raises(UserError, match=message):
            check_unit(server, unit)
    with pytest.raises(UserError, match="nearest that fits is 8 devices"):
        Unit(num_devices=6, tensor_parallel=4)


def test_what_fits_beside_the_weights_is_what_is_left(v3_on_h800: Server) -> None:
    batch = max_batch(v3_on_h800, DECODE, 4989)
    used = weight_bytes(v3_on_h800, DECODE) + batch * cache_bytes(v3_on_h800, DECODE, 4989)
    assert used <= v3_on_h800.usable_bytes < used + cache_bytes(v3_on_h800, DECODE, 4989)
    longest = longest_context(v3_on_h800, DECODE)
    assert max_batch(v3_on_h800, DECODE, longest) == 1
    assert max_batch(v3_on_h800, DECODE, longest + 1) == 0


def test_drafting_with_mtp_takes_memory(v3_on_h800: Server) -> None:
    drafting = replace(v3_on_h800, speculation=Speculation(num_drafts=1, acceptance=0.85))
    assert weight_bytes(drafting, DECODE) > weight_bytes(v3_on_h800, DECODE)
    assert drafting.speculation.tokens_per_step == pytest.approx(1.85)
    assert Speculation(num_drafts=3, acceptance=0.5).tokens_per_step == 1.875
    with pytest.raises(UserError):
        Speculation(num_drafts=1, acceptance=1.5)


def test_a_device_without_the_arithmetic_or_the_memory_figures_is_refused(v3: Architecture) -> None:
    with pytest.raises(UserError, match="fp8"):
        Server(architecture=v3, accelerator=find_accelerator("a100-80"), precision=Precision.FP8)
    unknown = replace(find_accelerator("h800"), memory_bandwidth=None)
    with pytest.raises(UserError, match="memory of h800 is not known"):
        Server(architecture=v3, accelerator=unknown)
