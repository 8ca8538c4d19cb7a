"""A quantised model computes nearly what the plain one does, and is moved without being changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from openbook.errors import UserError
from openbook.model.config import GQAConfig
from openbook.model.transformer import Transformer
from openbook.quant.formats import WeightFormat
from openbook.quant.modules import (
    QuantizedEmbedding,
    QuantizedExperts,
    QuantizedLinear,
    QuantizedMatrix,
    named_matrices,
    plain_state,
    quantize_model,
    replace_matrices,
    stored_parts,
)

Make = Callable[..., Transformer]

TOKENS = torch.arange(24).reshape(2, 12) * 11 % 320

TIED = {
    "gqa": True,
    "tie_word_embeddings": True,
    "attention": GQAConfig(num_key_value_heads=1, head_dim=16, qk_norm=True),
    "attention_bias": True,
    "intermediate_size": 64,
}
CLOSE = {WeightFormat.BF16: 0.01, WeightFormat.INT8: 0.03, WeightFormat.INT4: 0.3, WeightFormat.FP8: 0.12}
"""Root mean square of the difference of the logits, relative to that of the logits."""


def logits(model: Transformer) -> Tensor:
    with torch.no_grad():
        return model.logits(model(TOKENS).hidden_BTD)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())


def dequantized(model: Transformer, stored: WeightFormat) -> Transformer:
    """The plain model with each matrix replaced by what its quantised form stands for."""
    quantized = quantize_model(model, stored)
    plain = replace_matrices(model, lambda name, weight: None)
    matrices = dict(quantized.named_modules())
    with torch.no_grad():
        for name, weight in named_matrices(plain):
            matrix = matrices[name.removesuffix(".weight")]
            assert isinstance(matrix, QuantizedMatrix)
            weight.copy_(matrix.weight)
    return plain


@pytest.mark.parametrize("stored", WeightFormat)
@pytest.mark.parametrize("fields", [{}, TIED], ids=["mla, experts, mtp", "gqa, tied"])
def test_a_quantised_model_is_the_plain_model_of_its_dequantised_matrices(
    make_tiny: Make, stored: WeightFormat, fields: dict[str, object]
) -> None:
    model = make_tiny(**fields).eval()
    quantized, plain = quantize_model(model, stored), dequantized(model, stored)
    with torch.no_grad():
        found, wanted = quantized(TOKENS), plain(TOKENS)
        torch.testing.assert_close(found.hidden_BTD, wanted.hidden_BTD)
        torch.testing.assert_close(quantized.logits(found.hidden_BTD), plain.logits(wanted.hidden_BTD))
        pairs = zip(
            quantized.mtp_hidden(found.trunk_BTD, TOKENS),
            plain.mtp_hidden(wanted.trunk_BTD, TOKENS),
            strict=True,
        )
        for ahead, wanted_ahead in pairs:
            torch.testing.assert_close(ahead, wanted_ahead)


@pytest.mark.parametrize("stored", WeightFormat)
@pytest.mark.parametrize("fields", [{}, TIED], ids=["mla, experts, mtp", "gqa, tied"])
def test_a_quantised_model_is_close_to_the_plain_one(
    make_tiny: Make, stored: WeightFormat, fields: dict[str, object]
) -> None:
    model = make_tiny(**fields).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quantized = quantize_model(model, stored)
    assert 0 < relative(logits(quantized), logits(model)) < CLOSE[stored]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} of the model that was quantised"


@pytest.mark.parametrize("stored", WeightFormat)
@pytest.mark.parametrize("gqa", [False, True], ids=["mla", "gqa"])
def test_decoding_from_a_cache_equals_the_whole_forward(
    make_tiny: Make, stored: WeightFormat, gqa: bool
) -> None:
    model = quantize_model(make_tiny(gqa=gqa).eval(), stored)
    cache = model.new_cache(2, 16)
    with torch.no_grad():
        model.forward_cached(TOKENS[:, :11], cache, torch.tensor([0, 0]))
        last = model.forward_cached(TOKENS[:, 11:], cache, torch.tensor([11, 11]))
        torch.testing.assert_close(last[:, 0], model(TOKENS).hidden_BTD[:, 11], rtol=1e-4, atol=1e-4)


def test_every_matrix_is_quantised_and_no_norm_bias_or_gate_is(make_tiny: Make) -> None:
    model = quantize_model(make_tiny(attention_bias=True), WeightFormat.INT8)
    kinds = {type(module) for module in model.modules() if isinstance(module, QuantizedMatrix)}
    assert kinds == {QuantizedLinear, QuantizedEmbedding, QuantizedMatrix}
    left = plain_state(model)
    assert all(tensor.ndim == 1 or name.endswith("mlp.gate.weight") for name, tensor in left.items())
    assert {"model.norm.weight", "mtp.0.mlp.gate.weight", "model.layers.0.self_attn.o_proj.bias"} <= set(left)
    assert {part.parameter for part in stored_parts(model).values()} == {
        name for name, _ in named_matrices(make_tiny(attention_bias=True))
    }


def test_experts_are_stacked_as_kernels_read_them(make_tiny: Make) -> None:
    model = quantize_model(make_tiny(), WeightFormat.INT4)
    experts = model.get_submodule("model.layers.1.mlp.experts")
    assert isinstance(experts, QuantizedExperts)
    up, down = experts.up_proj.stored, experts.down_proj.stored
    assert up.format == "int4" and up.shape == (4, 16, 32)
    assert {name: tuple(part.shape) for name, part in up.parts().items()} == {
        "packed": (4, 16, 16),
        "scale": (4, 16, 1),
        "minimum": (4, 16, 1),
    }
    assert down.format == "bf16" and down.shape == (4, 32, 16), "16 inputs make no group of 32"


@pytest.mark.parametrize("stored", WeightFormat)
def test_a_cast_changes_how_a_matrix_computes_and_not_how_it_is_stored(
    make_tiny: Make, stored: WeightFormat
) -> None:
    model = quantize_model(make_tiny(), stored)
    head = model.lm_head
    assert isinstance(head, QuantizedLinear)
    before = head.weight
    model.to(torch.float64).to(torch.bfloat16)
    assert model.model.norm.weight.dtype == head.weight.dtype == torch.bfloat16
    assert logits(model).dtype == torch.bfloat16
    model.to(torch.float32)
    assert torch.equal(head.weight, before)


def test_the_state_dict_of_a_quantised_model_fills_another(make_tiny: Make) -> None:
    first, second = (quantize_model(make_tiny(seed=seed), WeightFormat.INT8) for seed in (0, 1))
    second.load_state_dict(first.state_dict())
    assert torch.equal(logits(first), logits(second))


def test_a_matrix_that_diverged_is_named(make_tiny: Make) -> None:
    model = make_tiny()
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.experts.up_proj")[2, 3, 4] = torch.nan
    with pytest.raises(UserError, match=r"tensor model\.layers\.1\.mlp\.experts\.up_proj holds NaN"):
        quantize_model(model, WeightFormat.INT8)
