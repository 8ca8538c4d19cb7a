"""The memory of training: exact where it can be, and the estimate against what autograd really keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from openbook.errors import UserError
from openbook.model.config import GQAConfig, MLAConfig, ModelConfig, MoEConfig
from openbook.model.cost import count
from openbook.model.init import initialize
from openbook.model.memory import TrainingMemory, TrainingSetup, training_memory
from openbook.model.transformer import Transformer

MLA = MLAConfig(q_lora_rank=32, kv_lora_rank=24, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=12)
GQA = GQAConfig(num_key_value_heads=2, head_dim=16)
MOE = MoEConfig(n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=32)
NUM_ROWS, LENGTH = 2, 64


def network(attention: MLAConfig | GQAConfig, moe: MoEConfig | None) -> ModelConfig:
    return ModelConfig(
        vocab_size=50,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        attention=attention,
        moe=moe,
    )


@pytest.mark.parametrize(
    "config",
    [
        network(MLA, None),
        network(MLA, MOE),
        network(replace(MLA, q_lora_rank=None), MOE),
        network(GQA, None),
        network(replace(GQA, qk_norm=True), None),
    ],
)
def test_the_activation_estimate_is_near_what_autograd_keeps(config: ModelConfig) -> None:
    kept = bytes_kept_for_backward(config)
    estimate = training_memory(config, TrainingSetup(num_tokens=NUM_ROWS * LENGTH)).activations
    assert estimate == pytest.approx(kept, rel=0.1)


def test_weights_gradients_and_optimizer_are_exact() -> None:
    config = replace(network(MLA, MOE), num_nextn_predict_layers=1)
    setup = TrainingSetup(num_tokens=1, weight_bytes=1, gradient_bytes=4, optimizer_bytes=8)
    memory = training_memory(config, setup)
    num_parameters = count(config).parameters_total + count(config).mtp.total
    assert (memory.weights, memory.gradients, memory.optimizer) == (
        num_parameters,
        4 * num_parameters,
        8 * num_parameters,
    )


def test_recomputation_and_a_loss_in_pieces_need_less() -> None:
    config = network(MLA, MOE)
    plain = training_memory(config, TrainingSetup(num_tokens=4096))
    recomputed = training_memory(config, TrainingSetup(num_tokens=4096, recompute=True))
    in_pieces = training_memory(config, TrainingSetup(num_tokens=4096, logits_tokens=256))
    assert recomputed.activations < plain.activations / 2
    assert in_pieces.logits == plain.logits // 16
    assert in_pieces.activations == plain.activations


def test_what_does_not_fit_is_refused_with_its_parts_and_a_mend() -> None:
    memory = TrainingMemory(
        weights=10**9, gradients=10**9, optimizer=2 * 10**9, activations=5 * 10**9, logits=5 * 10**8
    )
    memory.check_fits(memory.total)
    with pytest.raises(UserError) as refused:
        memory.check_fits(8 * 10**9)
    assert str(refused.value) == (
        "training needs 9.5 GB and 8.0 GB is there "
        "(activations 5.0 GB, optimizer 2.0 GB, weights 1.0 GB, gradients 1.0 GB, logits 500.0 MB); "
        "take fewer tokens a step (and accumulate), or recompute activations"
    )


def bytes_kept_for_backward(config: ModelConfig) -> int:
    """Distinct storages that a forward pass saves, the weights and the table of rotations apart."""
    model = Transformer(config)
    initialize(model, config, torch.Generator().manual_seed(0))
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in weights and not tensor.is_complex():
            kept[address] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model(torch.zeros(NUM_ROWS, LENGTH, dtype=torch.int64)).hidden_BTD
    kept[hidden.untyped_storage().data_ptr()] = hidden
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
