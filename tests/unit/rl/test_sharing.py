"""Completions behind one trunk have the log-probabilities and gradients of rows of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from openbook.engine.types import Completion, FinishReason
from openbook.model.transformer import Transformer
from openbook.rl.batch import PolicyBatch, make_policy_batch
from openbook.rl.logprobs import completion_logprobs
from openbook.rl.sharing import MOST_ROW_TOKENS, cut_shared, plan_rows, row_length, share_prompts

MakeTiny = Callable[..., Transformer]
PROMPTS = ((3, 4, 5, 6, 7), (8,), (9, 10, 11))
LENGTHS = (6, 1, 3, 2, 5)


def completions(vocab_size: int = 40) -> list[Completion]:
    rng = np.random.default_rng(0)
    return [
        Completion(
            prompt_ids=prompt,
            token_ids=tuple(rng.integers(2, vocab_size, length).tolist()),
            logprobs=(-1.0,) * length,
            finish_reason=FinishReason.STOP,
            policy_version=0,
        )
        for prompt in PROMPTS
        for length in LENGTHS
    ]


def both(ones: list[Completion]) -> tuple[PolicyBatch, PolicyBatch]:
    """The batch with a row each, and the same batch with shared prompts."""
    rows = [row for group in cut_shared(ones, 4096) for row in group]
    ordered = [ones[index] for row in rows for index in row]
    own = make_policy_batch([(one, 0.0) for one in ordered], pad_id=0)
    return own, replace(own, shared=share_prompts(ordered, list(map(len, rows)), pad_id=0))


def loss_and_gradients(model: Transformer, batch: PolicyBatch) -> tuple[Tensor, Tensor, list[Tensor]]:
    model.zero_grad(set_to_none=True)
    logprobs, entropy, _ = completion_logprobs(
        model, batch, temperature=0.8, replays=True, entropy_learns=True
    )
    weights = torch.linspace(-1, 1, logprobs.numel()).view_as(logprobs)
    (logprobs * weights + 0.1 * entropy).sum().backward()  # type: ignore[no-untyped-call]
    return (
        logprobs.detach(),
        entropy.detach(),
        [one.grad for one in model.parameters() if one.grad is not None],
    )


@pytest.mark.parametrize("gqa", [False, True], ids=["mla-moe", "gqa"])
def test_sharing_changes_neither_log_probabilities_nor_gradients(gqa: bool, make_tiny: MakeTiny) -> None:
    model = make_tiny(seed=2, gqa=gqa, vocab_size=40)
    own, shared = both(completions())
    first, second = loss_and_gradients(model, own), loss_and_gradients(model, shared)
    torch.testing.assert_close(first[0], second[0], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(first[1], second[1], atol=2e-6, rtol=1e-5)
    assert len(first[2]) == len(second[2])
    for one, other in zip(first[2], second[2], strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
    assert shared.num_tokens < 0.6 * own.num_tokens


def test_given_experts_stand_beside_their_tokens(make_tiny: MakeTiny) -> None:
    model = make_tiny(seed=2, vocab_size=40)
    moe = model.config.moe
    assert moe is not None
    num_layers = sum(map(model.config.is_moe_layer, range(model.config.num_hidden_layers)))
    rng, by_prompt = np.random.default_rng(1), {}
    ones = []
    for one in completions():
        shape = (len(one.prompt_ids) + len(one.token_ids) - 1, num_layers, moe.num_experts_per_tok)
        chosen = np.stack(
            [rng.permutation(moe.n_routed_experts)[: shape[2]] for _ in range(shape[0] * shape[1])]
        )
        chosen = chosen.reshape(shape).astype(np.int16)
        # Of one prompt there is one choice: it was computed once.
        chosen[: len(one.prompt_ids)] = by_prompt.setdefault(one.prompt_ids, chosen[: len(one.prompt_ids)])
        ones.append(replace(one, experts=chosen))
    own, shared = both(ones)
    first, second = loss_and_gradients(model, own), loss_and_gradients(model, shared)
    torch.testing.assert_close(first[0], second[0], atol=2e-6, rtol=1e-5)
    unguided = loss_and_gradients(model, both(completions())[1])
    assert not torch.allclose(second[0], unguided[0], atol=1e-4)


def test_rows_hold_one_prompt_and_every_completion_once() -> None:
    ones = [replace(one, token_ids=one.token_ids * 120, logprobs=()) for one in completions()]
    rows = plan_rows(ones)
    assert sorted(index for row in rows for index in row) == list(range(len(ones)))
    assert len(rows) > len(PROMPTS), "a prompt has as many rows as its completions fill"
    for row in rows:
        assert len({ones[index].prompt_ids for index in row}) == 1
        longest = max(len(ones[index].token_ids) for index in row)
        assert row_length(ones, row) <= MOST_ROW_TOKENS + longest
    alike = [replace(ones[0], token_ids=(7,) * 64)] * 16
    assert [len(row) for row in plan_rows(alike)] == [16]
    assert [len(row) for row in plan_rows([replace(one, token_ids=(7,) * 66) for one in alike])] == [8, 8]
    for batch in cut_shared(ones, 2400):
        assert len(batch) == 1 or len(batch) * max(row_length(ones, row) for row in batch) <= 2400
