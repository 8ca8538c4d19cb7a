from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from openbook.model.config import GQAConfig, MLAConfig, ModelConfig, MoEConfig, YarnConfig
from openbook.model.init import initialize
from openbook.model.transformer import Transformer

MLA = MLAConfig(q_lora_rank=12, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8)
MOE = MoEConfig(n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=16)


def make_config(**fields: Any) -> ModelConfig:
    defaults: dict[str, Any] = {
        "vocab_size": 40,
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "attention": MLA,
        "moe": MOE,
    }
    return ModelConfig(**{**defaults, **fields})


def make_model(config: ModelConfig, seed: int = 0) -> Transformer:
    model = Transformer(config)
    initialize(model, config, torch.Generator().manual_seed(seed))
    return model


def draw_tokens(*shape: int) -> Tensor:
    return torch.randint(0, 40, shape, generator=torch.Generator().manual_seed(7))


def test_parameters_bear_the_public_names() -> None:
    names = dict(Transformer(make_config(num_nextn_predict_layers=1)).named_parameters())
    parts = (
        "q_a_proj",
        "q_a_layernorm",
        "q_b_proj",
        "kv_a_proj_with_mqa",
        "kv_a_layernorm",
        "kv_b_proj",
        "o_proj",
    )
    attention = {f"model.layers.1.self_attn.{name}.weight" for name in parts}
    mixture = {f"model.layers.1.mlp.experts.{name}" for name in ("gate_proj", "up_proj", "down_proj")}
    ahead = {f"mtp.0.{name}.weight" for name in ("enorm", "hnorm", "eh_proj", "norm", "self_attn.o_proj")}
    assert attention | mixture | ahead < names.keys()
    assert names["model.layers.1.mlp.experts.down_proj"].shape == (4, 24, 16)
    assert "model.layers.0.mlp.gate_proj.weight" in names
    assert "model.layers.1.mlp.shared_experts.up_proj.weight" in names
    assert "lm_head.weight" in names


def test_tied_embeddings_serve_as_the_head() -> None:
    model = make_model(make_config(tie_word_embeddings=True))
    assert "lm_head.weight" not in model.state_dict()
    hidden = torch.randn(2, 24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.logits(hidden), hidden @ model.model.embed_tokens.weight.T)


def test_qwen_like_attention_has_biases_and_norms_where_asked() -> None:
    gqa = GQAConfig(num_key_value_heads=2, head_dim=6, qk_norm=True)
    names = Transformer(make_config(attention=gqa, moe=None, attention_bias=True)).state_dict().keys()
    prefix = "model.layers.0.self_attn."
    assert {prefix + name for name in ("q_proj.bias", "k_norm.weight", "v_proj.bias")} < names
    assert prefix + "o_proj.bias" not in names


def test_initial_weights_have_the_configured_spread_and_repeat() -> None:
    config = make_config(vocab_size=4000, init_std=0.006)
    model, again, other = make_model(config), make_model(config), make_model(config, seed=1)
    assert model.model.embed_tokens.weight.std().item() == pytest.approx(0.006, rel=0.02)
    assert model.model.layers[1].mlp.experts.up_proj.std().item() == pytest.approx(0.006, rel=0.1)
    assert (model.model.norm.weight == 1).all()
    assert (model.model.layers[1].mlp.gate.e_score_correction_bias == 0).all()
    for (name, weight), same, different in zip(
        model.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(weight, same), name
        assert weight.ndim == 1 or not torch.equal(weight, different), name


def test_making_and_filling_a_model_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    make_model(make_config(num_nextn_predict_layers=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_output_counts_valid_tokens_of_moe_layers_only() -> None:
    model, tokens = make_model(make_config()), draw_tokens(3, 6)
    valid = torch.arange(6) < torch.tensor([6, 2, 0])[:, None]
    output = model(tokens, valid_BT=valid)
    assert output.hidden_BTD.shape == output.trunk_BTD.shape == (3, 6, 24)
    assert output.expert_loads_LE.shape == (2, 4)
    assert output.expert_loads_LE.dtype == torch.int64
    assert output.expert_loads_LE.sum(1).tolist() == [8 * 2, 8 * 2]
    torch.testing.assert_close(model.model.norm(output.trunk_BTD), output.hidden_BTD)


def test_a_dense_model_routes_nothing() -> None:
    output = make_model(make_config(moe=None))(draw_tokens(1, 4))
    assert output.expert_loads_LE.shape == (0, 0)
    assert output.balance_loss.item() == 0


def test_no_position_sees_a_later_token() -> None:
    model, tokens = make_model(make_config()), draw_tokens(2, 8)
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 40
    before, after = model(tokens).hidden_BTD, model(changed).hidden_BTD
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_biases_rise_for_starved_experts_and_fall_for_crowded_ones() -> None:
    model = make_model(make_config())
    model.update_expert_biases(torch.tensor([[10, 0, 5, 5], [4, 4, 4, 4]]), rate=0.001)
    first, second = (model.model.layers[n].mlp.gate.e_score_correction_bias for n in (1, 2))
    torch.testing.assert_close(first, torch.tensor([-0.001, 0.001, 0.0, 0.0]))
    assert (second == 0).all()
    assert not first.requires_grad


def test_loads_of_mtp_modules_may_follow_those_of_the_main_layers() -> None:
    model = make_model(make_config(num_nextn_predict_layers=1))
    model.update_expert_biases(torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [4, 0, 0, 0]]), rate=0.5)
    assert model.mtp[0].mlp.gate.e_score_correction_bias.tolist() == [-0.5, 0.5, 0.5, 0.5]
    with pytest.raises(AssertionError):
        model.update_expert_biases(torch.ones(4, 4), rate=0.5)


def test_each_mtp_module_is_one_position_shorter() -> None:
    model, tokens = make_model(make_config(num_nextn_predict_layers=2)), draw_tokens(2, 7)
    valid = torch.arange(7) < torch.tensor([7, 4])[:, None]
    trunk = model(tokens, valid_BT=valid).trunk_BTD
    output = model.mtp_forward(trunk, tokens, valid_BT=valid)
    assert [hidden.shape for hidden in output.hidden] == [(2, 6, 24), (2, 5, 24)]
    assert output.expert_loads_LE.sum(1).tolist() == [2 * (6 + 3), 2 * (5 + 2)]
    for hidden, same in zip(output.hidden, model.mtp_hidden(trunk, tokens, valid_BT=valid), strict=True):
        assert torch.equal(hidden, same)


@pytest.mark.parametrize("depth", [0, 1])
def test_mtp_position_i_has_seen_tokens_up_to_i_plus_its_depth(depth: int) -> None:
    model, tokens = make_model(make_config(num_nextn_predict_layers=2)), draw_tokens(1, 9)
    before = model.mtp_hidden(model(tokens).trunk_BTD, tokens)[depth]
    for position in range(depth + 1, 9):
        changed = tokens.clone()
        changed[0, position] = (changed[0, position] + 1) % 40
        after = model.mtp_hidden(model(changed).trunk_BTD, changed)[depth]
        first_moved = int((before - after).abs().amax(-1)[0].gt(1e-6).nonzero()[0])
        assert first_moved == position - depth - 1


@pytest.mark.parametrize("attention", [MLA, GQAConfig(num_key_value_heads=2, head_dim=6)])
def test_nothing_to_look_at_gives_nothing_and_no_error(attention: MLAConfig | GQAConfig) -> None:
    grouped = replace(MOE, n_group=2, topk_group=1)
    model = make_model(make_config(attention=attention, moe=grouped, num_nextn_predict_layers=1))
    tokens = draw_tokens(2, 1)
    output = model(tokens, valid_BT=torch.zeros(2, 1, dtype=torch.bool))
    assert output.expert_loads_LE.sum() == 0
    assert output.balance_loss.item() == 0
    assert model.mtp_hidden(output.trunk_BTD, tokens)[0].shape == (2, 0, 24)


def test_yarn_stretches_the_softmax_scale() -> None:
    yarn = YarnConfig(factor=40, original_max_position_embeddings=4096)
    mla = replace(MLA, qk_nope_head_dim=128, qk_rope_head_dim=64)
    plain, stretched = (
        Transformer(make_config(attention=mla)),
        Transformer(make_config(attention=mla, yarn=yarn)),
    )
    assert plain.model.layers[0].self_attn.scale == pytest.approx(0.0721688, rel=1e-5)
    assert stretched.model.layers[0].self_attn.scale == pytest.approx(0.135234, rel=1e-5)


def test_a_bf16_model_keeps_exact_positions_and_stays_close() -> None:
    config = make_config()
    model, tokens = make_model(config), draw_tokens(2, 300)
    exact = model(tokens).hidden_BTD
    rounded = model.to(torch.bfloat16)(tokens).hidden_BTD
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).abs().mean() < 0.05


def test_a_model_made_without_storage_can_be_filled_later() -> None:
    config, tokens = make_config(num_nextn_predict_layers=1), draw_tokens(2, 5)
    with torch.device("meta"):
        model = Transformer(config)
    model.to_empty(device="cpu")
    initialize(model, config, torch.Generator().manual_seed(0))
    assert torch.equal(model(tokens).hidden_BTD, make_model(config)(tokens).hidden_BTD)


def test_every_parameter_gets_a_gradient_and_repeats_it_bit_for_bit() -> None:
    config, tokens = make_config(num_nextn_predict_layers=1), draw_tokens(4, 12)
    gradients = []
    for _ in range(2):
        model = make_model(config)
        output = model(tokens)
        (ahead,) = model.mtp_hidden(output.trunk_BTD, tokens)
        loss = model.logits(output.hidden_BTD).square().mean() + model.logits(ahead).square().mean()
        (loss + output.balance_loss).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    first, second = gradients
    for name, gradient in first.items():
        assert gradient is not None and gradient.abs().sum() > 0, name
        assert torch.equal(gradient, second[name]), name
