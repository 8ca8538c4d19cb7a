"""`openbook quantize`: what it writes, what it says of it, and that the rest of the commands read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from openbook.model.checkpoint import Checkpoint
from openbook.model.config import GQAConfig
from openbook.model.gguf import GgufCheckpoint
from openbook.quant.formats import WeightFormat
from openbook.quant.modules import QuantizedMatrix
from openbook.quant.store import load_model, load_weights
from openbook.tokens.tokenizer import Tokenizer

Command = Callable[..., Any]


@pytest.mark.parametrize("wanted", WeightFormat)
def test_a_quantised_checkpoint_says_how_far_it_is_off_and_how_large(
    openbook: Command, checkpoint: Path, tmp_path: Path, wanted: WeightFormat
) -> None:
    out = tmp_path / "small"
    answer = openbook("quantize", checkpoint, "--format", wanted, "--out", out, "--json")
    assert answer.code == 0, answer.err
    result = json.loads(answer.out)
    stored = load_file(out / "checkpoint" / "model.safetensors")
    assert result["bytes_after"] == (out / "checkpoint" / "model.safetensors").stat().st_size
    assert result["bytes_after"] < 0.6 * result["bytes_before"]
    assert all(0 < matrix["share_of_bound"] <= 1 for matrix in result["matrices"])
    held = sum(tensor.nbytes for name, tensor in stored.items() if tensor.ndim == 2 or "weight_" in name)
    assert sum(matrix["num_bytes"] for matrix in result["matrices"]) == held
    assert Checkpoint.open(out / "checkpoint").digest == result["digest"]


def test_a_quantised_checkpoint_is_used_like_any_other(
    openbook: Command, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    assert openbook("quantize", checkpoint, "--format", "int8", "--out", out).code == 0
    answer = openbook("generate", out, "a = 3. a?", "--max-tokens", "6", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["completions"][0]["num_tokens"] > 0
    dials = ("--set", "num_problems=2", "--set", "num_samples=1", "--set", "max_tokens=4")
    assert openbook("eval", out, "--out", tmp_path / "exam", *dials).code == 0
    assert "is sound" in openbook("checkpoint", "verify", out).out
    assert ", int8" in openbook("checkpoint", "show", out).out
    shown = json.loads(openbook("checkpoint", "show", out, "--json").out)
    assert shown["quantization"] == {"quant_method": "openbook", "format": "int8"}


def test_it_is_a_run_with_its_source_and_its_price(
    openbook: Command, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    openbook("quantize", checkpoint, "--format", "int4", "--out", out)
    shown = json.loads(openbook("runs", "show", out, "--json").out)
    assert shown["status"] == "done" and shown["usage"]["device_microseconds"] > 0
    source = Checkpoint.open(checkpoint)
    assert [(parent["role"], parent["digest"]) for parent in shown["parents"]] == [("source", source.digest)]
    provenance = Checkpoint.open(out / "checkpoint").provenance
    assert provenance["parents"] == [source.digest] and provenance["format"] == "int4"


def test_the_same_command_again_takes_what_is_there(
    openbook: Command, checkpoint: Path, tmp_path: Path
) -> None:
    words = ("quantize", checkpoint, "--out", tmp_path / "small", "--json", "--format")
    first, again = openbook(*words, "int8"), openbook(*words, "int8")
    assert json.loads(first.out) == json.loads(again.out)


def test_it_is_printed_by_kind_with_what_was_left_out(
    openbook: Command, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    answer = openbook("quantize", checkpoint, "--format", "fp8", "--out", out)
    lines = answer.out.splitlines()
    kinds = [line.split()[0] for line in lines if line.startswith("model.layers.")]
    assert "model.layers.*.self_attn.q_proj.weight" in kinds and len(kinds) == len(set(kinds))
    assert any(line.startswith("not in fp8: model.embed_tokens.weight") for line in lines)
    assert lines[-1] == str(out / "checkpoint")


def test_a_dry_run_foretells_the_bytes_and_writes_nothing(
    openbook: Command, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    for wanted in WeightFormat:
        words = ("quantize", checkpoint, "--format", wanted, "--out", out / wanted)
        planned = json.loads(openbook(*words, "--dry-run").out)
        assert not (out / wanted).exists()
        openbook(*words)
        written = load_file(out / wanted / "checkpoint" / "model.safetensors")
        assert planned["bytes_after"] == sum(tensor.nbytes for tensor in written.values())


def test_an_unknown_format_names_the_nearest(openbook: Command, checkpoint: Path) -> None:
    answer = openbook("quantize", checkpoint, "--format", "int44")
    assert answer.code == 2 and "did you mean 'int4'" in answer.err and len(answer.err.splitlines()) == 1


def test_a_model_that_diverged_is_refused_by_the_name_of_its_tensor(
    openbook: Command, checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "diverged"
    folder.mkdir()
    (folder / "config.json").write_text((checkpoint / "config.json").read_text())
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors")
    answer = openbook("quantize", folder, "--format", "int8", "--out", tmp_path / "small")
    assert answer.code == 2
    assert "tensor model.layers.0.mlp.up_proj.weight holds NaN" in answer.err
    assert json.loads(openbook("runs", "show", tmp_path / "small", "--json").out)["status"] == "failed"


def test_a_form_that_is_there_already_is_taken_over_and_another_is_made_from_it(
    openbook: Command, checkpoint: Path, tmp_path: Path
) -> None:
    first, same, back = (tmp_path / name for name in ("first", "same", "back"))
    openbook("quantize", checkpoint, "--format", "int4", "--out", first)
    openbook("quantize", first, "--format", "int4", "--out", same)
    openbook("quantize", first, "--format", "bf16", "--out", back)
    weights = "checkpoint/model.safetensors"
    assert (first / weights).read_bytes() == (same / weights).read_bytes()
    _, plain = load_model(back / "checkpoint")
    _, dequantized = load_model(first / "checkpoint", dequantized=True)
    name = "model.layers.0.mlp.up_proj.weight"
    wanted = dequantized.get_parameter(name).bfloat16().float()
    assert torch.equal(plain.get_parameter(name), wanted)


def test_a_gguf_file_keeps_its_groups_and_brings_tokenizer_and_template(
    openbook: Command,
    make_tiny: Callable[..., Any],
    write_gguf: Callable[..., Path],
    gguf_vocabulary: dict[str, Any],
    tmp_path: Path,
) -> None:
    model = make_tiny(
        gqa=True,
        vocab_size=len(gguf_vocabulary["tokenizer.ggml.tokens"]),
        hidden_size=64,
        intermediate_size=96,
        attention=GQAConfig(num_key_value_heads=1, head_dim=32),
    )
    file = write_gguf(model, kind="Q4_1", changed=gguf_vocabulary)
    out = tmp_path / "small"
    answer = openbook("quantize", file, "--format", "int4", "--out", out, "--json")
    assert answer.code == 0, answer.err
    assert all(matrix["largest_error"] == 0 for matrix in json.loads(answer.out)["matrices"])
    _, loaded = load_model(out / "checkpoint")
    kept = dict(load_weights(GgufCheckpoint.open(file)).named_modules())
    for name, module in loaded.named_modules():
        if isinstance(module, QuantizedMatrix):
            before = kept[name]
            assert isinstance(before, QuantizedMatrix)
            assert torch.equal(module.weight, before.weight), name
    tokenizer = Tokenizer.load(out / "checkpoint")
    assert tokenizer.token(tokenizer.eos_id) == "<|im_end|>"
    said = [
        json.loads(openbook("generate", path, "a an", "--max-tokens", "6", "--json").out)
        for path in (file, out)
    ]
    assert said[0]["completions"][0]["text"] == said[1]["completions"][0]["text"]
