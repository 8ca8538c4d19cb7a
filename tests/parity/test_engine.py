"""Sampling with a cache and scoring whole rows: same mathematics, same tokens, same log-probabilities."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from openbook.engine.engine import Engine
from openbook.engine.types import Completion, FinishReason, SamplingParams
from openbook.model.transformer import Transformer
from openbook.rl.batch import make_policy_batch
from openbook.rl.logprobs import completion_logprobs

STOPS = (1, 2, 3)
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15], [39, 38, 37, 36, 35, 34, 33, 32, 31, 30, 29]]


@pytest.fixture(params=[False, True], ids=["mla-moe", "gqa"])
def model(request: pytest.FixtureRequest, make_tiny: Callable[..., Transformer]) -> Transformer:
    return make_tiny(seed=4, gqa=request.param, vocab_size=40, init_std=0.3)


def sample_from(
    model: Transformer, params: SamplingParams, *, stops: tuple[int, ...] = STOPS, num_generations: int = 1
) -> list[Completion]:
    engine = Engine(model, stop_token_ids=stops)
    generation = engine.generate(PROMPTS, params, num_generations=num_generations, seed=11)
    return [one for group in generation.completions for one in group]


@torch.no_grad()
def most_likely(model: Transformer, prompt: list[int], num_tokens: int) -> list[int]:
    """Greedy decoding the slow way: the whole row anew for every token."""
    ids = list(prompt)
    for _ in range(num_tokens):
        ids.append(int(model.logits(model(torch.tensor([ids])).hidden_BTD[0, -1]).argmax()))
    return ids[len(prompt) :]


def test_greedy_decoding_of_ragged_prompts_takes_the_argmax_of_the_whole_row(model: Transformer) -> None:
    completions = sample_from(model, SamplingParams(max_tokens=16, temperature=0.0), stops=())
    found = [list(one.token_ids) for one in completions]
    assert found == [most_likely(model, prompt, 16) for prompt in PROMPTS]
    assert len({tuple(row) for row in found}) == len(PROMPTS)
    assert any(len(set(row)) > 4 for row in found), "a model that repeats itself would hide a mistake"


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_sampler_and_the_trainer_agree_on_every_log_probability(
    model: Transformer, temperature: float
) -> None:
    params = SamplingParams(max_tokens=24, temperature=temperature)
    completions = sample_from(model, params, num_generations=3)
    assert {one.finish_reason for one in completions} == {FinishReason.STOP, FinishReason.LENGTH}, (
        "rows should end at different times"
    )
    batch = make_policy_batch([(one, 0.0) for one in completions], pad_id=0)
    with torch.no_grad():
        scored, entropy, _ = completion_logprobs(model, batch, temperature=temperature)
    torch.testing.assert_close(scored, batch.old_logprobs_BT, atol=1e-5, rtol=0)
    assert (scored[batch.mask_BT.bool()] < 0).all()
    assert (scored[~batch.mask_BT.bool()] == 0).all() and (entropy[~batch.mask_BT.bool()] == 0).all()


def test_the_entropy_is_that_of_the_distribution_sampled_from(model: Transformer) -> None:
    one = sample_from(model, SamplingParams(max_tokens=5, temperature=0.7))[0]
    batch = make_policy_batch([(one, 0.0)], pad_id=0)
    with torch.no_grad():
        _, entropy, _ = completion_logprobs(model, batch, temperature=0.7)
        hidden = model(torch.tensor([[*one.prompt_ids, *one.token_ids][:-1]])).hidden_BTD[0]
        probabilities = torch.softmax(model.logits(hidden) / 0.7, -1)
    by_hand = -(probabilities * probabilities.log()).sum(-1)
    start = len(one.prompt_ids) - 1
    torch.testing.assert_close(entropy[0, start:], by_hand[start:], atol=1e-5, rtol=1e-5)
