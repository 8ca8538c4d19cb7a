"""Golden counts of an architecture: cache, decode and windows; ours and the public file's are one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openbook.model.architecture import Architecture, architecture_of
from openbook.model.counts import AttentionCount
from openbook.model.decoders import read_decoder
from openbook.model.public import from_public
from openbook.model.shapes import ExpertFeedForward, LatentAttention, causal_pairs

FIXTURES = Path(__file__).parents[2] / "fixtures"


def raw(name: str) -> dict[str, Any]:
    return dict(json.loads((FIXTURES / "configs" / f"{name}.json").read_text()))


V3 = read_decoder(raw("deepseek-v3"))
V2 = read_decoder(raw("deepseek-v2"))


@pytest.mark.parametrize("name", ["deepseek-v3", "deepseek-v2", "llama-small", "qwen3-small"])
def test_a_public_file_and_our_config_of_it_count_the_same(name: str) -> None:
    ours, public = architecture_of(from_public(raw(name))), read_decoder(raw(name))
    assert ours.parameters == public.parameters
    assert ours.active == public.active
    assert ours.mtp == public.mtp
    assert ours.groups == public.groups


def test_deepseek_v3_from_its_public_file_has_the_published_counts() -> None:
    assert V3.parameters_total == 671_026_419_200
    assert V3.parameters_active == 37_552_297_472
    assert V3.matmul_parameters == 36_624_596_992
    assert V3.kv_bytes_per_token() == 70_272
    assert (V2.parameters_total, V2.kv_bytes_per_token()) == (235_741_434_880, 69_120)
    assert V3.forward_flops_per_token(4096).attention == 10_234_101_760
    assert round(V3.training_flops_per_token(4096).total / 1e9, 2) == 250.45
    full = V3.training_flops_per_token(4096, counted=AttentionCount.FULL)
    assert round(full.total / 1e9, 2) == 281.15
    assert round(V3.training_flops_per_token(4096, with_mtp=True).total / 1e9, 1) == 260.6


def test_decoding_deepseek_v3_by_absorbed_attention_costs_84_8_gigaflops_at_4989_tokens() -> None:
    flops = V3.decode_flops_per_token(4989)
    assert round(flops.attention / 1e9, 1) == 84.8
    assert flops.matmul == 2 * 36_624_596_992


@pytest.mark.parametrize(("num_tokens", "touched"), [(1, 8.0), (8, 57.4), (32, 163.3), (128, 251.6)])
def test_a_batch_touches_experts_as_the_fact_sheet_says(num_tokens: int, touched: float) -> None:
    experts = next(
        g.layer.feed_forward for g in V3.groups if isinstance(g.layer.feed_forward, ExpertFeedForward)
    )
    assert round(experts.experts_touched(num_tokens), 1) == touched


def test_a_step_over_one_token_reads_what_it_is_multiplied_by_and_over_many_everything() -> None:
    assert V3.touched_parameters(1) == pytest.approx(V3.matmul_parameters)
    all_matrices = V3.parameters.matrices
    assert V3.touched_parameters(100_000) == pytest.approx(all_matrices)


GEMMA3 = {
    "model_type": "gemma3_text",
    "vocab_size": 262144,
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "num_hidden_layers": 26,
    "sliding_window": 512,
}


def test_a_window_caps_the_cache_and_the_keys_of_its_layers_alone() -> None:
    gemma = read_decoder(GEMMA3)
    per_layer = 2 * 256 * 2
    assert gemma.kv_bytes_per_token() == 26 * per_layer
    assert gemma.cache_bytes(512) == 26 * 512 * per_layer
    assert gemma.cache_bytes(32768) == (22 * 512 + 4 * 32768) * per_layer
    assert gemma.decode_flops_per_token(32768).attention == 4 * 4 * 256 * (22 * 512 + 4 * 32768)


def test_scored_pairs_are_those_that_a_mask_leaves_less_half_of_each_on_its_edge() -> None:
    for length in (3, 8, 17):
        for window in (1, 4, 8, 30):
            seen = sum(min(i + 1, window) for i in range(length))
            assert causal_pairs(length, window, is_chunked=False) == 2 * seen - min(length, window)
            in_chunk = sum(i % window + 1 for i in range(length))
            assert causal_pairs(length, window, is_chunked=True) == 2 * in_chunk - length


def test_every_published_size_is_counted_to_the_last_parameter() -> None:
    decoders = json.loads((FIXTURES / "decoders.json").read_text())
    sizes = {name: entry["parameters"] for name, entry in decoders.items() if "parameters" in entry}
    counted = {name: read_decoder(decoders[name]["config"], where=name).parameters_total for name in sizes}
    assert counted == sizes
    assert len(sizes) > 60


def published(name: str) -> Architecture:
    decoders = json.loads((FIXTURES / "decoders.json").read_text())
    return read_decoder(decoders[name]["config"], where=name)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("mixtral-8x7b", 12.9),
        ("mixtral-8x22b", 39.2),
        ("qwen3-30b-a3b", 3.4),
        ("qwen3-235b-a22b", 22.2),
        ("llama-4-scout", 17.2),
        ("llama-4-maverick", 17.2),
        ("dbrx", 36.5),
        ("kimi-k2", 32.9),
        ("phi-3.5-moe", 6.6),
        ("olmoe-1b-7b", 1.3),
        ("deepseek-v2-lite", 2.7),
        ("gpt-oss-120b", 5.7),
    ],
)
def test_activated_parameters_are_the_published_ones_with_both_tables(name: str, billions: float) -> None:
    assert round(published(name).parameters_active / 1e9, 1) == billions


def test_cache_bytes_a_token_of_published_decoders() -> None:
    assert published("llama-2-70b").kv_bytes_per_token() == 327_680
    assert published("llama-3.1-405b").kv_bytes_per_token() == 516_096
    assert published("falcon-7b").kv_bytes_per_token() == 2 * 32 * 64 * 2
    mistral = published("mistral-7b-v0.1")
    assert mistral.cache_bytes(100_000) == mistral.cache_bytes(4096) == 4096 * mistral.kv_bytes_per_token()


def test_learned_positions_and_narrow_embeddings_are_parts_of_their_own() -> None:
    opt = published("opt-350m")
    assert opt.parameters.positions == 2050 * 1024
    assert opt.parameters.projections == 2 * 512 * 1024
    assert opt.matmul_parameters == opt.parameters.matrices + 50272 * 512
    assert published("gpt2").parameters.positions == 1024 * 768


def test_glm_counts_its_module_of_multi_token_prediction_apart() -> None:
    glm = published("glm-4.5")
    assert glm.num_mtp_modules == 1
    assert isinstance(glm.mtp_layer and glm.mtp_layer.feed_forward, ExpertFeedForward)
    assert glm.parameters_total < glm.parameters_total + glm.mtp.total < glm.parameters_stored


def test_a_query_without_compression_is_read_from_null_and_from_nought() -> None:
    lite = json.loads((FIXTURES / "decoders.json").read_text())["deepseek-v2-lite"]["config"]
    for absent in (None, 0):
        attention = read_decoder(lite | {"q_lora_rank": absent}).groups[0].layer.attention
        assert isinstance(attention, LatentAttention)
        assert attention.q_lora_rank is None


def test_an_empty_sequence_scores_nothing() -> None:
    assert V3.forward_flops_per_token(0).attention == 0
    assert read_decoder(GEMMA3).forward_flops_per_token(0).attention == 0
