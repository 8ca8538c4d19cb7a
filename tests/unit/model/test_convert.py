"""The public tensor names, written and read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from openbook.model.config import GQAConfig, MLAConfig, ModelConfig, MoEConfig
from openbook.model.convert import is_ignored, load_public, public_copies, public_tensors, public_views
from openbook.model.cost import count
from openbook.model.init import initialize
from openbook.model.public import from_public
from openbook.model.transformer import Transformer

CONFIGS = Path(__file__).parents[2] / "fixtures" / "configs"

CONFIG = ModelConfig(
    vocab_size=20,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    attention=MLAConfig(q_lora_rank=12, kv_lora_rank=8, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=6),
    moe=MoEConfig(n_routed_experts=3, n_shared_experts=1, num_experts_per_tok=1, moe_intermediate_size=8),
    num_nextn_predict_layers=1,
)
WITHOUT_MTP = replace(CONFIG, num_nextn_predict_layers=0)

MLA_NAMES = {
    "self_attn.q_a_proj.weight",
    "self_attn.q_a_layernorm.weight",
    "self_attn.q_b_proj.weight",
    "self_attn.kv_a_proj_with_mqa.weight",
    "self_attn.kv_a_layernorm.weight",
    "self_attn.kv_b_proj.weight",
    "self_attn.o_proj.weight",
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
}
SWIGLU_NAMES = ("gate_proj.weight", "up_proj.weight", "down_proj.weight")
EXPERT_NAMES = {
    "mlp.gate.weight",
    "mlp.gate.e_score_correction_bias",
    *(f"mlp.experts.{expert}.{name}" for expert in range(3) for name in SWIGLU_NAMES),
    *(f"mlp.shared_experts.{name}" for name in SWIGLU_NAMES),
}
DENSE_NAMES = {f"mlp.{name}" for name in SWIGLU_NAMES}
MTP_NAMES = {
    "embed_tokens.weight",
    "enorm.weight",
    "hnorm.weight",
    "eh_proj.weight",
    "shared_head.norm.weight",
    "shared_head.head.weight",
}


def network(config: ModelConfig, seed: int = 0) -> Transformer:
    model = Transformer(config)
    initialize(model, config, torch.Generator().manual_seed(seed))
    for index, tensor in enumerate(model.state_dict().values()):
        tensor.add_(index)
    return model


def written(model: Transformer) -> dict[str, Tensor]:
    return public_tensors(model.config, model.state_dict())


def test_the_layout_of_a_deepseek_with_mtp_is_the_published_one() -> None:
    expected = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    expected |= {f"model.layers.0.{name}" for name in MLA_NAMES | DENSE_NAMES}
    expected |= {f"model.layers.1.{name}" for name in MLA_NAMES | EXPERT_NAMES}
    expected |= {f"model.layers.2.{name}" for name in MLA_NAMES | EXPERT_NAMES | MTP_NAMES}
    assert set(written(network(CONFIG))) == expected


def test_the_public_tensors_of_deepseek_v3_hold_its_685_billion_elements() -> None:
    config = from_public(json.loads((CONFIGS / "deepseek-v3.json").read_text()))
    with torch.device("meta"):
        sizes = {name: view.numel() for name, view in public_views(config, Transformer(config).state_dict())}
    copies = sum(sizes[original] for original in public_copies(config).values())
    assert sum(sizes.values()) + copies == count(config).parameters_stored == 684_489_845_504
    assert sizes["model.layers.61.mlp.experts.255.up_proj.weight"] == 2048 * 7168


def test_experts_are_unstacked_in_order() -> None:
    model = network(CONFIG)
    tensors, stacked = written(model), model.state_dict()["model.layers.1.mlp.experts.down_proj"]
    assert stacked.shape == (3, 16, 8)
    for expert in range(3):
        name = f"model.layers.1.mlp.experts.{expert}.down_proj.weight"
        assert torch.equal(tensors[name], stacked[expert])


def test_mtp_layers_carry_copies_of_both_tables_in_their_own_storage() -> None:
    tensors = written(network(CONFIG))
    for copy, original in public_copies(CONFIG).items():
        assert torch.equal(tensors[copy], tensors[original])
        assert tensors[copy].data_ptr() != tensors[original].data_ptr()
    assert public_copies(CONFIG) == {
        "model.layers.2.embed_tokens.weight": "model.embed_tokens.weight",
        "model.layers.2.shared_head.head.weight": "lm_head.weight",
    }


def test_a_tied_network_writes_no_head_and_takes_it_from_the_embedding() -> None:
    config = replace(CONFIG, tie_word_embeddings=True)
    tensors = written(network(config))
    assert "lm_head.weight" not in tensors
    head = tensors["model.layers.2.shared_head.head.weight"]
    assert torch.equal(head, tensors["model.embed_tokens.weight"])
    assert public_copies(config)["lm_head.weight"] == "model.embed_tokens.weight"


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, tie_word_embeddings=True, num_nextn_predict_layers=2),
        replace(CONFIG, moe=None, attention=GQAConfig(num_key_value_heads=1, head_dim=8, qk_norm=True)),
    ],
)
def test_reading_what_was_written_gives_the_same_network(config: ModelConfig) -> None:
    source, target = network(config), network(config, seed=1)
    tensors = written(source)
    load_public(config, target.state_dict(), lambda name, shape: tensors[name].view(shape))
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name


def test_reading_casts_the_weights_but_never_the_balancing_biases() -> None:
    source = network(WITHOUT_MTP)
    biases = source.state_dict()["model.layers.1.mlp.gate.e_score_correction_bias"]
    biases.copy_(torch.tensor([0.1, 0.2, 0.3]))
    tensors, target = written(source), network(WITHOUT_MTP).to(torch.bfloat16)
    load_public(WITHOUT_MTP, target.state_dict(), lambda name, shape: tensors[name])
    read = target.state_dict()
    assert torch.equal(read["model.layers.1.mlp.gate.e_score_correction_bias"], biases)
    assert read["lm_head.weight"].dtype == torch.bfloat16


def test_layers_behind_the_last_are_ignored_and_no_others() -> None:
    assert is_ignored(WITHOUT_MTP, "model.layers.2.eh_proj.weight")
    assert not is_ignored(CONFIG, "model.layers.2.eh_proj.weight")
    assert is_ignored(CONFIG, "model.layers.3.eh_proj.weight")
    assert not is_ignored(WITHOUT_MTP, "model.layers.1.mlp.gate.weight")
    assert is_ignored(WITHOUT_MTP, "model.layers.0.self_attn.rotary_emb.inv_freq")
    assert not is_ignored(WITHOUT_MTP, "score.weight")
