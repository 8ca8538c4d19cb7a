"""Our engine as a contestant: the tokens asked for, the time when prompts were read, the bytes it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from openbook.bench.ours import Ours, Room, Work, stored_as, weight_bytes
from openbook.model.transformer import Transformer

MakeTiny = Callable[..., Transformer]
PROMPTS = [[20, 21, 22, 23, 24], [30, 31, 32]]


def test_every_sequence_gets_its_tokens_and_prompts_are_read_before(make_tiny: MakeTiny) -> None:
    ours = Ours(make_tiny(gqa=True).eval(), Room(num_rows=6, num_positions=32))
    rows, timing = ours.generate(Work(prompts=PROMPTS, max_new_tokens=7, temperature=1.0, num_generations=3))
    assert [len(row) for row in rows] == [7] * 6
    assert len({tuple(row) for row in rows}) == 6
    assert (timing.num_prompt_tokens, timing.num_new_tokens) == (8, 42)
    assert 6 <= timing.num_first_tokens < 42
    assert 0 < timing.first_seconds < timing.seconds


def test_greedy_tokens_are_those_of_the_full_forward(make_tiny: MakeTiny) -> None:
    model = make_tiny().eval()
    (row,), _ = Ours(model, Room(num_rows=1, num_positions=32)).generate(
        Work(prompts=PROMPTS[:1], max_new_tokens=6)
    )
    tokens = list(PROMPTS[0])
    with torch.no_grad():
        for _ in range(6):
            tokens.append(int(model.logits(model(torch.tensor([tokens])).hidden_BTD)[0, -1].argmax()))
    assert row == tokens[len(PROMPTS[0]) :]


def test_a_stop_token_ends_a_sequence_and_is_counted(make_tiny: MakeTiny) -> None:
    model, room = make_tiny(gqa=True).eval(), Room(num_rows=1, num_positions=64)
    (free,), _ = Ours(model, room).generate(Work(prompts=PROMPTS[:1], max_new_tokens=20))
    (row,), timing = Ours(model, room, stop_token_ids=(free[0],)).generate(
        Work(prompts=PROMPTS[:1], max_new_tokens=20)
    )
    assert row == free[:1] and timing.num_new_tokens == 1


@pytest.mark.parametrize(("weights", "bits"), [("fp32", 32), ("bf16", 16), ("int8", 8), ("int4", 5)])
def test_a_token_reads_each_matrix_once_in_its_format(make_tiny: MakeTiny, weights: Any, bits: int) -> None:
    model = make_tiny(gqa=True, hidden_size=64, intermediate_size=96, vocab_size=640).eval()
    matrices = sum(one.numel() for one in model.parameters() if one.ndim == 2) - 640 * 64  # not the embedding
    num_bytes = weight_bytes(model, weights)
    assert matrices * bits / 8 <= num_bytes < matrices * bits / 8 * 1.15
    stored = stored_as(model, weights)
    assert stored is not model and model.model.norm.weight.dtype == torch.float32
    assert stored.model.norm.weight.dtype == (torch.float32 if weights == "fp32" else torch.bfloat16)


def test_only_the_chosen_experts_are_read_and_no_mtp_module(make_tiny: MakeTiny) -> None:
    model = make_tiny().eval()
    experts = sum(one.numel() for name, one in model.model.named_parameters() if ".experts." in name)
    others = sum(
        one.numel()
        for name, one in model.named_parameters()
        if ".experts." not in name and not name.startswith(("mtp.", "model.embed_tokens"))
    )
    one_row = model.config.hidden_size
    assert weight_bytes(model, "fp32") == 4 * (experts // 2 + others + one_row)
