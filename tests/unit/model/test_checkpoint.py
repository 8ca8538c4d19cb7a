"""Checkpoints: whole or not at all, and honest about what is wrong with them."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from openbook.errors import UserError
from openbook.model import checkpoint as checkpoint_module
from openbook.model.checkpoint import Checkpoint, save_checkpoint
from openbook.model.config import MLAConfig, ModelConfig, MoEConfig
from openbook.model.init import initialize
from openbook.model.transformer import Transformer

CONFIG = ModelConfig(
    vocab_size=20,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    attention=MLAConfig(q_lora_rank=12, kv_lora_rank=8, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=6),
    moe=MoEConfig(n_routed_experts=3, n_shared_experts=1, num_experts_per_tok=1, moe_intermediate_size=8),
    num_nextn_predict_layers=1,
    init_std=0.02,
)
PROVENANCE = {"run_id": "r-1", "stage": "sft", "step": 40, "parents": ["sha256:0"]}

DiskUsage = namedtuple("DiskUsage", "total used free")


def network(seed: int = 0) -> Transformer:
    model = Transformer(CONFIG)
    initialize(model, CONFIG, torch.Generator().manual_seed(seed))
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved checkpoint with every kind of tensor."""
    save_checkpoint(tmp_path / "step-40", network(), provenance=PROVENANCE)
    return tmp_path / "step-40"


def as_from_elsewhere(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """The checkpoint with its tensors changed and without our record, as another tool may write it."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    (folder / "openbook.json").unlink()
    return folder


def entries(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_what_is_loaded_is_what_was_saved(folder: Path) -> None:
    saved, loaded = network(), Checkpoint.open(folder).load()
    assert Checkpoint.open(folder).config == CONFIG
    assert not loaded.training
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_a_checkpoint_tells_its_provenance_and_digest(folder: Path) -> None:
    opened = Checkpoint.open(folder)
    assert opened.provenance == PROVENANCE
    assert opened.digest == save_checkpoint(folder, network(), provenance={}).digest
    assert opened.digest != save_checkpoint(folder, network(seed=1), provenance={}).digest
    assert Checkpoint.open(folder).provenance == {}


def test_a_checkpoint_from_elsewhere_gets_the_digest_that_ours_would_have(folder: Path) -> None:
    ours = Checkpoint.open(folder)
    (folder / "openbook.json").unlink()
    theirs = Checkpoint.open(folder)
    assert (theirs.digest, theirs.provenance) == (ours.digest, {})


def test_loading_takes_a_dtype_and_keeps_the_balancing_biases_exact(folder: Path) -> None:
    loaded = Checkpoint.open(folder).load(dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in loaded.buffers()} == {torch.float32}


def test_mtp_modules_can_be_left_on_the_disk(folder: Path) -> None:
    loaded = Checkpoint.open(folder).load(with_mtp=False)
    assert len(loaded.mtp) == 0 and loaded.config == replace(CONFIG, num_nextn_predict_layers=0)


def test_a_configuration_that_only_announces_its_mtp_modules_is_read_without(folder: Path) -> None:
    def drop_mtp(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.startswith("model.layers.2.")]:
            del tensors[name]

    opened = Checkpoint.open(as_from_elsewhere(folder, drop_mtp))
    assert opened.config.num_nextn_predict_layers == 0
    opened.load()


def test_shards_behind_an_index_are_read_as_one(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    shards = {"a.safetensors": sorted(tensors)[::2], "b.safetensors": sorted(tensors)[1::2]}
    for shard, names in shards.items():
        save_file({name: tensors[name] for name in names}, folder / shard)
    weight_map = {name: shard for shard, names in shards.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    (folder / "openbook.json").unlink()
    loaded = Checkpoint.open(folder).load()
    assert torch.equal(loaded.state_dict()["lm_head.weight"], tensors["lm_head.weight"])
    (folder / "b.safetensors").unlink()
    with pytest.raises(UserError, match=r"b\.safetensors: no such file"):
        Checkpoint.open(folder)


def test_a_truncated_file_names_the_first_tensor_that_is_cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    os.truncate(file, file.stat().st_size - 10)
    with pytest.raises(UserError, match=r"model\.safetensors: truncated at byte \d+: tensor \S+ ends at"):
        Checkpoint.open(folder)


@pytest.mark.parametrize("size", [0, 5, 100])
def test_a_file_cut_within_its_header_is_called_truncated(folder: Path, size: int) -> None:
    os.truncate(folder / "model.safetensors", size)
    with pytest.raises(UserError, match=f"model.safetensors: truncated within its header, at byte {size}"):
        Checkpoint.open(folder)


def test_a_header_of_anything_else_is_no_safetensors_file(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((12).to_bytes(8, "little") + b"not any JSON")
    with pytest.raises(UserError, match=r"model\.safetensors: not a safetensors file"):
        Checkpoint.open(folder)


def test_a_changed_byte_is_found_by_the_digest(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors: its content changed after it was saved"):
        Checkpoint.open(folder).load()


def test_a_checkpoint_replaced_between_opening_and_loading_is_not_mistaken(folder: Path) -> None:
    opened = Checkpoint.open(folder)
    save_checkpoint(folder, network(seed=1), provenance={})
    with pytest.raises(UserError, match="replaced by another checkpoint"):
        opened.load()


def test_a_missing_tensor_is_named(folder: Path) -> None:
    name = "model.layers.1.mlp.experts.2.up_proj.weight"
    as_from_elsewhere(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(UserError, match=f"model.safetensors: tensor {name} is missing"):
        Checkpoint.open(folder).load()


def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(folder: Path) -> None:
    as_from_elsewhere(folder, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(21, 16)}))
    with pytest.raises(UserError, match=r"lm_head\.weight has shape \[21, 16\]; .* asks for \[20, 16\]"):
        Checkpoint.open(folder).load()


def test_a_tensor_without_a_place_is_named(folder: Path) -> None:
    as_from_elsewhere(folder, lambda tensors: tensors.update({"score.weight": torch.zeros(2)}))
    with pytest.raises(UserError, match=r"tensor score\.weight has no place"):
        Checkpoint.open(folder).load()


def test_a_copy_that_differs_from_its_original_is_ignored_with_a_note(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = "model.layers.2.shared_head.head.weight"
    Checkpoint.open(folder).load()
    assert not caplog.records
    as_from_elsewhere(folder, lambda tensors: tensors[copy].add_(1))
    loaded = Checkpoint.open(folder).load()
    assert f"{copy} differs from lm_head.weight" in caplog.text
    assert torch.equal(loaded.state_dict()["lm_head.weight"], network().state_dict()["lm_head.weight"])


def test_a_folder_without_weights_says_what_a_checkpoint_is(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        Checkpoint.open(tmp_path / "nowhere")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled weights are never opened"):
        Checkpoint.open(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: not valid JSON"):
        Checkpoint.open(folder)


def test_saving_replaces_a_checkpoint_and_leaves_nothing_beside_it(folder: Path) -> None:
    save_checkpoint(folder, network(seed=1), provenance={})
    assert entries(folder.parent) == ["step-40"]
    assert entries(folder) == ["config.json", "model.safetensors", "openbook.json"]
    loaded = Checkpoint.open(folder).load()
    assert torch.equal(loaded.state_dict()["lm_head.weight"], network(seed=1).state_dict()["lm_head.weight"])


def test_extra_files_are_copied_beside_the_weights(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text("{}")
    save_checkpoint(tmp_path / "saved", network(), provenance={}, extra_files=[tokenizer])
    assert (tmp_path / "saved" / "tokenizer.json").read_text() == "{}"


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(UserError, match="holds something else"):
        save_checkpoint(tmp_path, network(), provenance={})
    assert entries(tmp_path) == ["thesis.txt"]


def test_the_weights_are_as_readable_as_the_configuration(folder: Path) -> None:
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def test_a_disk_too_small_is_refused_before_anything_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(10**6, 10**6 - 1000, 1000))
    assert_refused_for_space(folder, r"needs 1\.\d MB and 1\.0 kB is free")


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_fills_up_while_writing_leaves_the_old_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fill_up(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half a")
        raise failure

    monkeypatch.setattr(checkpoint_module, "save_file", fill_up)
    assert_refused_for_space(folder, r"needs 1\.\d MB and .* is free")


def assert_refused_for_space(folder: Path, message: str) -> None:
    with pytest.raises(UserError, match=f"the disk is full: the checkpoint {message}"):
        save_checkpoint(folder, network(seed=1), provenance={})
    assert entries(folder.parent) == ["step-40"]
    loaded = Checkpoint.open(folder).load()
    assert torch.equal(loaded.state_dict()["lm_head.weight"], network().state_dict()["lm_head.weight"])


def test_a_crash_in_the_middle_of_replacing_leaves_a_checkpoint_that_opens(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def crash_on_the_second(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", crash_on_the_second)
        save_checkpoint(folder, network(seed=1), provenance={})
    assert Checkpoint.open(folder).provenance == PROVENANCE
    save_checkpoint(folder, network(seed=1), provenance={"step": 41})
    assert Checkpoint.open(folder).provenance == {"step": 41}
    assert entries(folder.parent) == ["step-40"]
