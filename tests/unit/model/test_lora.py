"""Adapters beside frozen matrices: at first nothing is changed, then only they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from openbook.config import parse
from openbook.errors import UserError
from openbook.model.lora import (
    AdaptedLinear,
    add_lora,
    merge_lora,
    merged_state,
    num_adapter_parameters,
    num_trained,
)
from openbook.model.lora_config import TARGETS, LoraConfig
from openbook.model.transformer import Transformer

MakeTiny = Callable[..., Transformer]
SMALL = LoraConfig(rank=4)
TOKENS_BT = torch.tensor([[5, 9, 2, 200, 31], [1, 2, 3, 4, 5]])


def adapted(model: Transformer, chosen: LoraConfig = SMALL, *, seed: int = 1) -> Transformer:
    add_lora(model, chosen, torch.Generator().manual_seed(seed))
    return model


@torch.no_grad()
def stirred(model: Transformer) -> Transformer:
    """The adapters as they might be after some steps."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.normal_(0.0, 0.1, generator=generator)
    return model


def logits_of(model: Transformer) -> Tensor:
    with torch.no_grad():
        return model.logits(model(TOKENS_BT).hidden_BTD)


@pytest.mark.parametrize("gqa", [False, True])
def test_at_the_start_the_function_is_unchanged(gqa: bool, make_tiny: MakeTiny) -> None:
    assert torch.equal(logits_of(adapted(make_tiny(gqa=gqa))), logits_of(make_tiny(gqa=gqa)))


@pytest.mark.parametrize("gqa", [False, True])
def test_merged_equals_unmerged(gqa: bool, make_tiny: MakeTiny) -> None:
    model = stirred(adapted(make_tiny(gqa=gqa)))
    before, promised = logits_of(model), merged_state(model)
    assert (before - logits_of(make_tiny(gqa=gqa))).abs().max() > 1e-2, "the adapters do something"
    merge_lora(model)
    assert (logits_of(model) - before).abs().max() < 1e-6 * before.abs().max()
    assert model.state_dict().keys() == make_tiny(gqa=gqa).state_dict().keys() == promised.keys()
    assert all(torch.equal(value, promised[name]) for name, value in model.state_dict().items())
    assert num_trained(model) == num_trained(make_tiny(gqa=gqa)), "every weight may learn again"


@torch.no_grad()
def test_cached_tokens_go_through_the_adapters_too(make_tiny: MakeTiny) -> None:
    model = stirred(adapted(make_tiny())).eval()
    cache = model.new_cache(2, 8)
    for place in range(TOKENS_BT.shape[1]):  # one by one: the absorbed form reads a whole matrix
        lengths_B = torch.full((2,), place)
        hidden_B1D = model.forward_cached(TOKENS_BT[:, place : place + 1], cache, lengths_B)
    assert torch.allclose(hidden_B1D[:, 0], model(TOKENS_BT).hidden_BTD[:, -1], atol=1e-5)


def test_only_adapters_have_a_gradient_and_it_is_that_of_the_formula(make_tiny: MakeTiny) -> None:
    model, plain = stirred(adapted(make_tiny(gqa=True))), make_tiny(gqa=True)
    plain.load_state_dict(merged_state(model))
    for one in (model, plain):
        one(TOKENS_BT).hidden_BTD[..., :5].sum().backward()
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == {name for name, _ in model.named_parameters() if "lora_" in name}
    module = model.get_submodule("model.layers.0.self_attn.k_proj")
    whole_NK = plain.get_parameter("model.layers.0.self_attn.k_proj.weight").grad
    assert isinstance(module, AdaptedLinear) and whole_NK is not None
    expected = {
        "lora_A_rK": module.scale * module.lora_B_Nr.T @ whole_NK,
        "lora_B_Nr": module.scale * whole_NK @ module.lora_A_rK.T,
    }
    for name, gradient in expected.items():
        found = module.get_parameter(name).grad
        assert found is not None and torch.allclose(found, gradient, rtol=1e-4, atol=1e-5)


def test_the_number_of_parameters_that_learn_is_counted_and_foretold(make_tiny: MakeTiny) -> None:
    for gqa, targets in ((False, TARGETS), (True, TARGETS), (True, ("q_proj", "down_proj"))):
        chosen = LoraConfig(rank=3, targets=targets)
        model = make_tiny(gqa=gqa)
        counted = add_lora(model, chosen, torch.Generator().manual_seed(0))
        assert counted == num_trained(model) == num_adapter_parameters(model.config, chosen)
    width, heads, inner = 32, 2 * 8, 48  # of the last: q_proj [16, 32] and down_proj [32, 48] in two layers
    assert counted == 2 * 3 * ((heads + width) + (width + inner))


def test_routed_experts_the_router_and_mtp_modules_stay_as_they_are(make_tiny: MakeTiny) -> None:
    model = adapted(make_tiny())
    names = {name for name, module in model.named_modules() if isinstance(module, AdaptedLinear)}
    assert any("shared_experts" in name for name in names)
    assert not any(".experts" in name or name.startswith("mtp") or name.endswith(".gate") for name in names)


def test_a_seed_gives_the_adapters(make_tiny: MakeTiny) -> None:
    first, same, other = (adapted(make_tiny(), seed=seed).state_dict() for seed in (1, 1, 2))
    name = "model.layers.1.self_attn.o_proj.lora_A_rK"
    assert torch.equal(first[name], same[name]) and not torch.equal(first[name], other[name])


def test_a_rank_that_does_not_fit_is_refused_before_anything_is_changed(make_tiny: MakeTiny) -> None:
    model = make_tiny(gqa=True)
    with pytest.raises(
        UserError, match=r"rank is 20, and layers.0.self_attn.q_proj is 16 x 32; .* at most 16"
    ):
        adapted(model, LoraConfig(rank=20))
    assert model.state_dict().keys() == make_tiny(gqa=True).state_dict().keys()
    adapted(model, LoraConfig(rank=20, targets=("down_proj",)))


def test_matrices_that_a_model_does_not_have_are_no_choice(make_tiny: MakeTiny) -> None:
    with pytest.raises(UserError, match=r"none of kv_b_proj; it has .*k_proj"):
        adapted(make_tiny(gqa=True), LoraConfig(targets=("kv_b_proj",)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": ["q_prj"]}, r"lora: targets: unknown matrix 'q_prj'; did you mean 'q_proj'\?"),
        ({"targets": []}, "targets is empty"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"alpha": 0.0}, "alpha must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(LoraConfig, settings, where="lora")


def test_alpha_over_rank_is_how_often_an_adapter_counts(make_tiny: MakeTiny) -> None:
    model = stirred(adapted(make_tiny(gqa=True), replace(SMALL, alpha=6.0)))
    module = model.get_submodule("model.layers.0.mlp.up_proj")
    assert isinstance(module, AdaptedLinear)
    expected = module.frozen_NK + 1.5 * module.lora_B_Nr @ module.lora_A_rK
    assert torch.allclose(module.weight, expected)
