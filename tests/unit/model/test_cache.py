from __future__ import annotations

import pytest
import torch

from openbook.model.cache import BLOCK_SIZE, Cache, CachePool, allocate, allocate_pool
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


def blank(num_blocks: int, width: int, num_layers: int = 2) -> CachePool:
    layers = tuple((torch.zeros(num_blocks, width, BLOCK_SIZE),) for _ in range(num_layers))
    return CachePool(layers=layers, experts_nsLK=torch.zeros(num_blocks, BLOCK_SIZE, 1, 2, dtype=torch.int16))


def test_mla_keeps_only_the_latent_and_the_rotary_key() -> None:
    cache = Transformer(make_config(MLA)).new_cache(2, 20)
    assert cache.capacity == 32
    assert [[tuple(t.shape) for t in layer] for layer in cache.pool.layers] == [[(4, 20, 16)]] * 3
    assert cache.pool.num_bytes == 3 * 2 * 32 * 20 * 4


def test_gqa_keeps_keys_and_values_in_the_dtype_asked_for() -> None:
    config = make_config(GQAConfig(num_key_value_heads=2, head_dim=8))
    cache = allocate(config, 2, 16, device=torch.device("cpu"), dtype=torch.bfloat16)
    assert cache.pool.num_bytes == 3 * 2 * (2 * 16) * (2 * 8) * 2


def test_a_pool_has_as_many_layers_as_asked_for() -> None:
    pool = allocate_pool(make_config(MLA), 5, device=torch.device("cpu"), dtype=torch.float32, num_layers=4)
    assert (len(pool.layers), pool.num_blocks) == (4, 5)


def test_what_a_row_writes_it_reads_back_through_its_own_blocks() -> None:
    cache = Cache(pool=blank(5, 3), tables_Bn=torch.tensor([[4, 0], [2, 3]]))
    positions = torch.tensor([[15, 16], [0, 17]])
    values = torch.arange(12.0).view(2, 2, 3) + 1
    cache.write(1, positions, values)
    read = cache.read(1, 18)[0]
    assert read.shape == (2, 18, 3)
    for row in range(2):
        assert torch.equal(read[row, positions[row]], values[row])
    assert int((read != 0).any(-1).sum()) == 4
    assert not cache.read(0, 18)[0].any()
    assert torch.equal(cache.pool.layers[1][0][4, :, 15], values[0, 0])


def test_a_copied_block_is_its_own() -> None:
    pool = blank(4, 2)
    for layer in pool.layers:
        layer[0][1] = 7.0
    pool.copy_blocks([1, 1], [0, 3])
    pool.layers[0][0][3] = 1.0
    assert (pool.layers[0][0][0] == 7).all() and (pool.layers[0][0][1] == 7).all()
    assert (pool.layers[1][0][3] == 7).all() and not pool.layers[1][0][2].any()
    pool.copy_blocks([], [])


def test_tokens_beyond_the_capacity_are_refused() -> None:
    model = Transformer(make_config(MLA))
    with pytest.raises(AssertionError, match="17 positions in a cache for 16"):
        model.forward_cached(torch.zeros(1, 3, dtype=torch.int64), model.new_cache(1, 4), torch.tensor([14]))
