"""Golden counts of published models, and the count of any config against the network it makes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openbook.model.config import GQAConfig, MLAConfig, ModelConfig, MoEConfig
from openbook.model.cost import AttentionCount, count
from openbook.model.public import from_public
from openbook.model.transformer import Transformer

CONFIGS = Path(__file__).parents[2] / "fixtures" / "configs"


def published(name: str) -> ModelConfig:
    return from_public(json.loads((CONFIGS / f"{name}.json").read_text()))


V3 = published("deepseek-v3")
V2 = published("deepseek-v2")


def test_deepseek_v3_has_its_671_billion_parameters_part_by_part() -> None:
    cost = count(V3)
    assert cost.parameters_total == 671_026_419_200
    assert cost.parameters.embedding == cost.parameters.head == 926_679_040
    assert cost.parameters.experts == 58 * 256 * 44_040_192
    assert cost.parameters.shared_experts == 58 * 44_040_192
    assert cost.parameters.dense_ffn == 3 * 396_361_728
    assert cost.parameters.router == 58 * 256 * 7168
    assert cost.parameters.biases == 58 * 256
    latent_norms = 61 * (1536 + 512)
    assert cost.parameters.attention + latent_norms == 61 * 187_107_328
    assert cost.parameters.norms == latent_norms + (2 * 61 + 1) * 7168


def test_deepseek_v3_activates_37_billion_with_both_tables() -> None:
    cost = count(V3)
    assert cost.parameters_active == 37_552_297_472
    assert cost.matmul_parameters == 36_624_596_992
    assert cost.active.router == cost.parameters.router
    assert cost.active.biases == cost.parameters.biases


def test_deepseek_v3_counts_mtp_apart() -> None:
    cost = count(V3)
    assert cost.parameters_total == count(replace(V3, num_nextn_predict_layers=0)).parameters_total
    assert cost.mtp.total == 187_107_328 + 11_320_164_608 + 2 * 7168 * 7168 + 5 * 7168
    assert cost.parameters_stored == cost.parameters_total + cost.mtp.total + 2 * 926_679_040
    assert round(cost.parameters_stored / 1e9, 1) == 684.5


def test_deepseek_v2_has_its_236_billion_parameters_and_no_balancing_bias() -> None:
    cost = count(V2)
    assert cost.parameters_total == 235_741_434_880
    assert cost.parameters.biases == 0
    assert round(cost.parameters_active / 1e9, 2) == 21.38


def test_the_cache_of_one_token_is_as_published() -> None:
    llama_405b = dense(num_hidden_layers=126, num_attention_heads=128, head_dim=128, num_key_value_heads=8)
    qwen_72b = dense(num_hidden_layers=80, num_attention_heads=64, head_dim=128, num_key_value_heads=8)
    assert count(V3).kv_bytes_per_token() == 70_272
    assert count(V3).kv_bytes_per_token(bytes_per_element=1) == 35_136
    assert count(V2).kv_bytes_per_token() == 69_120
    assert count(llama_405b).kv_bytes_per_token() == 516_096
    assert count(qwen_72b).kv_bytes_per_token() == 327_680


@pytest.mark.parametrize(
    ("counted", "with_mtp", "gigaflops"),
    [
        (AttentionCount.CAUSAL, False, 250.45),
        (AttentionCount.FULL, False, 281.15),
        (AttentionCount.CAUSAL, True, 260.64),
        (AttentionCount.FULL, True, 291.85),
    ],
)
def test_training_deepseek_v3_at_4096_costs_its_published_flops(
    counted: AttentionCount, with_mtp: bool, gigaflops: float
) -> None:
    flops = count(V3).training_flops_per_token(4096, counted=counted, with_mtp=with_mtp)
    assert round(flops.total / 1e9, 2) == gigaflops
    assert flops.counted is counted


def test_full_attention_is_exactly_twice_causal_and_nothing_else_changes() -> None:
    causal = count(V3).forward_flops_per_token(4096)
    full = count(V3).forward_flops_per_token(4096, counted=AttentionCount.FULL)
    assert causal.attention == 10_234_101_760
    assert full.attention == 2 * causal.attention
    assert full.matmul == causal.matmul == 2 * count(V3).matmul_parameters


def test_a_tied_head_is_no_parameter_but_still_multiplies() -> None:
    untied = count(dense(tie_word_embeddings=False))
    tied = count(dense(tie_word_embeddings=True))
    assert untied.parameters_total - tied.parameters_total == 500 * 64
    assert untied.matmul_parameters == tied.matmul_parameters


def dense(
    *,
    num_hidden_layers: int = 2,
    num_attention_heads: int = 4,
    head_dim: int = 16,
    num_key_value_heads: int = 2,
    tie_word_embeddings: bool = False,
) -> ModelConfig:
    return ModelConfig(
        vocab_size=500,
        hidden_size=64,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        intermediate_size=96,
        attention=GQAConfig(num_key_value_heads=num_key_value_heads, head_dim=head_dim),
        tie_word_embeddings=tie_word_embeddings,
    )


even = st.integers(1, 6).map(lambda half: 2 * half)

mla_configs = st.builds(
    MLAConfig,
    q_lora_rank=st.none() | st.integers(1, 9),
    kv_lora_rank=st.integers(1, 9),
    qk_nope_head_dim=even,
    qk_rope_head_dim=even,
    v_head_dim=st.integers(1, 12),
)
gqa_configs = st.builds(
    GQAConfig, num_key_value_heads=st.sampled_from((1, 2, 4)), head_dim=even, qk_norm=st.booleans()
)
moe_configs = st.builds(
    MoEConfig,
    n_routed_experts=st.integers(2, 6),
    n_shared_experts=st.integers(0, 2),
    num_experts_per_tok=st.integers(1, 2),
    moe_intermediate_size=st.integers(1, 9),
    first_k_dense_replace=st.integers(0, 4),
    topk_method=st.sampled_from(("noaux_tc", "greedy")),
)
model_configs = st.builds(
    ModelConfig,
    vocab_size=st.integers(2, 40),
    hidden_size=st.integers(1, 20),
    num_hidden_layers=st.integers(1, 3),
    num_attention_heads=st.just(4),
    intermediate_size=st.integers(1, 20),
    attention=mla_configs | gqa_configs,
    moe=st.none() | moe_configs,
    num_nextn_predict_layers=st.integers(0, 2),
    tie_word_embeddings=st.booleans(),
    attention_bias=st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(config=model_configs)
def test_the_count_of_any_config_is_the_size_of_its_network(config: ModelConfig) -> None:
    with torch.device("meta"):
        sizes = {name: tensor.numel() for name, tensor in Transformer(config).state_dict().items()}
    mtp = sum(size for name, size in sizes.items() if name.startswith("mtp."))
    cost = count(config)
    assert cost.mtp.total == mtp
    assert cost.parameters_total == sum(sizes.values()) - mtp
    assert cost.parameters.experts == sum(
        size for name, size in sizes.items() if ".experts." in name and not name.startswith("mtp.")
    )


@settings(max_examples=50, deadline=None)
@given(config=model_configs)
def test_active_differs_from_total_in_the_routed_experts_alone(config: ModelConfig) -> None:
    cost = count(config)
    idle = cost.parameters_total - cost.parameters_active
    assert idle == cost.parameters.experts - cost.active.experts
    if config.moe is not None:
        share = cost.active.experts * config.moe.n_routed_experts
        assert share == cost.parameters.experts * config.moe.num_experts_per_tok
