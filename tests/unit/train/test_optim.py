from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from openbook.model.transformer import Transformer
from openbook.train.config import OptimConfig
from openbook.train.optim import Optimizers

CONFIG = OptimConfig(muon_learning_rate=0.02, adamw_learning_rate=3e-3)


def fill_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def advance(model: nn.Module, optimizers: Optimizers, seeds: range) -> None:
    for seed in seeds:
        fill_gradients(model, seed)
        optimizers.step(1.0)


def copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in model.named_parameters()}


def test_muon_takes_the_two_dimensional_matrices_of_the_blocks_and_nothing_else(
    make_tiny: Callable[..., Transformer],
) -> None:
    model = make_tiny()
    optimizers = Optimizers(model, CONFIG)
    advance(model, optimizers, range(1))
    state = optimizers.state_tensors()
    muon = {name.removesuffix("/momentum_buffer") for name in state if name.endswith("/momentum_buffer")}
    adamw = {name.removesuffix("/exp_avg") for name in state if name.endswith("/exp_avg")}
    assert muon | adamw == {name for name, _ in model.named_parameters()}
    assert not muon & adamw
    outside = ("embed_tokens.weight", "lm_head.weight", "gate.weight")
    for name, parameter in model.named_parameters():
        assert (name in muon) == (parameter.ndim == 2 and not name.endswith(outside)), name
    assert "model.layers.0.mlp.gate_proj.weight" in muon
    assert "model.layers.1.self_attn.kv_b_proj.weight" in muon
    assert "mtp.0.eh_proj.weight" in muon
    experts, router = "model.layers.1.mlp.experts.down_proj", "model.layers.1.mlp.gate.weight"
    assert {experts, router, "model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"} <= adamw


def test_adamw_takes_everything_where_muon_is_not_wanted(make_tiny: Callable[..., Transformer]) -> None:
    model = make_tiny()
    optimizers = Optimizers(model, OptimConfig(matrix_optimizer="adamw"))
    advance(model, optimizers, range(1))
    assert not [name for name in optimizers.state_tensors() if name.endswith("/momentum_buffer")]
    assert len(optimizers.state_tensors()) == 3 * len(list(model.parameters()))


def test_a_frozen_parameter_is_left_alone(make_tiny: Callable[..., Transformer]) -> None:
    model = make_tiny()
    model.lm_head.weight.requires_grad_(False)
    before = model.lm_head.weight.detach().clone()
    optimizers = Optimizers(model, CONFIG)
    advance(model, optimizers, range(2))
    assert torch.equal(model.lm_head.weight, before)
    assert not [name for name in optimizers.state_tensors() if name.startswith("lm_head")]


@pytest.mark.parametrize("matrix_optimizer", ["muon", "adamw"])
def test_the_state_put_into_a_new_optimizer_goes_on_bit_for_bit(
    make_tiny: Callable[..., Transformer], one_thread: None, matrix_optimizer: str
) -> None:
    config = OptimConfig(matrix_optimizer=matrix_optimizer, weight_decay=0.1)
    straight = make_tiny()
    optimizers = Optimizers(straight, config)
    advance(straight, optimizers, range(3))
    resumed = make_tiny(seed=1)
    resumed.load_state_dict(straight.state_dict())
    again = Optimizers(resumed, config)
    again.load_state_tensors(optimizers.state_tensors())
    advance(straight, optimizers, range(3, 6))
    advance(resumed, again, range(3, 6))
    after = copies(resumed)
    assert all(torch.equal(one, after[name]) for name, one in straight.named_parameters())
    kept = again.state_tensors()
    assert kept.keys() == optimizers.state_tensors().keys()
    assert all(torch.equal(value, kept[name]) for name, value in optimizers.state_tensors().items())


def test_a_new_optimizer_without_the_state_goes_elsewhere(
    make_tiny: Callable[..., Transformer], one_thread: None
) -> None:
    straight, forgetful = make_tiny(), make_tiny()
    optimizers = Optimizers(straight, CONFIG)
    advance(straight, optimizers, range(3))
    forgetful.load_state_dict(straight.state_dict())
    advance(straight, optimizers, range(3, 4))
    advance(forgetful, Optimizers(forgetful, CONFIG), range(3, 4))
    after = copies(forgetful)
    assert any(not torch.equal(one, after[name]) for name, one in straight.named_parameters())


def test_what_is_put_back_is_a_copy_on_the_device_of_the_parameter() -> None:
    source = nn.Linear(4, 4, bias=False)
    optimizers = Optimizers(source, CONFIG)
    advance(source, optimizers, range(1))
    saved = optimizers.state_tensors()
    target = nn.Linear(4, 4, bias=False)
    again = Optimizers(target, CONFIG)
    again.load_state_tensors(saved)
    advance(target, again, range(1))
    assert not torch.equal(again.state_tensors()["weight/momentum_buffer"], saved["weight/momentum_buffer"])
    elsewhere = Optimizers(nn.Linear(4, 4, bias=False, device="meta"), CONFIG)
    elsewhere.load_state_tensors(saved)
    assert elsewhere.state_tensors()["weight/momentum_buffer"].device.type == "meta"


def test_a_step_uses_its_share_of_both_rates_and_forgets_the_gradients(
    make_tiny: Callable[..., Transformer],
) -> None:
    def change(share: float) -> dict[str, Tensor]:
        model = make_tiny()
        before = copies(model)
        fill_gradients(model, 0)
        Optimizers(model, CONFIG).step(share)
        assert all(parameter.grad is None for parameter in model.parameters())
        return {name: one - before[name] for name, one in copies(model).items()}

    whole, half, none = change(1.0), change(0.5), change(0.0)
    for name in whole:
        assert whole[name].abs().max() > 1e-4, name
        assert not none[name].any()
        torch.testing.assert_close(half[name], whole[name] / 2, atol=1e-6, rtol=1e-3)
