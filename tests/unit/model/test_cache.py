from __future__ import annotations

import pytest
import torch

from openbook.model.cache import Cache, allocate
from openbook.model.config import GQAConfig, MLAConfig, ModelConfig
from openbook.model.transformer import Transformer

MLA = MLAConfig(q_lora_rank=None, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8)


def make_config(attention: MLAConfig | GQAConfig) -> ModelConfig:
    return ModelConfig(
        vocab_size=10,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=16,
        attention=attention,
    )


def numbered(batch_size: int) -> Cache:
    rows = torch.arange(float(batch_size)).view(-1, 1, 1).expand(-1, 5, 2)
    return Cache(layers=((rows.clone(),), (rows.clone() + 100,)))


def test_mla_keeps_only_the_latent_and_the_rotary_key() -> None:
    cache = Transformer(make_config(MLA)).new_cache(2, 7)
    assert (cache.batch_size, cache.capacity) == (2, 7)
    assert [[tuple(t.shape) for t in layer] for layer in cache.layers] == [[(2, 7, 20)]] * 3
    assert cache.num_bytes == 3 * 2 * 7 * 20 * 4


def test_gqa_keeps_keys_and_values_in_the_dtype_asked_for() -> None:
    config = make_config(GQAConfig(num_key_value_heads=2, head_dim=8))
    cache = allocate(config, 2, 7, device=torch.device("cpu"), dtype=torch.bfloat16)
    assert cache.num_bytes == 3 * 2 * (2 * 7) * (2 * 8) * 2


def test_write_puts_each_rows_values_at_its_own_positions() -> None:
    cache = numbered(2)
    rows, positions = torch.tensor([[0], [1]]), torch.tensor([[0, 1], [3, 4]])
    cache.write(0, rows, positions, torch.full((2, 2, 2), -1.0))
    assert (cache.layers[0][0][..., 0] == -1).int().tolist() == [[1, 1, 0, 0, 0], [0, 0, 0, 1, 1]]
    assert (cache.layers[1][0] >= 100).all()


def test_select_keeps_the_named_rows_and_repeat_sets_copies_side_by_side() -> None:
    kept = numbered(4).select(torch.tensor([3, 1]))
    assert kept.layers[1][0][:, 0, 0].tolist() == [103, 101]
    assert kept.repeat(2).layers[0][0][:, 0, 0].tolist() == [3, 3, 1, 1]


def test_a_copied_row_is_its_own() -> None:
    cache = numbered(2)
    copies = cache.repeat(2)
    copies.write(0, torch.tensor([[0]]), torch.tensor([[0]]), torch.full((1, 1, 2), -1.0))
    assert (cache.layers[0][0] >= 0).all()
    assert (copies.layers[0][0][1] >= 0).all()


def test_tokens_beyond_the_capacity_are_refused() -> None:
    model = Transformer(make_config(MLA))
    with pytest.raises(AssertionError, match="5 positions in a cache for 4"):
        model.forward_cached(torch.zeros(1, 3, dtype=torch.int64), model.new_cache(1, 4), torch.tensor([2]))
