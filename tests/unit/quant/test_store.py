"""Quantised checkpoints: every bit comes back, others' are read, and what is wrong with them is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from openbook.errors import UserError
from openbook.model.checkpoint import Checkpoint, save_checkpoint
from openbook.model.transformer import Transformer
from openbook.quant.formats import WeightFormat
from openbook.quant.modules import QuantizedMatrix, quantize_model
from openbook.quant.store import load_model, load_weights, quantization_config, save_quantized
from openbook.quant.weight import quantize

Make = Callable[..., Transformer]

TOKENS = torch.arange(24).reshape(2, 12) * 11 % 320
FEW_BITS = [WeightFormat.INT8, WeightFormat.INT4, WeightFormat.FP8]


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.uint8)


def assert_same_state(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype and torch.equal(bits(found[name]), bits(tensor)), name


def saved(model: Transformer, stored: WeightFormat, folder: Path) -> Path:
    save_quantized(folder, quantize_model(model, stored), provenance={"run_id": "r-1"})
    return folder


def changed(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """The checkpoint with its tensors changed and without our record, as another tool may write it."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    (folder / "openbook.json").unlink()
    return folder


def configured(folder: Path, quantization: Mapping[str, Any]) -> Path:
    """The checkpoint with another `quantization_config`."""
    public = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(public | {"quantization_config": quantization}))
    (folder / "openbook.json").unlink()
    return folder


@pytest.mark.parametrize("stored", FEW_BITS)
@pytest.mark.parametrize("fields", [{}, {"gqa": True, "tie_word_embeddings": True}], ids=["mla", "tied gqa"])
def test_what_is_loaded_is_what_was_saved_bit_by_bit(
    make_tiny: Make, tmp_path: Path, stored: WeightFormat, fields: dict[str, Any]
) -> None:
    quantized = quantize_model(make_tiny(**fields).eval(), stored)
    written = save_quantized(tmp_path / "q", quantized, provenance={"run_id": "r-1"})
    checkpoint, loaded = load_model(tmp_path / "q")
    assert checkpoint.digest == written.digest and checkpoint.provenance == {"run_id": "r-1"}
    assert checkpoint.quantization == written.quantization == quantization_config(stored)
    assert_same_state(loaded.state_dict(), quantized.state_dict())
    assert not any(module.training for module in loaded.modules())


@pytest.mark.parametrize("stored", FEW_BITS)
def test_a_quantised_checkpoint_can_be_loaded_dequantised(
    make_tiny: Make, tmp_path: Path, stored: WeightFormat
) -> None:
    folder = saved(make_tiny(), stored, tmp_path / "q")
    _, kept = load_model(folder)
    checkpoint, plain = load_model(folder, dequantized=True)
    matrices = dict(kept.named_modules())
    assert set(plain.state_dict()) == set(make_tiny().state_dict())
    for name, tensor in plain.state_dict().items():
        matrix = matrices.get(name.removesuffix(".weight"))
        if isinstance(matrix, QuantizedMatrix):
            assert torch.equal(tensor, matrix.weight), name
    with torch.no_grad():
        torch.testing.assert_close(plain(TOKENS).hidden_BTD, kept(TOKENS).hidden_BTD)
    assert all(parameter.requires_grad for parameter in plain.parameters())
    assert checkpoint.config == plain.config


def test_bf16_is_a_plain_public_checkpoint(make_tiny: Make, tmp_path: Path) -> None:
    model = make_tiny()
    folder = saved(model, WeightFormat.BF16, tmp_path / "q")
    public = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in public and public["torch_dtype"] == "bfloat16"
    checkpoint, loaded = load_model(folder)
    assert checkpoint.quantization == {}
    name = "model.layers.1.mlp.experts.up_proj"
    assert torch.equal(loaded.get_parameter(name), model.get_parameter(name).bfloat16().float())
    gate = "model.layers.1.mlp.gate.weight"
    assert torch.equal(loaded.get_parameter(gate), model.get_parameter(gate)), "gates keep every bit"


def test_plain_checkpoints_load_as_they_always_did(make_tiny: Make, tmp_path: Path) -> None:
    model = make_tiny()
    save_checkpoint(tmp_path / "plain", model, provenance={})
    _, loaded = load_model(tmp_path / "plain")
    assert_same_state(loaded.state_dict(), model.state_dict())


def test_mtp_modules_can_be_left_on_the_disk(make_tiny: Make, tmp_path: Path) -> None:
    for stored in FEW_BITS:
        folder = saved(make_tiny(), stored, tmp_path / stored)
        _, loaded = load_model(folder, with_mtp=False)
        assert len(loaded.mtp) == 0


def test_our_form_has_a_scale_beside_each_matrix_and_repeats_no_table(
    make_tiny: Make, tmp_path: Path
) -> None:
    tensors = load_file(saved(make_tiny(), WeightFormat.INT4, tmp_path / "q") / "model.safetensors")
    up = "model.layers.1.mlp.experts.3.up_proj.weight"
    assert (tensors[up].dtype, tensors[up].shape) == (torch.uint8, (16, 16))
    assert tensors[f"{up}_scale"].shape == tensors[f"{up}_minimum"].shape == (16, 1)
    assert tensors["model.layers.1.mlp.experts.3.down_proj.weight"].dtype == torch.bfloat16
    assert "model.layers.2.embed_tokens.weight" not in tensors


def test_fp8_is_the_layout_of_deepseek(make_tiny: Make, tmp_path: Path) -> None:
    """Blocks of 128, ceil(N / 128) x ceil(K / 128) factors; tables and the joint of MTP plain."""
    model = make_tiny(hidden_size=160, intermediate_size=300)
    folder = saved(model, WeightFormat.FP8, tmp_path / "q")
    public = json.loads((folder / "config.json").read_text())
    assert public["model_type"] == "deepseek_v3"
    assert public["quantization_config"] == {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    }
    tensors = load_file(folder / "model.safetensors")
    gate = "model.layers.0.mlp.gate_proj.weight"
    assert (tensors[gate].dtype, tensors[gate].shape) == (torch.float8_e4m3fn, (300, 160))
    assert (tensors[f"{gate}_scale_inv"].dtype, tensors[f"{gate}_scale_inv"].shape) == (torch.float32, (3, 2))
    assert "model.layers.1.mlp.experts.3.down_proj.weight_scale_inv" in tensors
    for table in ("embed_tokens.weight", "shared_head.head.weight", "eh_proj.weight"):
        assert tensors[f"model.layers.2.{table}"].dtype == torch.bfloat16
    assert torch.equal(tensors["model.layers.2.shared_head.head.weight"], tensors["lm_head.weight"])
    assert not any("scale_inv" in name and "mlp.gate.weight" in name for name in tensors)


def test_a_public_fp8_checkpoint_written_by_hand_is_read(make_tiny: Make, tmp_path: Path) -> None:
    """Factors in bf16, tables in fp32, the joint and the head of MTP in fp8: what loaders meet."""
    model = make_tiny().eval()
    folder = tmp_path / "theirs"
    save_checkpoint(folder, model, provenance={})
    wanted: dict[str, Tensor] = {}

    def to_fp8(tensors: dict[str, Tensor]) -> None:
        for name, tensor in list(tensors.items()):
            if tensor.ndim == 2 and "embed" not in name and "head" not in name and "mlp.gate." not in name:
                factors = tensor.abs().amax().reshape(1, 1) / 448 * 1.01
                factors = factors.bfloat16()
                tensors[name] = (tensor / factors.float()).to(torch.float8_e4m3fn)
                tensors[f"{name}_scale_inv"] = factors
                wanted[name] = tensors[name].float() * factors.float()

    configured(folder, {"quant_method": "fp8", "weight_block_size": [128, 128], "scale_fmt": "ue8m0"})
    tensors = load_file(folder / "model.safetensors")
    to_fp8(tensors)
    save_file(tensors, folder / "model.safetensors")
    for dequantized in (False, True):
        _, loaded = load_model(folder, dequantized=dequantized)
        up = "model.layers.1.mlp.experts.{}.up_proj.weight"
        experts = loaded.get_submodule("model.layers.1.mlp.experts")
        stack = experts.up_proj if dequantized else experts.up_proj.weight
        assert torch.equal(stack.detach(), torch.stack([wanted[up.format(expert)] for expert in range(4)]))
        assert torch.equal(loaded.mtp[0].eh_proj.weight, wanted["model.layers.2.eh_proj.weight"])
        assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)


def test_fp8_tables_are_read_and_looked_up(make_tiny: Make, tmp_path: Path) -> None:
    model = make_tiny(gqa=True, tie_word_embeddings=True)
    folder = saved(model, WeightFormat.FP8, tmp_path / "q")
    table = quantize(model.model.embed_tokens.weight.detach(), WeightFormat.FP8, name="x").parts()

    def with_table(tensors: dict[str, Tensor]) -> None:
        tensors["model.embed_tokens.weight"] = table["codes"]
        tensors["model.embed_tokens.weight_scale_inv"] = table["scale_inv"]

    _, loaded = load_model(changed(folder, with_table))
    weight = loaded.model.embed_tokens.weight
    assert torch.equal(loaded.model.embed_tokens(TOKENS), weight[TOKENS])
    assert (weight - model.model.embed_tokens.weight).abs().max() < 0.1


@pytest.mark.parametrize("stored", FEW_BITS)
def test_a_truncated_file_names_the_tensor_that_is_cut(
    make_tiny: Make, tmp_path: Path, stored: WeightFormat
) -> None:
    folder = saved(make_tiny(), stored, tmp_path / "q")
    file = folder / "model.safetensors"
    os.truncate(file, file.stat().st_size - 10)
    with pytest.raises(UserError, match=r"model\.safetensors: truncated at byte \d+: tensor \S+ ends at"):
        load_model(folder)


def test_a_changed_byte_is_found_by_the_digest(make_tiny: Make, tmp_path: Path) -> None:
    file = saved(make_tiny(), WeightFormat.INT8, tmp_path / "q") / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors: its content changed after it was saved"):
        load_model(tmp_path / "q")


NAME = "model.layers.0.self_attn.o_proj.weight"
FAULTS: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "no scale": (lambda tensors: tensors.pop(f"{NAME}_scale"), f"tensor {NAME}_scale is missing"),
    "no matrix": (lambda tensors: tensors.pop(NAME), f"tensor {NAME} is missing"),
    "other scale": (
        lambda tensors: tensors.update({f"{NAME}_scale": torch.zeros(3)}),
        rf"{NAME}_scale has shape \[3\]",
    ),
    "integer scale": (
        lambda tensors: tensors.update({f"{NAME}_scale": torch.ones(32, dtype=torch.int32)}),
        f"tensor {NAME}_scale is int32",
    ),
    "NaN scale": (
        lambda tensors: tensors[f"{NAME}_scale"].fill_(torch.nan),
        f"tensor {NAME}_scale holds NaN",
    ),
    "other codes": (
        lambda tensors: tensors.update({NAME: tensors[NAME].to(torch.int16)}),
        f"tensor {NAME} is int16, which is not of int8",
    ),
    "surplus": (
        lambda tensors: tensors.update({f"{NAME}_zero": torch.zeros(3)}),
        f"tensor {NAME}_zero has no place",
    ),
}


@pytest.mark.parametrize("dequantized", [False, True], ids=["kept", "dequantised"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_tensor_is_told_with_its_file(
    make_tiny: Make, tmp_path: Path, fault: str, dequantized: bool
) -> None:
    change, message = FAULTS[fault]
    folder = changed(saved(make_tiny(), WeightFormat.INT8, tmp_path / "q"), change)
    with pytest.raises(UserError, match=rf"q/model\.safetensors: .*{message}"):
        load_model(folder, dequantized=dequantized)


def test_experts_of_several_forms_are_refused_unless_dequantised(make_tiny: Make, tmp_path: Path) -> None:
    name = "model.layers.1.mlp.experts.1.up_proj.weight"

    def one_plain(tensors: dict[str, Tensor]) -> None:
        tensors[name] = tensors[name].bfloat16()
        del tensors[f"{name}_scale"]

    folder = changed(saved(make_tiny(), WeightFormat.INT8, tmp_path / "q"), one_plain)
    with pytest.raises(UserError, match=r"experts of model\.layers\.1\.mlp\.experts\.up_proj are .* several"):
        load_model(folder)
    load_model(folder, dequantized=True)


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ({"quant_method": "openbok", "format": "int8"}, "'openbok'; did you mean 'openbook'"),
        ({"quant_method": "gptq", "bits": 4}, "unknown quant_method 'gptq'"),
        ({"quant_method": "openbook", "format": "int3"}, "weight format 'int3'; did you mean 'int"),
        ({"quant_method": "fp8", "weight_block_size": [64, 64]}, r"weight_block_size = \[64, 64\] is not"),
        ({"quant_method": "fp8", "fmt": "e5m2"}, "fmt = 'e5m2' is not supported; only 'e4m3'"),
        ({"quant_method": "openbook", "format": "int8", "bits": 8}, "config.bits = 8 is not supported"),
    ],
    ids=str,
)
def test_a_form_that_we_do_not_have_is_refused_by_its_key(
    make_tiny: Make, tmp_path: Path, quantization: dict[str, Any], message: str
) -> None:
    folder = configured(saved(make_tiny(), WeightFormat.INT8, tmp_path / "q"), quantization)
    with pytest.raises(UserError, match=rf"q/config\.json: .*{message}"):
        load_model(folder)


def test_who_wants_plain_weights_is_told_how_to_get_them(make_tiny: Make, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(saved(make_tiny(), WeightFormat.INT8, tmp_path / "q"))
    with pytest.raises(UserError, match=r"the weights are quantised, .*openbook quantize --format bf16"):
        checkpoint.load()
    load_weights(checkpoint)
