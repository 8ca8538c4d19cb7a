"""The four-bit matrices of GGUF files, kept as they are stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openbook.errors import UserError
from openbook.model.config import GQAConfig
from openbook.model.gguf import GgufCheckpoint
from openbook.model.transformer import Transformer
from openbook.quant.formats import WeightFormat
from openbook.quant.modules import QuantizedMatrix
from openbook.quant.store import load_weights

Write = Callable[..., Path]
Make = Callable[..., Transformer]

LLAMA: dict[str, Any] = {
    "gqa": True,
    "hidden_size": 64,
    "intermediate_size": 96,
    "attention": GQAConfig(num_key_value_heads=1, head_dim=32),
}
TOKENS = torch.arange(40).reshape(2, 20)


@pytest.mark.parametrize("kind", ["Q4_1", "Q4_0"])
def test_groups_are_kept_bit_by_bit_and_mean_what_the_file_means(
    make_tiny: Make, write_gguf: Write, kind: str
) -> None:
    checkpoint = GgufCheckpoint.open(write_gguf(make_tiny(**LLAMA), kind=kind))
    kept, plain = load_weights(checkpoint), load_weights(checkpoint, dequantized=True)
    matrices = {name: one for name, one in kept.named_modules() if isinstance(one, QuantizedMatrix)}
    assert {one.stored.format for one in matrices.values()} == {WeightFormat.INT4}
    assert {f"{name}.weight" for name in matrices} == {
        name for name, parameter in plain.named_parameters() if parameter.ndim == 2
    }
    for name, matrix in matrices.items():
        assert torch.equal(matrix.weight, plain.get_parameter(f"{name}.weight")), name
    with torch.no_grad():
        torch.testing.assert_close(kept(TOKENS).hidden_BTD, plain(TOKENS).hidden_BTD)


def test_matrices_of_other_types_are_dequantised(make_tiny: Make, write_gguf: Write) -> None:
    model = make_tiny(**LLAMA)
    checkpoint = GgufCheckpoint.open(write_gguf(model, kind="Q8_0"))
    loaded = load_weights(checkpoint, dtype=torch.bfloat16)
    assert not any(isinstance(one, QuantizedMatrix) for one in loaded.modules())
    assert loaded.lm_head.weight.dtype == torch.bfloat16


def test_a_tensor_without_a_place_is_named(make_tiny: Make, write_gguf: Write) -> None:
    path = write_gguf(make_tiny(**LLAMA), kind="Q4_1", tensors={"score.weight": np.zeros(4, np.float32)})
    with pytest.raises(UserError, match=r"llama-Q4_1\.gguf: tensor score\.weight has no place"):
        load_weights(GgufCheckpoint.open(path))
