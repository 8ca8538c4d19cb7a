"""The same mathematics in two forms gives the same numbers. Models run in fp64 where the forms allow it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from openbook.kernels.attention import attention_of
from openbook.kernels.experts import ExpertWeights, grouped_experts, looped_experts, plan_dispatch
from openbook.model.cache import Cache
from openbook.model.config import GQAConfig, MLAConfig, ModelConfig, MoEConfig, YarnConfig
from openbook.model.init import initialize
from openbook.model.transformer import Transformer

MLA = MLAConfig(q_lora_rank=12, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6)
GQA = GQAConfig(num_key_value_heads=2, head_dim=8, qk_norm=True)
MOE = MoEConfig(
    n_routed_experts=8,
    n_shared_experts=1,
    num_experts_per_tok=2,
    moe_intermediate_size=16,
    n_group=4,
    topk_group=2,
    routed_scaling_factor=2.5,
)
BASE = ModelConfig(
    vocab_size=40,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=32,
    attention=MLA,
    moe=MOE,
)
CONFIGS = {
    "mla-moe": BASE,
    "mla-direct-queries": replace(BASE, attention=replace(MLA, q_lora_rank=None)),
    "mla-wide-values": replace(BASE, attention=replace(MLA, v_head_dim=16)),
    "mla-yarn": replace(BASE, yarn=YarnConfig(factor=4, original_max_position_embeddings=16)),
    "gqa-moe": replace(BASE, attention=GQA),
    "gqa-dense-bias": replace(BASE, attention=replace(GQA, qk_norm=False), moe=None, attention_bias=True),
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def model(request: pytest.FixtureRequest) -> Transformer:
    return make_model(request.param)


def make_model(config: ModelConfig) -> Transformer:
    made = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    initialize(made, replace(config, init_std=0.3), generator)
    for name, tensor in made.state_dict().items():
        if name.endswith(("bias", "norm.weight")):
            tensor += 0.3 * torch.randn(tensor.shape, generator=generator)
    return made.double().requires_grad_(False)


def draw_tokens(*shape: int) -> Tensor:
    return torch.randint(0, 40, shape, generator=torch.Generator().manual_seed(7))


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-9, rtol=1e-9)


def test_token_by_token_with_a_cache_equals_the_whole_row(model: Transformer) -> None:
    tokens, lengths = draw_tokens(3, 9), torch.zeros(3, dtype=torch.int64)
    cache, hidden = model.new_cache(3, 9), []
    for step in range(9):
        hidden.append(model.forward_cached(tokens[:, step : step + 1], cache, lengths + step))
    assert_same(torch.cat(hidden, 1), model(tokens).hidden_BTD)


def test_rows_of_unequal_length_decode_as_if_alone(model: Transformer) -> None:
    tokens, lengths = draw_tokens(3, 12), torch.tensor([2, 7, 4])
    cache = model.new_cache(3, 12)
    model.forward_cached(tokens[:, :7], cache, torch.zeros(3, dtype=torch.int64))
    for step in range(4):
        own = (lengths + step)[:, None]
        hidden = model.forward_cached(tokens.gather(1, own), cache, lengths + step)
        for row in range(3):
            alone = model(tokens[row : row + 1, : int(own[row]) + 1]).hidden_BTD
            assert_same(hidden[row, 0], alone[0, -1])


def test_prefill_in_chunks_equals_prefill_at_once(model: Transformer) -> None:
    tokens, cache, lengths = draw_tokens(2, 11), model.new_cache(2, 16), torch.zeros(2, dtype=torch.int64)
    parts = [(0, 4), (4, 5), (5, 11)]
    hidden = [model.forward_cached(tokens[:, a:b], cache, lengths + a) for a, b in parts]
    assert_same(torch.cat(hidden, 1), model(tokens).hidden_BTD)


def test_several_tokens_at_ragged_places_equal_one_at_a_time(model: Transformer) -> None:
    tokens, lengths = draw_tokens(2, 9), torch.tensor([3, 5])
    cache = model.new_cache(2, 9)
    model.forward_cached(tokens[:, :5], cache, torch.zeros(2, dtype=torch.int64))
    ahead = tokens.gather(1, lengths[:, None] + torch.arange(3))
    hidden = model.forward_cached(ahead, cache, lengths)
    for row, length in enumerate(lengths.tolist()):
        assert_same(hidden[row], model(tokens[row : row + 1, : length + 3]).hidden_BTD[0, length:])


def test_rows_may_share_the_blocks_of_their_prompt(model: Transformer) -> None:
    prompts, following = draw_tokens(2, 16), draw_tokens(6, 1)
    cache = model.new_cache(6, 32)
    model.forward_cached(
        prompts, Cache(pool=cache.pool, tables_Bn=cache.tables_Bn[:2]), torch.zeros(2, dtype=torch.int64)
    )
    tables = cache.tables_Bn.clone()
    tables[:, 0] = cache.tables_Bn[[0, 0, 0, 1, 1, 1], 0]
    shared = Cache(pool=cache.pool, tables_Bn=tables)
    hidden = model.forward_cached(following, shared, torch.full((6,), 16))
    whole = model(torch.cat((prompts.repeat_interleave(3, 0), following), 1)).hidden_BTD
    assert_same(hidden[:, 0], whole[:, -1])


def test_padding_changes_nothing(model: Transformer) -> None:
    tokens, lengths = draw_tokens(3, 10), [10, 4, 7]
    valid = torch.arange(10) < torch.tensor(lengths)[:, None]
    output = model(tokens, valid_BT=valid)
    alone = [model(tokens[row : row + 1, :length]) for row, length in enumerate(lengths)]
    for row, length in enumerate(lengths):
        assert_same(output.hidden_BTD[row, :length], alone[row].hidden_BTD[0])
    assert torch.equal(output.expert_loads_LE, sum(single.expert_loads_LE for single in alone))
    mean_loss = torch.stack([single.balance_loss for single in alone]).mean()
    torch.testing.assert_close(output.balance_loss, mean_loss)


def test_packed_documents_equal_separate_rows(model: Transformer) -> None:
    tokens = draw_tokens(1, 12)
    documents = torch.tensor([[0] * 5 + [1] * 3 + [2] * 4])
    positions = torch.tensor([[*range(5), *range(3), *range(4)]])
    alone = torch.cat([model(tokens[:, a:b]).hidden_BTD for a, b in ((0, 5), (5, 8), (8, 12))], 1)
    restarted = model(tokens, documents_BT=documents, positions_BT=positions).hidden_BTD
    assert_same(restarted, alone)
    # Attention knows distances only, so running positions do no harm beyond the fp32 rounding of the angles.
    running = model(tokens, documents_BT=documents).hidden_BTD
    torch.testing.assert_close(running, alone, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(model(tokens).hidden_BTD[:, 5:], alone[:, 5:], atol=1e-2)


def test_packed_documents_look_ahead_as_separate_rows() -> None:
    model, tokens = make_model(replace(BASE, num_nextn_predict_layers=2)), draw_tokens(1, 10)
    documents = torch.tensor([[0] * 5 + [1] * 5])
    packed = model.mtp_hidden(model(tokens, documents_BT=documents).trunk_BTD, tokens, documents_BT=documents)
    alone = model.mtp_hidden(model(tokens[:, 5:]).trunk_BTD, tokens[:, 5:])
    for hidden, expected in zip(packed, alone, strict=True):
        torch.testing.assert_close(hidden[:, 5:], expected, atol=1e-4, rtol=1e-4)


def test_expanded_and_absorbed_latent_attention_agree() -> None:
    model, tokens = make_model(BASE), draw_tokens(3, 6)
    attention = model.model.layers[0].self_attn
    generator = torch.Generator().manual_seed(3)
    q_BHQ = torch.randn(3, 4, 12, generator=generator, dtype=torch.float64)
    cached_BSK = torch.randn(3, 6, 20, generator=generator, dtype=torch.float64)
    reach_BS = torch.arange(6) < torch.tensor([6, 1, 3])[:, None]
    keys, values = attention._expanded(cached_BSK[..., :16], cached_BSK[..., 16:])
    attended = attention_of(q_BHQ[:, None], keys, values, reach_BS[:, None, None], attention.scale)
    expanded = attention.o_proj(attended.flatten(2))
    assert_same(attention._absorbed(q_BHQ, cached_BSK, reach_BS), expanded[:, 0])
    assert tokens.shape == (3, 6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_looped_and_grouped_experts_agree_in_value_and_gradient(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).mul(0.3).to(dtype).requires_grad_()

    x_MD, shares_M = draw(40, 16), draw(40)
    weights = ExpertWeights(gate_EID=draw(6, 24, 16), up_EID=draw(6, 24, 16), down_EDI=draw(6, 16, 24))
    counts_E = plan_dispatch(torch.randint(0, 5, (20, 2), generator=generator), 6).counts_E
    direction_MD = draw(40, 16).detach()
    results = []
    for run in (looped_experts, grouped_experts):
        inputs = (x_MD, shares_M, weights.gate_EID, weights.up_EID, weights.down_EDI)
        out_MD = run(x_MD, shares_M, weights, counts_E)
        results.append((out_MD, *torch.autograd.grad(out_MD, inputs, direction_MD)))
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    for looped, grouped in zip(*results, strict=True):
        torch.testing.assert_close(looped, grouped, atol=tolerance, rtol=tolerance)
