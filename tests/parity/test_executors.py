"""What computes a step: the native program and the modules give the logits of the whole forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from openbook.engine.choose import make_executor
from openbook.engine.config import EngineConfig
from openbook.engine.executor import Executor, StepBatch
from openbook.kernels.native import Missing, load_native
from openbook.model.config import GQAConfig, MLAConfig, ModelConfig, MoEConfig, YarnConfig
from openbook.model.init import initialize
from openbook.model.transformer import Transformer

Decode = Literal["native", "torch"]

MLA = MLAConfig(q_lora_rank=12, kv_lora_rank=20, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6)
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
V2 = replace(MOE, scoring_func="softmax", topk_method="group_limited_greedy", norm_topk_prob=False)
BASE = ModelConfig(
    vocab_size=41,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=36,
    attention=MLA,
    moe=MOE,
    max_position_embeddings=128,
)
CONFIGS = {
    "V3": BASE,
    "V2": replace(BASE, moe=replace(V2, first_k_dense_replace=0, n_shared_experts=2)),
    "experts without groups or shared ones": replace(
        BASE, moe=replace(V2, topk_method="greedy", n_group=1, topk_group=1, n_shared_experts=0)
    ),
    "direct queries": replace(BASE, attention=replace(MLA, q_lora_rank=None), attention_bias=True),
    "a large latent": replace(BASE, attention=replace(MLA, kv_lora_rank=70, v_head_dim=16)),
    "many heads": replace(BASE, num_attention_heads=11),
    "yarn": replace(BASE, yarn=YarnConfig(factor=4, original_max_position_embeddings=16)),
    "Qwen3": replace(BASE, attention=GQA, moe=None, tie_word_embeddings=True),
    "Qwen2": replace(BASE, attention=replace(GQA, qk_norm=False), moe=None, attention_bias=True),
    "Llama, one key for all": replace(
        BASE, attention=GQAConfig(num_key_value_heads=1, head_dim=10), num_attention_heads=9, moe=None
    ),
    "grouped queries and experts": replace(BASE, attention=GQA),
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def model(request: pytest.FixtureRequest) -> Transformer:
    config: ModelConfig = request.param
    made, generator = Transformer(config), torch.Generator().manual_seed(0)
    initialize(made, replace(config, init_std=0.3), generator)
    for name, tensor in made.state_dict().items():
        if name.endswith(("bias", "norm.weight")):
            tensor += 0.3 * torch.randn(tensor.shape, generator=generator)
    return made.requires_grad_(False)


@pytest.fixture(params=["native", "torch"])
def decode(request: pytest.FixtureRequest) -> Decode:
    found = load_native()
    if request.param == "native" and isinstance(found, Missing):
        pytest.skip(found.reason)
    choice: Decode = request.param
    return choice


def executor_of(model: Transformer, decode: Decode, *, deterministic: bool = False) -> Executor:
    config = EngineConfig(
        decode=decode, num_blocks=40, max_running=8, max_tokens_per_step=90, deterministic=deterministic
    )
    return make_executor(model, config)


def draw_sequences(count: int, length: int) -> Tensor:
    return torch.randint(0, 41, (count, length), generator=torch.Generator().manual_seed(7))


def step(parts: Sequence[tuple[int, int, int]], ids: Tensor, tables: np.ndarray) -> StepBatch:
    """The tokens [start, stop) of each sequence of `parts`; all rows are sampled from."""
    rows = [(sequence, position) for sequence, start, stop in parts for position in range(start, stop)]
    order = [sequence for sequence, _, _ in parts]
    return StepBatch(
        tokens_R=np.array([int(ids[row]) for row in rows], np.int32),
        positions_R=np.array([position for _, position in rows], np.int32),
        sequences_R=np.array([order.index(sequence) for sequence, _ in rows], np.int32),
        tables_Sn=tables[order],
        sampled_M=np.arange(len(rows)),
    )


STEPS = (
    [(0, 0, 40), (1, 0, 3)],
    [(1, 3, 4), (0, 40, 41), (2, 0, 17)],
    [(2, 17, 40), (0, 41, 43), (1, 4, 5), (3, 0, 1)],
    [(0, 43, 44), (1, 5, 6), (2, 40, 41), (3, 1, 2)],
    [(3, 2, 44), (1, 6, 44)],
    [(2, 41, 44)],
)
"""Prompts whole and in chunks, single tokens, and short rows beside long ones, in any order."""


@pytest.mark.parametrize("deterministic", [False, True], ids=["fast", "exact"])
def test_every_step_gives_the_logits_of_the_whole_forward_pass(
    model: Transformer, decode: Decode, deterministic: bool
) -> None:
    ids = draw_sequences(4, 44)
    expected = model.logits(model(ids).hidden_BTD)
    executor = executor_of(model, decode, deterministic=deterministic)
    blocks = np.random.default_rng(1).permutation(40)[:12].reshape(4, 3).astype(np.int32)
    for parts in STEPS:
        found = executor.forward(step(parts, ids, blocks))
        wanted = torch.cat([expected[sequence, start:stop] for sequence, start, stop in parts])
        torch.testing.assert_close(found, wanted, atol=3e-5, rtol=1e-4)


def test_only_the_rows_asked_for_have_logits(model: Transformer, decode: Decode) -> None:
    ids = draw_sequences(2, 20)
    executor = executor_of(model, decode)
    tables = np.arange(8, dtype=np.int32).reshape(2, 4)
    batch = step([(0, 0, 20), (1, 0, 7)], ids, tables)
    every = executor.forward(batch).clone()
    some = executor.forward(replace(batch, sampled_M=np.array([19, 26])))
    torch.testing.assert_close(some, every[[19, 26]], atol=1e-6, rtol=1e-6)
    assert executor.forward(replace(batch, sampled_M=np.array([], np.int64))).shape[0] == 0


def test_the_native_program_takes_up_new_weights_when_it_is_told(decode: Decode) -> None:
    config = CONFIGS["V3"]
    first, second = Transformer(config), Transformer(config)
    for seed, made in enumerate((first, second)):
        initialize(made, replace(config, init_std=0.3), torch.Generator().manual_seed(seed))
        made.requires_grad_(False)
    executor, ids = executor_of(first, decode), draw_sequences(1, 9)
    batch = step([(0, 0, 9)], ids, np.array([[5]], np.int32))
    before = executor.forward(batch).clone()
    first.load_state_dict(second.state_dict())
    executor.refresh()
    after = executor.forward(batch)
    torch.testing.assert_close(after, first.logits(first(ids).hidden_BTD)[0], atol=3e-5, rtol=1e-4)
    assert not torch.allclose(before, after, atol=0.1)


@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
def test_in_bf16_the_native_program_is_as_near_as_the_modules(model: Transformer, exact: bool) -> None:
    if isinstance(load_native(), Missing):
        pytest.skip("no native kernels")
    ids = draw_sequences(1, 44)
    true = model.logits(model(ids).hidden_BTD)[0]
    halved = Transformer(model.config)
    halved.load_state_dict(model.state_dict())
    halved.to(torch.bfloat16).requires_grad_(False)
    batch = step([(0, 0, 44)], ids, np.array([[3, 1, 2]], np.int32))
    executor = executor_of(halved, "native", deterministic=exact)
    assert "bf16" in executor.name or "bfloat16" in executor.name
    modules = halved.logits(halved(ids).hidden_BTD)[0].float()
    distances = [
        float((one - true).square().mean().sqrt() / true.square().mean().sqrt())
        for one in (executor.forward(batch), modules)
    ]
    assert distances[0] < 2 * distances[1] + 0.01, "a near tie that goes to another expert costs some"
    assert distances[1] < 0.25
