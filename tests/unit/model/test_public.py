"""The public config.json: what it says, what it must say, and what we refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openbook.errors import UserError
from openbook.model.config import GQAConfig, MLAConfig, ModelConfig, MoEConfig, YarnConfig
from openbook.model.public import from_public, public_model_type, quantization_of, to_public

CONFIGS = Path(__file__).parents[2] / "fixtures" / "configs"

V3 = ModelConfig(
    vocab_size=129280,
    hidden_size=7168,
    num_hidden_layers=61,
    num_attention_heads=128,
    intermediate_size=18432,
    attention=MLAConfig(
        q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128
    ),
    moe=MoEConfig(
        n_routed_experts=256,
        n_shared_experts=1,
        num_experts_per_tok=8,
        moe_intermediate_size=2048,
        first_k_dense_replace=3,
        n_group=8,
        topk_group=4,
        routed_scaling_factor=2.5,
    ),
    num_nextn_predict_layers=1,
    max_position_embeddings=163840,
    yarn=YarnConfig(factor=40.0, original_max_position_embeddings=4096),
    init_std=0.02,
)


def fixture(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((CONFIGS / f"{name}.json").read_text())
    return data


def test_the_public_v3_configuration_is_read_whole() -> None:
    assert from_public(fixture("deepseek-v3")) == V3


def test_the_public_v2_configuration_routes_as_v2_did() -> None:
    config = from_public(fixture("deepseek-v2"))
    assert config.moe is not None and config.yarn is not None
    assert (config.moe.scoring_func, config.moe.topk_method) == ("softmax", "group_limited_greedy")
    assert not config.moe.norm_topk_prob
    assert (config.moe.routed_scaling_factor, config.yarn.mscale) == (16.0, 0.707)
    assert config.num_nextn_predict_layers == 0


def test_llama_and_qwen3_are_read_as_grouped_query_attention() -> None:
    llama, qwen3 = from_public(fixture("llama-small")), from_public(fixture("qwen3-small"))
    assert llama.attention == GQAConfig(num_key_value_heads=2, head_dim=16)
    assert (llama.tie_word_embeddings, llama.rope_theta, llama.yarn) == (True, 100000.0, None)
    assert qwen3.attention == GQAConfig(num_key_value_heads=2, head_dim=32, qk_norm=True)
    assert qwen3.yarn is not None and (qwen3.yarn.mscale, qwen3.yarn.mscale_all_dim) == (1.0, 0.0)


@pytest.mark.parametrize("name", ["deepseek-v3", "deepseek-v2", "llama-small", "qwen3-small"])
def test_what_is_written_says_the_same_as_what_was_read(name: str) -> None:
    public = fixture(name)
    config = from_public(public)
    written = to_public(config)
    assert from_public(json.loads(json.dumps(written))) == config
    assert written["architectures"] == public["architectures"]
    same_by_design = set(written) - {"rope_scaling"}
    assert {key: written[key] for key in same_by_design & set(public)} == {
        key: public[key] for key in same_by_design & set(public)
    }


def test_the_newer_spelling_of_the_rope_keys_reads_the_same() -> None:
    public = fixture("deepseek-v3")
    rope = public.pop("rope_scaling") | {"rope_theta": public.pop("rope_theta")}
    rope["rope_type"] = rope.pop("type")
    assert from_public(public | {"rope_parameters": rope}) == V3


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("deepseek-v3", "kv_lora_rank"),
        ("deepseek-v3", "n_routed_experts"),
        ("deepseek-v3", "first_k_dense_replace"),
        ("llama-small", "intermediate_size"),
        ("qwen3-small", "rms_norm_eps"),
    ],
)
def test_a_missing_key_is_named(name: str, key: str) -> None:
    public = fixture(name)
    del public[key]
    with pytest.raises(UserError, match=f"^here/config.json: {key} is missing"):
        from_public(public, where="here/config.json")


def test_a_missing_key_of_the_rope_table_is_named() -> None:
    public = fixture("deepseek-v3")
    del public["rope_scaling"]["factor"]
    with pytest.raises(UserError, match="rope_scaling: factor is missing"):
        from_public(public)


def test_a_key_of_the_wrong_type_is_named() -> None:
    llama = fixture("llama-small")
    with pytest.raises(UserError, match=r"config\.json: hidden_size = 'wide' has to be a number"):
        from_public(llama | {"hidden_size": "wide"})
    with pytest.raises(UserError, match="tie_word_embeddings = 1 has to be true or false"):
        from_public(llama | {"tie_word_embeddings": 1})
    with pytest.raises(UserError, match="num_hidden_layers = True has to be a number"):
        from_public(llama | {"num_hidden_layers": True})
    with pytest.raises(UserError, match=r"num_key_value_heads.*integer"):
        from_public(llama | {"num_key_value_heads": 1.5})
    with pytest.raises(UserError, match=r"num_attention_heads = 0 .* positive"):
        from_public(llama | {"num_attention_heads": 0})


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("llama-small", "hidden_act", "gelu"),
        ("llama-small", "mlp_bias", True),
        ("llama-small", "attention_bias", True),
        ("qwen3-small", "use_sliding_window", True),
        ("qwen3-small", "layer_types", ["full_attention", "sliding_attention"]),
        ("deepseek-v3", "num_key_value_heads", 8),
        ("deepseek-v3", "moe_layer_freq", 2),
    ],
)
def test_a_network_that_we_do_not_have_is_refused_by_its_key(name: str, key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"{key} = .* is not supported"):
        from_public(fixture(name) | {key: value})


def test_how_weights_are_stored_changes_no_shape() -> None:
    public = fixture("deepseek-v3") | {"quantization_config": {"quant_method": "fp8"}}
    assert from_public(public) == from_public(fixture("deepseek-v3"))
    assert quantization_of(public, where="config.json") == {"quant_method": "fp8"}
    assert quantization_of(fixture("deepseek-v3"), where="config.json") == {}
    with pytest.raises(UserError, match="quantization_config = 'fp8' has to be an object"):
        quantization_of({"quantization_config": "fp8"}, where="config.json")


def test_an_unknown_rope_type_is_refused() -> None:
    rope = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}
    with pytest.raises(UserError, match="rope type 'llama3'"):
        from_public(fixture("llama-small") | {"rope_scaling": rope})


def test_a_rope_of_its_own_for_each_kind_of_layer_is_refused() -> None:
    ropes = {"full_attention": {"rope_type": "default", "rope_theta": 1e6}}
    with pytest.raises(UserError, match=r"rope_parameters = .* only one rope for all layers"):
        from_public(fixture("llama-small") | {"rope_parameters": ropes})


def test_an_unknown_model_type_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown model_type 'deepseekv3'; did you mean 'deepseek_v3'"):
        from_public({"model_type": "deepseekv3"})


def test_a_query_compression_of_zero_is_none() -> None:
    config = from_public(fixture("deepseek-v3") | {"q_lora_rank": 0})
    assert isinstance(config.attention, MLAConfig) and config.attention.q_lora_rank is None


def test_a_dense_deepseek_never_reaches_its_first_expert_layer() -> None:
    dense = replace(V3, moe=None)
    written = to_public(dense)
    assert (written["model_type"], written["first_k_dense_replace"]) == ("deepseek_v3", 62)
    assert "n_routed_experts" not in written
    assert from_public(written) == dense


def test_what_no_public_architecture_computes_is_written_as_our_own() -> None:
    assert V3.moe is not None
    softmax_with_bias = replace(V3, moe=replace(V3.moe, scoring_func="softmax"))
    grouped_with_experts = replace(V3, attention=GQAConfig(num_key_value_heads=8, head_dim=128))
    looking_ahead = replace(from_public(fixture("llama-small")), num_nextn_predict_layers=1)
    for config in (softmax_with_bias, grouped_with_experts, looking_ahead):
        assert public_model_type(config) == "openbook"
        assert from_public(json.loads(json.dumps(to_public(config)))) == config


def test_the_initial_deviation_is_written_out() -> None:
    written = to_public(replace(V3, init_std=None))
    assert written["initializer_range"] == pytest.approx(0.5 / 7168**0.5)
