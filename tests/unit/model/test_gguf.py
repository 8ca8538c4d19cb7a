"""Models in GGUF files: the network that the metadata describe, tensor by tensor, and what we refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from openbook.errors import UserError
from openbook.model.config import GQAConfig, YarnConfig
from openbook.model.gguf import GgufCheckpoint, dequantize, unpermute
from openbook.model.gguf_groups import GROUP_SIZE, affine_groups
from openbook.model.transformer import Transformer

Write = Callable[..., Path]
MakeTiny = Callable[..., Transformer]

LLAMA: dict[str, Any] = {
    "gqa": True,
    "vocab_size": 48,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "attention": GQAConfig(num_key_value_heads=2, head_dim=16),
    "rms_norm_eps": 1e-5,
    "rope_theta": 500.0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "llama, tied": LLAMA | {"tie_word_embeddings": True},
    "qwen2": LLAMA | {"attention_bias": True},
    "qwen3": LLAMA | {"attention": GQAConfig(num_key_value_heads=2, head_dim=32, qk_norm=True)},
}
TOKENS = torch.arange(40).reshape(2, 20) % 48


@pytest.fixture
def llama(make_tiny: MakeTiny) -> Transformer:
    return randomised(make_tiny(**LLAMA))


@torch.no_grad()
def randomised(model: Transformer) -> Transformer:
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + (parameter.ndim == 1))
    return model.eval()


@torch.no_grad()
def logits(model: Transformer) -> torch.Tensor:
    return model.logits(model(TOKENS).hidden_BTD)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_comes_back_as_it_was_written(name: str, make_tiny: MakeTiny, write_gguf: Write) -> None:
    model = randomised(make_tiny(**FAMILIES[name]))
    opened = GgufCheckpoint.open(write_gguf(model, architecture=name.partition(",")[0]))
    assert opened.config == model.config
    assert opened.digest.startswith("sha256:") and opened.provenance == {}
    loaded = opened.load()
    assert not loaded.training
    state = model.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    for tensor_name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, state[tensor_name]), tensor_name
    assert torch.equal(logits(loaded), logits(model))


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_1", "Q4_0", "Q5_1"])
def test_a_quantised_model_computes_with_its_dequantised_weights(
    kind: str, llama: Transformer, write_gguf: Write
) -> None:
    loaded = GgufCheckpoint.open(write_gguf(llama, kind=kind)).load()
    type_ = gguf.GGMLQuantizationType[kind]
    with torch.no_grad():
        for parameter in llama.parameters():
            if parameter.ndim == 2:
                rounded = gguf.dequantize(gguf.quantize(parameter.numpy(), type_), type_)
                assert not np.array_equal(rounded, parameter.numpy())
                parameter.copy_(torch.from_numpy(rounded.copy()))
    assert torch.equal(logits(loaded), logits(llama))


def test_weights_are_loaded_in_the_dtype_that_is_asked_for(llama: Transformer, write_gguf: Write) -> None:
    loaded = GgufCheckpoint.open(write_gguf(llama, kind="F16")).load(dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    norm = "model.norm.weight"
    assert torch.equal(loaded.state_dict()[norm], llama.state_dict()[norm].bfloat16())


@pytest.mark.parametrize(("kind", "num_bits"), [("Q4_0", 4), ("Q4_1", 4), ("Q8_0", 8)])
def test_affine_groups_hold_every_stored_weight_exactly(
    kind: str, num_bits: int, llama: Transformer, write_gguf: Write
) -> None:
    opened = GgufCheckpoint.open(write_gguf(llama, kind=kind))
    state = opened.load().state_dict()
    for name in ("model.layers.1.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"):
        groups, weight = opened.affine_groups(name), state[name]
        assert groups is not None and groups.num_bits == num_bits
        assert groups.codes_NK.dtype == (torch.int8 if num_bits == 8 else torch.uint8)
        num_rows, width = weight.shape
        assert groups.codes_NK.shape == (num_rows, width)
        assert groups.scale_NG.shape == groups.minimum_NG.shape == (num_rows, width // GROUP_SIZE)
        spread = [part.repeat_interleave(GROUP_SIZE, 1) for part in (groups.scale_NG, groups.minimum_NG)]
        assert torch.equal(spread[0] * groups.codes_NK + spread[1], weight)
        if kind == "Q4_1":
            assert int(groups.codes_NK.min()) == 0 and int(groups.codes_NK.max()) == 15
            for part in (groups.scale_NG, groups.minimum_NG):
                assert torch.equal(part.half().float(), part)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
def test_any_bytes_dequantise_as_in_the_library(kind: str) -> None:
    type_ = gguf.GGMLQuantizationType[kind]
    group_size, group_bytes = gguf.GGML_QUANT_SIZES[type_]
    assert group_size == GROUP_SIZE
    stored = np.random.default_rng(0).integers(0, 256, (7, 5 * group_bytes), dtype=np.uint8)
    groups = affine_groups(stored, type_)
    assert groups is not None
    theirs = torch.from_numpy(gguf.dequantize(stored, type_).copy())
    # Bytes at random make scales of infinity and NaN too.
    sound = theirs.isfinite()
    assert sound.float().mean() > 0.8
    assert torch.equal(groups.dequantize()[sound], theirs[sound])


def test_what_is_not_made_of_affine_groups_has_none(llama: Transformer, write_gguf: Write) -> None:
    opened = GgufCheckpoint.open(write_gguf(llama, kind="Q5_1"))
    assert opened.affine_groups("model.layers.0.mlp.up_proj.weight") is None
    assert opened.affine_groups("model.norm.weight") is None


def test_unpermuting_makes_halves_of_adjacent_pairs() -> None:
    adjacent = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])
    assert unpermute(torch.cat((adjacent, adjacent + 8))[:, None], 2)[:, 0].tolist() == list(range(16))


def test_metadata_are_read_with_their_defaults(llama: Transformer, write_gguf: Write) -> None:
    absent = dict.fromkeys(
        [
            "llama.attention.head_count_kv",
            "llama.attention.key_length",
            "llama.attention.value_length",
            "llama.rope.freq_base",
        ]
    )
    config = GgufCheckpoint.open(write_gguf(llama, changed=absent)).config
    assert config.attention == GQAConfig(num_key_value_heads=4, head_dim=16)
    assert config.rope_theta == 10000.0
    assert config.rms_norm_eps == 1e-5  # and not what 32 bits make of it


def test_yarn_is_read(llama: Transformer, write_gguf: Write) -> None:
    changed = {
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.factor": 4.0,
        "llama.rope.scaling.original_context_length": 64,
    }
    config = GgufCheckpoint.open(write_gguf(llama, changed=changed)).config
    assert config.yarn == YarnConfig(factor=4.0, original_max_position_embeddings=64, mscale_all_dim=0.0)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"llama.block_count": None}, "llama.block_count is missing"),
        ({"llama.block_count": 0}, "llama.block_count = 0"),
        ({"llama.embedding_length": "wide"}, "llama.embedding_length = 'wide'"),
        ({"llama.attention.head_count": [4, 2]}, "llama.attention.head_count = "),
        ({"llama.attention.head_count_kv": 3}, "4 query and 3 key heads"),
        ({"llama.attention.key_length": 15}, "key heads of 15"),
        ({"llama.attention.value_length": 8}, "llama.attention.value_length = 8"),
        ({"llama.rope.dimension_count": 8}, "llama.rope.dimension_count = 8"),
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}, "known: none, yarn"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.factor is missing"),
        ({"llama.expert_count": 8}, "llama.expert_count = 8"),
        ({"llama.context_length": 2.5}, "max_position_embeddings"),
    ],
)
def test_metadata_that_we_cannot_follow_are_named(
    changed: dict[str, Any], told: str, llama: Transformer, write_gguf: Write
) -> None:
    path = write_gguf(llama, changed=changed)
    with pytest.raises(UserError, match=told) as error:
        GgufCheckpoint.open(path)
    assert str(path) in str(error.value)


def test_an_unknown_architecture_is_named(llama: Transformer, write_gguf: Write) -> None:
    with pytest.raises(UserError, match="unknown architecture 'mamba'"):
        GgufCheckpoint.open(write_gguf(llama, architecture="mamba"))


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"blk.1.ffn_up.weight": None}, r"tensor blk\.1\.ffn_up\.weight is missing"),
        (
            {"blk.0.attn_q.weight": np.zeros((64, 32), np.float32)},
            r"blk\.0\.attn_q\.weight has shape \[64, 32\]",
        ),
        ({"blk.0.attn_q.bias": np.zeros(64, np.float32)}, r"blk\.0\.attn_q\.bias has no place"),
        ({"blk.2.ffn_up.weight": np.zeros((2, 2), np.float32)}, r"blk\.2\.ffn_up\.weight has no place"),
        ({"rope_freqs.weight": np.ones(8, np.float32)}, r"rope_freqs\.weight stretches the rope"),
        ({"output_norm.weight": np.zeros(64, np.int32)}, r"output_norm\.weight is of type I32"),
    ],
)
def test_a_tensor_that_is_not_as_it_should_be_is_named(
    tensors: dict[str, Any], told: str, llama: Transformer, write_gguf: Write
) -> None:
    path = write_gguf(llama, tensors=tensors)
    opened = GgufCheckpoint.open(path)
    with pytest.raises(UserError, match=told) as error:
        opened.load()
    assert str(path) in error.value.what


def test_a_file_without_an_embedding_is_refused_at_once(llama: Transformer, write_gguf: Write) -> None:
    with pytest.raises(UserError, match=r"token_embd\.weight is missing"):
        GgufCheckpoint.open(write_gguf(llama, tensors={"token_embd.weight": None}))


def test_types_that_we_have_no_code_for_go_to_the_library(llama: Transformer, write_gguf: Write) -> None:
    opened = GgufCheckpoint.open(write_gguf(llama, kind="Q5_0"))
    tensor = opened.file.tensors["blk.0.ffn_down.weight"]
    theirs = gguf.dequantize(opened.file.read(tensor), tensor.type)
    assert torch.equal(dequantize(opened.file, tensor), torch.from_numpy(theirs.copy()))
