"""What is read of a public configuration, what is assumed aloud and what is refused, each by its name."""

from __future__ import annotations

from typing import Any

import pytest

from openbook.errors import UserError
from openbook.model.decoders import read_decoder
from openbook.model.shapes import DenseFeedForward, ExpertFeedForward

LLAMA = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
LLAMA_LAYER = 4 * 32 * 32 + 3 * 32 * 48 + 2 * 32
MIXTRAL = LLAMA | {
    "model_type": "mixtral",
    "num_key_value_heads": 4,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}


def moe_layers(config: dict[str, Any]) -> int:
    return read_decoder(config).num_moe_layers


def test_a_dense_decoder_is_counted_by_hand() -> None:
    found = read_decoder(LLAMA)
    assert found.parameters_total == 4 * LLAMA_LAYER + 2 * 100 * 32 + 32
    assert found.warnings == ()


def test_other_names_of_a_field_are_the_same_field() -> None:
    renamed = {
        "model_type": "llama",
        "padded_vocab_size": 100,
        "n_embd": 32,
        "n_inner": 48,
        "n_layer": 4,
        "n_head": 4,
    }
    assert read_decoder(renamed).parameters == read_decoder(LLAMA).parameters


@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"])
@pytest.mark.parametrize("model_type", ["llama", "something_new"])
def test_a_missing_size_is_named(name: str, model_type: str) -> None:
    without = {key: value for key, value in LLAMA.items() if key != name} | {"model_type": model_type}
    with pytest.raises(UserError, match=rf"here\.json: {name} is missing"):
        read_decoder(without, where="here.json")


def test_a_size_that_is_none_is_named() -> None:
    for value in ("many", -3, 0, 2.5, True):
        with pytest.raises(UserError, match="intermediate_size"):
            read_decoder(LLAMA | {"intermediate_size": value})
    with pytest.raises(UserError, match="attention_bias = 'yes' has to be true or false"):
        read_decoder(LLAMA | {"attention_bias": "yes"})
    with pytest.raises(UserError, match="num_key_value_heads = 3 does not divide 4 heads"):
        read_decoder(LLAMA | {"num_key_value_heads": 3})
    with pytest.raises(UserError, match="num_experts_per_tok is 9 and there are 8 experts"):
        read_decoder(MIXTRAL | {"num_experts_per_tok": 9})
    with pytest.raises(UserError, match="hidden_size differs from layer to layer"):
        read_decoder(LLAMA | {"hidden_size": [32, 64]})


@pytest.mark.parametrize("model_type", ["llama", "gpt_oss", "gpt_neo"])
def test_a_size_beyond_any_decoder_is_refused_before_each_layer_is_looked_at(model_type: str) -> None:
    slip = LLAMA | {"model_type": model_type, "num_hidden_layers": 10**9}
    with pytest.raises(UserError, match="num_hidden_layers = 1000000000 is more than 10,000"):
        read_decoder(slip)
    with pytest.raises(UserError, match=r"hidden_size = 1e\+30 is more than any decoder has"):
        read_decoder(LLAMA | {"hidden_size": 10**30})
    patterns = {"attention_types": [[["global", "local"], 10**12]]}
    assert read_decoder(LLAMA | {"model_type": "gpt_neo"} | patterns).num_layers == 4


@pytest.mark.parametrize(
    "fields",
    [
        {"architectures": -1},
        {"model_type": "some_new", "hidden_act": []},
        {"model_type": "some_new", "hidden_act": {"gate": "silu"}},
    ],
)
def test_odd_values_where_only_words_matter_say_nothing(fields: dict[str, Any]) -> None:
    assert read_decoder(LLAMA | fields).parameters == read_decoder(LLAMA).parameters


def test_an_empty_list_of_expert_layers_is_named() -> None:
    with pytest.raises(UserError, match="moe_layer_freq"):
        read_decoder(MIXTRAL | {"model_type": "qwen3_moe", "moe_layer_freq": []})


def test_a_configuration_without_a_type_lacks_its_sizes_in_good_english() -> None:
    with pytest.raises(UserError, match="vocab_size is missing; a configuration has to give it"):
        read_decoder({})


@pytest.mark.parametrize("document", [[], "llama", 3, None])
def test_a_document_that_is_no_object_is_one_clear_line(document: Any) -> None:
    with pytest.raises(UserError, match="holds no object"):
        read_decoder(document)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "t5"}, "t5 is an encoder with a decoder"),
        ({"model_type": "new", "is_encoder_decoder": True}, "new is an encoder with a decoder"),
        ({"model_type": "bert"}, "bert is an encoder, which generates nothing"),
        ({"model_type": "new", "architectures": ["NewForMaskedLM"]}, "new is an encoder"),
        ({"model_type": "mamba"}, "mamba has layers of state instead of attention"),
        ({"model_type": "jamba"}, "jamba has layers of state instead of attention"),
        (LLAMA | {"model_type": "new", "mamba_d_state": 16}, "new has layers of state"),
        (LLAMA | {"layer_types": ["linear_attention"] * 4}, "layer_types has 'linear_attention'"),
        ({"model_type": "gemma3n"}, "gemma3n is not counted yet"),
    ],
)
def test_what_is_no_such_decoder_is_refused_with_the_reason(config: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        read_decoder(config)


def test_an_unknown_type_is_read_as_its_fields_say_and_says_so() -> None:
    found = read_decoder(LLAMA | {"model_type": "something_new", "tie_word_embeddings": True})
    assert found.parameters_total == read_decoder(LLAMA).parameters_total - 100 * 32
    assert "'something_new' is not known" in found.warnings[0]
    assert "gated" in found.warnings[1]
    untold = read_decoder(LLAMA | {"model_type": "something_new"})
    assert any("tie_word_embeddings" in line for line in untold.warnings)


def test_an_unknown_type_may_have_experts_windows_and_latent_attention() -> None:
    experts = {"num_local_experts": 8, "num_experts_per_tok": 2, "first_k_dense_replace": 1}
    found = read_decoder(LLAMA | experts | {"model_type": "new", "n_shared_experts": 1})
    kinds = [type(group.layer.feed_forward) for group in found.groups]
    assert kinds == [DenseFeedForward, ExpertFeedForward]
    latent = {"q_lora_rank": None, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2}
    assert read_decoder(LLAMA | latent | {"model_type": "new"}).kv_bytes_per_token() == 4 * 10 * 2
    window = {"sliding_window": 7, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]}
    found = read_decoder(LLAMA | window | {"model_type": "new"})
    assert found.cache_bytes(100) == (3 * 7 + 100) * 2 * 32 * 2


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({}, 4),
        ({"mlp_only_layers": [0, 2]}, 2),
        ({"decoder_sparse_step": 2}, 2),
        ({"mlp_only_layers": [1], "decoder_sparse_step": 2}, 1),
        ({"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]}, 3),
        ({"first_k_dense_replace": 3}, 1),
        ({"moe_layer_freq": [0, 1, 1, 0]}, 2),
        ({"moe_layer_freq": 2}, 2),
    ],
)
def test_which_layers_have_experts_is_read_in_every_spelling(fields: dict[str, Any], number: int) -> None:
    assert moe_layers(MIXTRAL | {"model_type": "qwen3_moe"} | fields) == number


def test_the_decoder_inside_a_model_of_pictures_is_read_and_the_rest_is_said_to_be_left_out() -> None:
    inside = {"model_type": "llava", "text_config": LLAMA, "vision_config": {"hidden_size": 9}}
    found = read_decoder(inside)
    assert found.parameters == read_decoder(LLAMA).parameters
    assert found.warnings == ("vision_config left out: the decoder of the text alone is counted",)
    assert read_decoder(inside | {"tie_word_embeddings": True}).tie_word_embeddings
    # A configuration inside another leaves out what its class has by default.
    bare = read_decoder({"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}})
    assert bare.parameters_total == 6_738_415_616 + 2 * 64 * 4096


def test_a_null_window_is_none_and_an_absent_one_is_the_default_of_the_class() -> None:
    mistral = LLAMA | {"model_type": "mistral", "num_key_value_heads": 4}
    per_token = read_decoder(mistral).kv_bytes_per_token()
    assert read_decoder(mistral).cache_bytes(9000) == 4096 * per_token
    assert read_decoder(mistral | {"sliding_window": None}).cache_bytes(9000) == 9000 * per_token


def test_a_window_counts_in_qwen_only_where_it_is_used() -> None:
    qwen = LLAMA | {"model_type": "qwen2", "sliding_window": 8, "max_window_layers": 3}
    per_layer = 2 * 32 * 2
    assert read_decoder(qwen).cache_bytes(50) == 4 * 50 * per_layer
    assert read_decoder(qwen | {"use_sliding_window": True}).cache_bytes(50) == (3 * 50 + 8) * per_layer


def test_our_own_configuration_is_read_too() -> None:
    ours = {
        "model_type": "openbook",
        "model": {
            "vocab_size": 100,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "attention": {"kind": "gqa", "num_key_value_heads": 4, "head_dim": 8},
        },
    }
    assert read_decoder(ours).parameters == read_decoder(LLAMA).parameters


def test_falcon_has_one_key_all_keys_or_groups() -> None:
    falcon = {k: v for k, v in LLAMA.items() if k != "intermediate_size"} | {"model_type": "falcon"}
    assert read_decoder(falcon).kv_bytes_per_token() == 4 * 2 * 8 * 2
    assert read_decoder(falcon | {"multi_query": False}).kv_bytes_per_token() == 4 * 2 * 32 * 2
    grouped = falcon | {"new_decoder_architecture": True, "num_kv_heads": 2}
    assert read_decoder(grouped).kv_bytes_per_token() == 4 * 2 * 16 * 2


def test_granite_of_both_kinds_is_read_where_all_its_layers_are_attention() -> None:
    granite = LLAMA | {
        "model_type": "granitemoehybrid",
        "mamba_d_state": 16,
        "num_local_experts": 0,
        "shared_intermediate_size": 48,
        "intermediate_size": 7,
        "layer_types": ["attention"] * 4,
    }
    assert read_decoder(granite).parameters == read_decoder(LLAMA).parameters
    with pytest.raises(UserError, match="layers of state"):
        read_decoder(granite | {"layer_types": ["mamba"] * 3 + ["attention"]})


def test_an_indexer_caps_the_keys_that_are_read_but_not_those_that_are_kept() -> None:
    latent = {
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 4,
        "qk_rope_head_dim": 2,
        "v_head_dim": 4,
    }
    chosen = latent | {"index_topk": 16, "index_n_heads": 3, "index_head_dim": 5}
    dense = LLAMA | {"model_type": "deepseek_v3", "num_experts": 0}
    plain, indexed = read_decoder(dense | latent), read_decoder(dense | chosen)
    assert indexed.parameters_total - plain.parameters_total == 4 * (8 * 15 + 32 * 8 + 2 * 5)
    assert indexed.cache_bytes(100) - plain.cache_bytes(100) == 4 * 5 * 100 * 2
    absorbed = 2 * 8 + 2
    assert plain.decode_flops_per_token(100).attention == 4 * 2 * 4 * absorbed * 100
    assert indexed.decode_flops_per_token(100).attention == 4 * 2 * (4 * absorbed * 16 + 15 * 100)
