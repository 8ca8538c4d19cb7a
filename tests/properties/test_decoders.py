"""What holds for the counts of any decoder."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from openbook.model.counts import AttentionCount
from openbook.model.decoders import read_decoder

calm = settings(max_examples=80)

DENSE = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "olmo2", "cohere2", "phi", "gpt_neox")
SPARSE = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss", "granitemoe", "llama4_text", "phimoe")


@st.composite
def decoders(draw: st.DrawFn, model_types: tuple[str, ...] = DENSE + SPARSE) -> dict[str, Any]:
    kv_heads = draw(st.integers(1, 4))
    return {
        "model_type": draw(st.sampled_from(model_types)),
        "vocab_size": draw(st.integers(1, 200)),
        "hidden_size": draw(st.integers(8, 64)),
        "intermediate_size": draw(st.integers(1, 99)),
        "num_hidden_layers": draw(st.integers(1, 9)),
        "num_key_value_heads": kv_heads,
        "num_attention_heads": kv_heads * draw(st.integers(1, 4)),
        "head_dim": 2 * draw(st.integers(1, 9)),
        "sliding_window": draw(st.none() | st.integers(1, 40)),
        "num_experts": 4,
        "num_experts_per_tok": draw(st.integers(1, 4)),
        "moe_intermediate_size": draw(st.integers(1, 30)),
        "max_position_embeddings": 512,
        "tie_word_embeddings": draw(st.booleans()),
    }


@calm
@given(config=decoders())
def test_no_token_meets_more_than_there_is(config: dict[str, Any]) -> None:
    found = read_decoder(config)
    assert found.parameters_active <= found.parameters_total
    idle = found.parameters_total - found.parameters_active
    assert idle >= found.parameters.experts - found.active.experts  # and the biases inside idle experts
    if config["num_experts_per_tok"] == 4:
        assert idle == 0


@calm
@given(config=decoders())
def test_one_more_layer_is_never_fewer_parameters_nor_a_smaller_cache(config: dict[str, Any]) -> None:
    fewer = read_decoder(config)
    more = read_decoder(config | {"num_hidden_layers": config["num_hidden_layers"] + 1})
    assert more.parameters_total > fewer.parameters_total
    assert more.cache_bytes(100) >= fewer.cache_bytes(100)
    assert more.num_layers == fewer.num_layers + 1


@calm
@given(config=decoders(), length=st.integers(1, 3000), more=st.integers(0, 3000))
def test_a_longer_context_never_costs_less(config: dict[str, Any], length: int, more: int) -> None:
    found = read_decoder(config)
    assert found.cache_bytes(length) <= found.cache_bytes(length + more)
    assert found.cache_bytes(length) <= length * found.kv_bytes_per_token()
    shorter, longer = (found.decode_flops_per_token(n).attention for n in (length, length + more))
    assert shorter <= longer


@calm
@given(config=decoders(), length=st.integers(1, 3000))
def test_causal_attention_is_half_of_full_and_a_window_never_adds(
    config: dict[str, Any], length: int
) -> None:
    found = read_decoder(config)
    causal = found.forward_flops_per_token(length)
    full = found.forward_flops_per_token(length, counted=AttentionCount.FULL)
    assert full.attention == 2 * causal.attention
    assert full.matmul == causal.matmul == 2 * found.matmul_parameters
    open_wide = read_decoder(config | {"sliding_window": None, "attention_chunk_size": None})
    assert causal.attention <= open_wide.forward_flops_per_token(length).attention


@calm
@given(config=decoders(DENSE))
def test_a_tied_head_is_no_parameter_but_still_multiplies(config: dict[str, Any]) -> None:
    tied = read_decoder(config | {"tie_word_embeddings": True})
    untied = read_decoder(config | {"tie_word_embeddings": False})
    assert untied.parameters_total - tied.parameters_total == config["vocab_size"] * config["hidden_size"]
    assert untied.matmul_parameters == tied.matmul_parameters


@calm
@given(config=decoders(SPARSE), few=st.floats(1, 50), more=st.floats(0, 500))
def test_more_tokens_touch_more_experts_and_never_more_than_all(
    config: dict[str, Any], few: float, more: float
) -> None:
    found = read_decoder(config)
    touched = found.touched_parameters(few)
    assert touched <= found.touched_parameters(few + more) * (1 + 1e-12)
    head = found.table_elements if found.tie_word_embeddings else 0
    assert touched <= (found.parameters.matrices + head) * (1 + 1e-12)
